"""Case files (`*.cases.yaml`) and facts files: questions to a contract set, with the answers expected.

Called by `orchestrator contracts test` and `explain`. A case file holds one contract set, inline or as a
path relative to itself, and cases; a facts file is the `facts` of a case.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import UNSET, UnsetType
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from orchestrator.model.case import Case, Facts, PastRefusal
from orchestrator.model.contract import Classification, Trigger
from orchestrator.model.documents.base import Document, load_data, load_text
from orchestrator.model.documents.compiling import moment_us
from orchestrator.model.documents.errors import Problem
from orchestrator.model.documents.job import Elastic, count_kind
from orchestrator.model.documents.text import plain
from orchestrator.model.documents.units import Duration, Flag, Integer, Number, Percent, Price, Text, Word, refuse
from orchestrator.model.offer import Reason
from orchestrator.model.placement import HOUR_MS, How, Shape

_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|z|[+-]\d{2}:\d{2}))?", re.ASCII)
_FIRST_US, _END_US = (moment_us(datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 9999))
"""What can be shown as a date, wherever, with a day to spare: a last day ends with the next one."""


def moment(value: Any) -> Any:
    """`2025-06-01T12:00:00Z` or a day (its midnight UTC) -> microseconds UTC."""
    found = value if type(value) is int else _moment_us(value)
    if not _FIRST_US <= found < _END_US:
        raise refuse("moment", "it is before the year 1 or after 9998", "Write 2025-06-01T12:00:00Z")
    return found


def _moment_us(value: Any) -> int:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise refuse("moment", "it is no moment with a zone", "Write 2025-06-01T12:00:00Z")
    try:
        found = datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise refuse("moment", "there is no such moment", "Write 2025-06-01T12:00:00Z") from error
    return moment_us(found if found.tzinfo else found.replace(tzinfo=UTC))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Moment = Annotated[int, BeforeValidator(moment)]
OneOrMore = Annotated[tuple[Word, ...], BeforeValidator(_listed)]


Some = Annotated[Integer, Field(ge=0)]
Count = Annotated[Annotated[Some, Tag("fixed")] | Annotated[Elastic, Tag("range")], Discriminator(count_kind)]


class CaseJob(Document):
    """The job in question."""

    job_class: Word = Field(default="training", alias="class")
    gpus: Count = 0  # a range: an elastic job, whoever accepts says how many
    whole_gpus: Annotated[Integer, Field(gt=1)] | None = None  # it is (a part of) a divisible job of so many
    hours: Number | None = None  # maxRuntime; None: 24
    accelerator: OneOrMore = ()
    classification: Classification = Classification.CLAIMED
    residency: Word | None = None
    labels: dict[Word, Text] = Field(default_factory=dict)
    evidence: tuple[Word, ...] = ()
    ceiling_usd_per_gpu_hour: Price | None = None
    project: Word = "default"
    priority: Integer = 0

    @model_validator(mode="after")
    def _part_of_a_whole(self) -> CaseJob:
        if self.whole_gpus is not None and not (isinstance(self.gpus, int) and 0 < self.gpus <= self.whole_gpus):
            raise refuse(
                "whole", "a part has some of the GPUs of its whole, and no range", "Let gpus be 1 to wholeGpus"
            )
        return self


class RefusalFact(Document):
    """A past no of a provider to this job; what is not given of its terms was as it is now."""

    provider: Word
    how: How = How.DECLINED
    ago: Duration
    price_usd_per_gpu_hour: Price | None = None
    gpus: Annotated[Integer, Field(gt=0)] | None = None
    accelerator: OneOrMore | None = None
    regions: OneOrMore | None = None
    same_episode: Flag = True
    reason: Reason | None = None


class FactsDocument(Document):
    """All optional; what is not given is unknown or empty."""

    down_for: dict[Word, Duration] = Field(default_factory=dict)
    prices: dict[Word, Price] = Field(default_factory=dict)
    events: dict[Word, tuple[Word, ...]] = Field(default_factory=dict)
    consents: tuple[Word, ...] = ()
    refusals: tuple[RefusalFact, ...] = ()
    exempt_gpu_hours: dict[Word, Number] = Field(default_factory=dict)
    share_pct: dict[Word, Percent] = Field(default_factory=dict)
    burned: dict[Text, Number] = Field(default_factory=dict)

    def facts(self, evidence: tuple[str, ...] = ()) -> Facts:
        """As decisions read them."""
        return Facts(
            down_us={name: ms * 1_000 for name, ms in self.down_for.items()},
            prices=self.prices,
            refusals=tuple(_refusal(no) for no in self.refusals),
            events=self.events,
            consents=frozenset(self.consents),
            exempt_ms={name: int(hours * HOUR_MS) for name, hours in self.exempt_gpu_hours.items()},
            shares=frozenset(self.share_pct),
            burned=frozenset(self.burned),
            evidence=frozenset(evidence),
        )


class ExpectedGate(Document):
    """A gate; only the keys given are compared."""

    clause: Text | None = None
    holder: Word | None = None
    window: Duration | None = None


class ExpectedRefusal(Document):
    """The set does not load: where, and (part of) why."""

    path: Text
    reason: Text


class Expectation(Document):
    """Only the keys given are compared; an empty map or list means none."""

    held: Text | None = None
    only: Word | None = None
    gates: tuple[ExpectedGate, ...] | None = None
    market: tuple[Word, ...] | None = None
    regions: dict[Word, tuple[Word, ...]] | None = None
    excluded: dict[Word, Text] | None = None
    exempt: dict[Text, Text] | None = None
    exemption_refused: dict[Text, Text] | None = None
    released: dict[Text, Text] | None = None
    not_applicable: tuple[Text, ...] | None = None
    may_know: tuple[Word, ...] | None = None
    warnings: tuple[Text, ...] | None = None
    refused_at_load: ExpectedRefusal | None = None

    def plain(self) -> dict[str, Any]:
        """The keys given, in the words of `core.cases.answer`; unordered lists sorted."""
        found: dict[str, Any] = self.model_dump(by_alias=True, exclude_unset=True, exclude={"refused_at_load"})
        found = {key: _lists(value) for key, value in found.items() if value is not None or key in ("held", "only")}
        for key in found.keys() & {"notApplicable", "mayKnow", "warnings"}:
            found[key] = sorted(found[key])
        if "regions" in found:
            found["regions"] = {name: sorted(regions) for name, regions in found["regions"].items()}
        for gate in found.get("gates", ()):
            if gate.get("window") is not None:
                gate["window"] *= 1_000
        return found


class CaseDocument(Document):
    """One question and the answer expected."""

    case: Text
    at: Moment
    trigger: Trigger = Trigger.NEW
    job: CaseJob = CaseJob()
    facts: FactsDocument = FactsDocument()
    expect: Expectation


class CaseFile(Document):
    """A contract set and questions to it."""

    contracts: Any
    cases: Annotated[tuple[CaseDocument, ...], Field(min_length=1)]


def load_cases(text: str | bytes) -> tuple[Any, list[Case]]:
    """The contract set as written (plain values, or a path), and the cases. `DocumentError` with every
    problem of the cases; the set is not looked at."""
    data, problems = plain(text)
    inside = [p for p in problems if not p.path.startswith("contracts")]
    found = load_data(CaseFile, data, inside)
    return found.contracts, [_case(case) for case in found.cases]


def load_facts(text: str | bytes) -> Facts:
    """A facts file; `DocumentError` with every problem."""
    return load_text(FactsDocument, text).facts()


def strangers_in_facts(facts: Facts, known: Collection[str], at: str = "") -> list[Problem]:
    """Names in facts that no provider has: they would decide nothing, unnoticed."""
    named = [(f"{at}prices", facts.prices), (f"{at}downFor", facts.down_us), (f"{at}consents", sorted(facts.consents))]
    refused = [(f"{at}refusals", [no.provider for no in facts.refusals])]
    return _strangers([*named, *refused], known)


def strangers(case: Case, known: Collection[str], at: str) -> list[Problem]:
    """The same of a whole case, whose expectations name providers too."""
    lists = ("market", "regions", "excluded", "mayKnow")
    named = [(f"{at}.expect.{key}", case.expect.get(key) or ()) for key in lists]
    gates = [gate["holder"] for gate in case.expect.get("gates") or () if gate.get("holder")]
    only = [name] if (name := case.expect.get("only")) else []
    named += [(f"{at}.expect.gates", gates), (f"{at}.expect.only", only)]
    return strangers_in_facts(case.facts, known, f"{at}.facts.") + _strangers(named, known)


def _strangers(named: Iterable[tuple[str, Iterable[str]]], known: Collection[str]) -> list[Problem]:
    remedy = f"Name one of {', '.join(known)}"
    return [
        Problem(path, f"{name} is no known provider", remedy, "unknown_provider")
        for path, names in named
        for name in names
        if name not in known
    ]


def _case(case: CaseDocument) -> Case:
    refused = case.expect.refused_at_load
    return Case(
        name=case.case,
        at_us=case.at,
        shape=_shape(case.job, case.trigger),
        facts=case.facts.facts(case.job.evidence),
        expect=case.expect.plain(),
        refused_at_load=(refused.path, refused.reason) if refused else None,
    )


def _shape(job: CaseJob, trigger: Trigger) -> Shape:
    workers, least = _sizes(job)
    return Shape(
        job_class=job.job_class,
        accelerators=job.accelerator,
        gpus_per_worker=1 if workers else 0,
        workers=workers or 1,
        min_workers=least,
        pieces=UNSET if job.whole_gpus is None else job.whole_gpus,
        cpus=1,
        memory=0,
        max_runtime_ms=int((24 if job.hours is None else job.hours) * HOUR_MS),
        unsettled="" if job.classification is Classification.CLAIMED else job.classification.value,
        residency=job.residency,
        ceiling_microusd=job.ceiling_usd_per_gpu_hour,
        project=job.project,
        priority=job.priority,
        trigger=trigger,
        labels=tuple(sorted(job.labels.items())),
    )


def _sizes(job: CaseJob) -> tuple[int, int | UnsetType]:
    """How many GPUs, each a worker's, and the least of them that somebody may take; unset: all."""
    if isinstance(job.gpus, Elastic):
        return job.gpus.max, job.gpus.min
    return job.gpus, 1 if job.whole_gpus is not None and job.gpus > 1 else UNSET


def _refusal(no: RefusalFact) -> PastRefusal:
    return PastRefusal(
        provider=no.provider,
        how=no.how,
        ago_us=no.ago * 1_000,
        ceiling_microusd=no.price_usd_per_gpu_hour,
        gpus=no.gpus,
        accelerators=no.accelerator,
        regions=no.regions,
        same_episode=no.same_episode,
        reason=no.reason or "",
    )


def _lists(value: Any) -> Any:
    match value:
        case tuple() | list():
            return [_lists(item) for item in value]
        case dict():
            return {key: _lists(item) for key, item in value.items()}
    return value
