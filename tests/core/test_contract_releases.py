"""What frees a clause, and what does not: tables over small sets."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.core.eligibility import compile_rules
from orchestrator.core.known import Known, in_records, reaches
from orchestrator.core.ranking import covers, order
from orchestrator.core.recording import MOST_WAIVERS, to_record
from orchestrator.model.placement import How, Refused, Rules
from orchestrator.model.record import Record
from tests.core.contract_worlds import HOUR, NOON, contract, shape, world

ALONE = "type: exclusive, release: [consent, holder_outage], outageAfter: 4h"
RIGHT = "type: first_right, window: 15m"


def rules_of(
    clause: str, *records: Record, name: str = "c", job: dict[str, object] | None = None, **known: object
) -> Rules:
    agreed, providers = world(contract(clause, name=name))
    asked = shape(**(job or {}))
    counting, next_us = in_records(records, asked, NOON)
    return compile_rules(agreed, providers, asked, NOON, Known(records=counting, next_us=next_us, **known))


def record(what: str, **more: object) -> Record:
    return Record(id="r", what=what, **more)  # type: ignore[arg-type]


CONSENTS = [
    (record("consent", holder="azure"), True),
    (record("consent", holder="oracle"), False),
    (record("consent", holder="azure", clause="c/k"), True),
    (record("consent", holder="azure", clause="c"), True),
    (record("consent", holder="azure", clause="c/other"), False),
    (record("consent", holder="azure", clause="other"), False),
    (record("consent", holder="azure", project="default"), True),
    (record("consent", holder="azure", project="vision"), False),
    (record("consent", holder="azure", classes=("training",)), True),
    (record("consent", holder="azure", classes=("api",)), False),
    (record("consent", holder="azure", job="J"), False),
    (record("consent", holder="azure", until=NOON + 1), True),
    (record("consent", holder="azure", until=NOON), False),
    (record("waiver", holder="azure"), False),
    (record("override", clause="c/k"), True),
    (record("override"), False),
]


@pytest.mark.parametrize(
    ("said", "free"), CONSENTS, ids=lambda value: str(value) if isinstance(value, bool) else value.what
)
def test_a_record_frees_only_whom_it_is_about(said: Record, free: bool) -> None:
    rules = rules_of(ALONE, said)
    assert (rules.only is None) is free
    assert [c.provider for c in rules.candidates] == (["azure", "oracle"] if free else ["azure"])


def test_a_record_about_one_job_is_in_its_shape() -> None:
    said = record("consent", holder="azure", job="J")
    assert rules_of(ALONE, said, job={"records": ("r",)}).only is None


@pytest.mark.parametrize(("hours", "free"), [(0, False), (3, False), (4, True), (9, True)])
def test_an_outage_must_last_and_the_answer_expires_when_it_has(hours: int, free: bool) -> None:
    rules = rules_of(ALONE, down_us={"azure": hours * HOUR})
    assert (rules.only is None) is free
    assert free or rules.expires_us == NOON + (4 - hours) * HOUR


def test_without_the_release_no_outage_frees() -> None:
    rules = rules_of("type: exclusive, release: [consent]", down_us={"azure": 99 * HOUR})
    assert (rules.only, [(x.provider, x.reason.value) for x in rules.excluded]) == ("azure", [("oracle", "exclusive")])


def test_a_holder_that_has_nothing_of_the_kind_is_unmet_capacity_and_not_unlawful() -> None:
    job = {"accelerators": ("B300",)}
    for release, free in (("unmet_capacity", True), ("unlawful_for_holder", False)):
        rules = rules_of(f"type: exclusive, release: [{release}]", job=job)
        assert bool(rules.freed) is free


EXEMPT = "exempt: [{id: x, because: BECAUSE}]"


@pytest.mark.parametrize(
    ("because", "records", "known", "why"),
    [
        ("below_threshold", [], {}, None),
        ("below_threshold", [], {"spent": frozenset({"c/k/x"})}, "exempt_total"),
        ("research", [], {}, "evidence"),
        ("research", [record("evidence", name="y")], {}, "evidence"),
        ("research", [record("evidence", name="x")], {}, None),
        ("research, evidence: [p, q]", [record("evidence", name="p")], {}, "evidence"),
        ("research, evidence: [p]", [record("evidence", name="p")], {}, None),
        ("holder_outage", [], {}, "no_outage"),
        ("holder_outage", [], {"down_us": {"azure": HOUR}}, None),
        ("consent", [], {}, "no_consent"),
        ("consent", [record("consent", holder="azure")], {}, None),
        ("unlawful_for_holder", [], {}, "still_lawful"),
    ],
)
def test_an_exemption_frees_on_its_grounds_or_says_what_is_missing(
    because: str, records: list[Record], known: dict[str, object], why: str | None
) -> None:
    rules = rules_of(f"{RIGHT}, {EXEMPT.replace('BECAUSE', because)}", *records, **known)
    assert [no.why for no in rules.not_exempt] == ([why] if why else [])
    assert [free.exemption for free in rules.freed] == ([] if why else ["x"])
    assert bool(rules.gates) is bool(why)


def test_an_exemption_frees_from_an_exclusive_too() -> None:
    assert rules_of(f"type: exclusive, {EXEMPT.replace('BECAUSE', 'below_threshold')}").only is None


@pytest.mark.parametrize(("gpus", "until", "gated"), [(8, NOON + 1, False), (7, NOON + 1, True), (8, NOON, True)])
def test_a_waiver_holds_within_its_bounds_and_its_holder_comes_last(gpus: int, until: int, gated: bool) -> None:
    rules = rules_of(RIGHT, record("waiver", holder="azure", gpus=gpus, until=until))
    placement = order(rules, {}, (), NOON)
    assert bool(placement.gates) is gated
    assert (placement.market, placement.refused) == ((("azure", "oracle"), ()) if gated else (("oracle",), ("azure",)))


@pytest.mark.parametrize(
    ("tolerance", "now", "covered"),
    [
        ("priceUpPct: 2.5", {"ceiling_microusd": 1_025_000}, True),
        ("priceUpPct: 2.5", {"ceiling_microusd": 1_025_001}, False),
        ("priceUpPct: 2.5", {"ceiling_microusd": None}, False),
        ("startLater: 1h", {"start_by_ms": 7_200_000}, True),
        ("startLater: 1h", {"start_by_ms": 7_200_001}, False),
        ("startLater: 1h", {"ceiling_microusd": 1_000_001}, False),
        ("smaller: 0", {"workers": 7}, False),
        ("smaller: 2", {"workers": 7}, True),
        ("smaller: 2", {"workers": 6, "min_workers": 5}, False),
        ("smaller: 3", {"workers": 9, "min_workers": 6}, False),
        ("smaller: 4", {"workers": 9, "min_workers": 6}, True),
        ("smaller: 99", {"workers": 1, "max_runtime_ms": 359_999_999}, False),
        ("smaller: 99", {"cpus": 7}, False),
        ("looserSpec: 0", {"cpus": 7}, False),
        ("looserSpec: 1", {"cpus": 0}, True),
        ("looserSpec: 1", {"cpus": 7, "memory": 0}, False),
        ("looserSpec: 2", {"cpus": 7, "memory": 0}, True),
        ("looserSpec: 2", {"cpus": 7, "memory": 0, "spot": True}, False),
        ("looserSpec: 1", {"spot": True, "cpus": 9, "memory": 2**31}, True),
        ("looserSpec: 1", {"accelerators": ()}, True),
        ("looserSpec: 1", {"accelerators": (), "regions": ("eastus", "swedencentral", "x")}, False),
        ("looserSpec: 1", {"regions": ("eastus", "swedencentral", "x")}, True),
        ("looserSpec: 1", {"gpus_per_worker": 1}, False),
        ("looserSpec: 1, smaller: 8", {"gpus_per_worker": 1}, True),
        ("looserSpec: 1, smaller: 7", {"gpus_per_worker": 1}, False),
        ("looserSpec: 99", {"residency": None}, False),
        ("looserSpec: 99", {"residency": "eu-sovereign"}, False),
    ],
)
def test_a_refusal_covers_terms_within_the_tolerances_of_its_clause(
    tolerance: str, now: dict[str, Any], covered: bool
) -> None:
    job = {
        "ceiling_microusd": 1_000_000, "start_by_ms": 3_600_000, "residency": "eu", "gpus_per_worker": 2, "workers": 8
    }  # fmt: skip
    gate = rules_of(f"{RIGHT}, reofferIf: {{{tolerance}}}", job=job).gates[0]
    past = Refused(
        provider="azure", clause="c/k", at_us=NOON, how=How.DECLINED, episode=1, terms_hash=gate.terms_hash,
        terms=gate.terms,
    )  # fmt: skip
    asked = replace(gate, terms=replace(gate.terms, **now), terms_hash="other")
    assert covers(past, asked, NOON, 1) is covered


@pytest.mark.parametrize(("workers", "covered"), [(2, True), (1, False)])
def test_of_a_job_without_gpus_no_fewer_workers_are_covered(workers: int, covered: bool) -> None:
    clause = f"{RIGHT}, reofferIf: {{smaller: 9}}"
    then, now = (
        rules_of(clause, job={"accelerators": (), "gpus_per_worker": 0, "workers": n}).gates[0] for n in (2, workers)
    )
    past = Refused(
        provider="azure", clause="c/k", at_us=NOON, how=How.DECLINED, episode=1, terms_hash="other", terms=then.terms
    )
    assert covers(past, now, NOON, 1) is covered


WAIVER = record("waiver", holder="zeus", clause="c/right", classes=("api",), gpus=8, until=100, by="zeus")


@pytest.mark.parametrize(("more", "wider"), [
    ({}, True), ({"until": 101}, True), ({"until": 99}, False), ({"until": None}, True), ({"gpus": 9}, True),
    ({"gpus": 7}, False), ({"gpus": None}, True), ({"classes": ()}, True), ({"classes": ("api", "x")}, True),
    ({"classes": ("x",)}, False), ({"clause": ""}, True), ({"clause": "c"}, True), ({"clause": "c/other"}, False),
    ({"holder": "azure"}, False), ({"project": "p"}, False), ({"job": "J"}, False), ({"cited": True}, False),
    ({"what": "consent"}, False),
])  # fmt: skip
def test_one_waiver_says_all_that_another_says(more: dict[str, object], wider: bool) -> None:
    assert reaches(replace(WAIVER, **more), WAIVER) is wider


JOB = "01K9Z3M5W2T8Q4N6R7VXYBCD0E"
DECLINED = replace(WAIVER, id=f"waiver-{JOB}-o1")
AGAIN = f"waiver-{JOB}-o2"


@pytest.mark.parametrize(("standing", "said", "made"), [
    ([], {}, AGAIN), ([DECLINED], {}, None), ([DECLINED], {"gpus": 4, "until": 50}, None),
    ([DECLINED], {"until": 200}, DECLINED.id), ([DECLINED], {"gpus": 16, "classes": ()}, DECLINED.id),
    ([DECLINED], {"gpus": 4, "until": 200}, AGAIN), ([replace(DECLINED, until=10)], {}, AGAIN),
    ([WAIVER], {}, None), ([WAIVER], {"until": 200}, AGAIN), ([replace(DECLINED, holder="azure")], {}, AGAIN),
], ids=["first", "same", "narrower", "longer", "wider", "across", "past", "attested", "attested longer", "other"],
)  # fmt: skip
def test_a_decline_that_covers_more_is_put_on_record_once(
    standing: list[Record], said: dict[str, object], made: str | None
) -> None:
    found = to_record(replace(DECLINED, id=AGAIN, **said), standing, 10)
    assert (found.id if found else None) == made
    assert found is None or found == replace(DECLINED, id=found.id, **said)


def test_declines_that_cover_ever_something_else_stay_few() -> None:
    records: list[Record] = []
    for n in range(1000):
        said = replace(DECLINED, id=f"waiver-{JOB}-o{n + 1}", gpus=1000 - n, until=100 + n)
        if (record := to_record(said, records, 10)) is not None:
            records.append(record)
    assert len(records) == MOST_WAIVERS
