"""Whom may we ask for this job, in which order, behind which gates, on what terms: the nouns of it.

`core.eligibility.compile_rules(contracts, providers, shape, now_us) -> Rules` is the answer that
holds until the next term boundary; `core.ranking.order(rules, prices, refusals, now_us) ->
Placement` is the answer at this moment. Called by the planner, explain, the auditor and `contracts
test`. Values only: nothing here decides, except `terms_bytes`, whose hash is what a holder accepts.
Money is micro-dollars per GPU-hour, moments are microseconds UTC.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

import msgspec
from msgspec import UNSET, UnsetType

from orchestrator.model.contract import NO_TOLERANCE, OnOutage, Tolerance, Trigger

HOUR_MS = 3_600_000
MOST_WORKERS = 100_000
MOST_GPUS = 1_000_000
"""More than any cloud has; beyond it a job is a mistake."""
MOST_PRICE = 10**12
"""Micro-dollars per GPU-hour, a million dollars: more is a slip of the pen, and what follows from it fits no ledger."""


class Excluded(StrEnum):
    """Why a provider may not serve a job. The first five are law; the last depends on the price."""

    CAPABILITY = "capability"
    REGION = "region"
    OPERATOR_JURISDICTION = "operator_jurisdiction"
    SEAL = "seal"
    DATA = "data"
    EXCLUSIVE = "exclusive"  # this class of work is another supplier's alone
    OVER_CEILING = "over_ceiling"


class Held(StrEnum):
    """Why a job waits for a person or for a change of contracts, prices or providers."""

    NO_LAWFUL_PROVIDER = "no_lawful_provider"
    NO_CAPABLE_PROVIDER = "no_capable_provider"
    DECLINED_BY_ALL = "declined_by_all"  # each has declined its spec for good: no placement says that, only answers
    OVER_CEILING = "over_ceiling"
    CLASSIFICATION = "classification"  # an attester must record its class first


class Warned(StrEnum):
    """What the reader of a decision should know although it changes nothing."""

    CLASS_CLAIMED = "class_claimed"  # every clause holds that would for some class
    UNKNOWN_RESIDENCY = "unknown_residency"  # the job's tag selects no law
    SHARE_INFEASIBLE = "share_infeasible"
    SINGLE_PROVIDER = "single_provider"
    NO_PROVIDER = "no_provider"


class How(StrEnum):
    """How a past offer was refused. A withdrawn offer and `acceptance_unused` are no refusals."""

    DECLINED = "declined"
    LAPSED = "lapsed"
    UNDELIVERABLE = "undeliverable"
    ACCEPT_FAILED = "accept_failed"
    WAIVED = "waived"
    SPLIT = "split"  # it took a part of a divisible job, and no more


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that are decided alike. `labels`: only those that some contract selects on, sorted."""

    job_class: str
    accelerators: tuple[str, ...]  # any of, in the job's order; empty: no preference
    gpus_per_worker: int
    workers: int  # the most of them
    min_workers: int | UnsetType = UNSET  # the least that may be taken, of an elastic or divisible job; unset: all
    pieces: int | UnsetType = UNSET  # of a part of a divisible job, how many workers the whole had; unset: it is none
    cpus: int  # per worker
    memory: int  # bytes per worker; 0: not asked
    max_runtime_ms: int
    start_by_ms: int | None = None  # from the episode's begin; None: no limit
    residency: str | None = None
    ceiling_microusd: int | None = None  # the job's own; None: none
    spot: bool = False  # machines that may be taken back after a notice are welcome too
    project: str = "default"
    priority: int = 0
    trigger: Trigger = Trigger.NEW
    labels: tuple[tuple[str, str], ...] = ()
    records: tuple[str, ...] = ()  # ids of the records that are about this very job, sorted
    cited: tuple[str, ...] = ()  # ids of the records that its document cites, sorted
    unsettled: str = ""  # strictest | held: its class is only claimed, and its policy asks for more; empty: no

    @property
    def gpus(self) -> int:
        """GPUs over all workers, of which an elastic job has the most."""
        return self.gpus_per_worker * self.workers

    @property
    def gpu_ms(self) -> int:
        """GPU-milliseconds if it runs for all of maxRuntime."""
        return self.gpus * self.max_runtime_ms

    @property
    def whole_gpu_ms(self) -> int:
        """The same of the whole that it is a part of."""
        return self.gpus_per_worker * self.whole * self.max_runtime_ms

    @property
    def fewest(self) -> int:
        """The least number of workers that will do."""
        return self.workers if self.min_workers is UNSET else self.min_workers

    @property
    def whole(self) -> int:
        """The most workers that it has, or that what it is a part of had."""
        return self.workers if self.pieces is UNSET else self.pieces

    @property
    def divisible(self) -> bool:
        """Whether somebody may take a part, so that the rest becomes a job of its own."""
        return self.pieces is not UNSET and self.min_workers is not UNSET

    def sized(self, workers: int | None) -> Shape:
        """With as many workers as were accepted of a range; None: it has the one size that it has."""
        return self if workers is None else msgspec.structs.replace(self, workers=workers, min_workers=UNSET)

    @property
    def least(self) -> int:
        """The least of its range; 0: it has one size. What `ranged` takes."""
        return 0 if self.min_workers is UNSET else self.min_workers

    def ranged(self, workers: int, least: int) -> Shape:
        """The same work with another number of workers, or any number of a range; `least` 0: all of them."""
        return msgspec.structs.replace(self, workers=workers, min_workers=least if 0 < least < workers else UNSET)

    def left_by(self, taken: int) -> Shape:
        """What is left of a divisible job when so many of its workers are taken."""
        return msgspec.structs.replace(self, workers=self.workers - taken, min_workers=_least(self, taken))

    def triggered(self, trigger: Trigger) -> Shape:
        """The same, placed for another reason. A job that has run is not divided any more."""
        if trigger is self.trigger:
            return self
        whole = UNSET if self.divisible and trigger is Trigger.REPLACE else self.min_workers
        return msgspec.structs.replace(self, trigger=trigger, min_workers=whole)

    def labelled(self, document: bytes, selected: Collection[str]) -> Shape:
        """This shape with the labels of a job's document that are `selected`: as another contract set sees the job."""
        metadata = _documents.decode(document).metadata
        return msgspec.structs.replace(self, labels=select_labels(metadata.labels or {}, selected))


class _Metadata(msgspec.Struct, frozen=True):
    labels: dict[str, str] | None = None


class _Document(msgspec.Struct, frozen=True):
    """The one part of a job's document that contracts select on and that was not told beforehand."""

    metadata: _Metadata = _Metadata()


_documents = msgspec.json.Decoder(_Document)


def select_labels(labels: Mapping[str, str], selected: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Those labels that contracts select on, sorted."""
    return tuple(sorted((key, value) for key, value in labels.items() if key in selected))


class Terms(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What an offer says, to one provider; an acceptance names its hash (R6)."""

    accelerators: tuple[str, ...]
    gpus_per_worker: int
    workers: int  # the most of them
    min_workers: int | UnsetType = UNSET  # the least: an acceptance names how many; unset: all or nothing
    divisible: bool = False  # what an acceptance leaves is placed elsewhere; False: it is dropped
    cpus: int
    memory: int
    ceiling_microusd: int | None  # the effective ceiling: min(job's, clauses'); None: none
    max_runtime_ms: int
    start_by_ms: int | None
    regions: tuple[str, ...]  # of this provider, where the law allows the job; sorted
    residency: str | None
    spot: bool = False  # machines that may be taken back after a notice will do

    @property
    def gpus(self) -> int:
        """GPUs over all workers, of which an elastic job has the most."""
        return self.gpus_per_worker * self.workers

    @property
    def elastic(self) -> bool:
        """Whether an acceptance may choose the number of workers."""
        return self.min_workers is not UNSET

    @property
    def fewest(self) -> int:
        """The least number of workers that will do."""
        return self.workers if self.min_workers is UNSET else self.min_workers

    def sized(self, workers: int | None) -> Terms:
        """With as many workers as were accepted; None: all."""
        if workers is None:
            return self
        return msgspec.structs.replace(self, workers=workers, min_workers=UNSET, divisible=False)

    def up_to(self, most: int, least: int) -> Terms:
        """The same of a divisible job for so many workers at most, and no fewer than `least`."""
        parts = least < self.workers
        return msgspec.structs.replace(self, workers=most, min_workers=least if parts else UNSET, divisible=parts)

    def left_by(self, taken: int) -> Terms:
        """The same for what an acceptance of so many workers has left."""
        least = _least(self, taken)
        workers, more = self.workers - taken, least is not UNSET
        return msgspec.structs.replace(self, workers=workers, min_workers=least, divisible=more)


def _least(of: Shape | Terms, taken: int) -> int | UnsetType:
    """The least that may be taken of what is left; unset: all of it."""
    return of.fewest if of.fewest < of.workers - taken else UNSET


def largest(terms: Terms, fits: Callable[[Terms], bool]) -> Terms | None:
    """The most of what an offer asks that fits, in one size; None: not even the least. Who fits n fits fewer too.

    An offer that is not elastic has one size: it fits or it does not.
    """
    sizes = range(terms.fewest, terms.workers + 1)
    fitting = bisect_left(sizes, True, key=lambda workers: not fits(terms.sized(workers)))
    return terms.sized(sizes[fitting - 1]) if fitting else None


def terms_bytes(terms: Terms) -> bytes:
    """Canonical bytes: compact JSON, keys sorted; `minWorkers`, `divisible`, `spot` only where set."""
    return msgspec.json.encode(terms, order="sorted")


def terms_hash(terms: Terms) -> str:
    """sha256 of `terms_bytes`, lower-case hex."""
    return hashlib.sha256(terms_bytes(terms)).hexdigest()


_terms = msgspec.json.Decoder(Terms)
_shape = msgspec.json.Decoder(Shape)


def parse_terms(data: bytes) -> Terms:
    """The terms behind `terms_bytes`; `msgspec.ValidationError` for anything else."""
    return _terms.decode(data)


def shape_bytes(shape: Shape) -> bytes:
    """Canonical bytes of a shape; their sha256 is its digest."""
    return msgspec.json.encode(shape, order="sorted")


def parse_shape(data: bytes) -> Shape:
    """The shape behind `shape_bytes`; `msgspec.ValidationError` for anything else."""
    return _shape.decode(data)


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A past no to one offer of this job, spoken or by silence. Which present terms it covers, and
    for how long, `core.ranking` decides."""

    provider: str
    clause: str = ""  # the gate's ref; empty: an offer in the open market, which passes no gate
    at_us: int
    how: How
    episode: int
    terms_hash: str
    terms: Terms | None = None  # needed only to compare with other terms; None: covers equal ones alone
    reason: str = ""  # a decline's; empty: not known


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that may lawfully serve, and on what terms it would be asked."""

    provider: str
    accelerator: str | None  # the job's first choice that it has; None: a job without GPUs
    regions: tuple[str, ...]  # sorted
    terms: Terms
    terms_hash: str
    list_price: int | None = None  # of the price book; None: unknown


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A first right that must be passed: its holder is offered the job, alone, for the window."""

    clause: str  # "<contract>/<clause>"
    contract: str
    holder: str
    rank: int
    window_us: int
    tail_us: int
    inherits: bool  # whether a no of an earlier episode passes it: `onReplace: inherit`, and what was lost is replaced
    on_outage: OnOutage
    undeliverable_after_us: int
    terms: Terms
    terms_hash: str
    tolerance: Tolerance = NO_TOLERANCE


class Exclusion(msgspec.Struct, frozen=True):
    """Who may not serve, why, and the clause that says so (None: the job itself)."""

    provider: str
    reason: Excluded
    clause: str | None = None
    need: str = ""
    have: str = ""


class Freed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A clause that would hold for the job and does not, and why. Kept in the offer that was made because of it."""

    clause: str
    how: str
    """ended | waived | override | exempt, or a release of an exclusive: consent | holder_declined | …"""
    holder: str = ""
    exemption: str = ""
    because: str = ""
    records: tuple[str, ...] = ()
    """Ids of the records that it rests on."""
    approver: str = ""
    """Who stands for them; where we judge by law, ledger or size: the clause itself."""

    @property
    def key(self) -> str:
        """`contract/clause/exemption`, under which its volume is counted; empty: it is no exemption."""
        return f"{self.clause}/{self.exemption}" if self.exemption else ""


class NotExempt(msgspec.Struct, frozen=True):
    """An exemption that selects the job and does not free it: evidence | exempt_total | still_lawful | no_outage |
    no_consent."""

    clause: str
    exemption: str
    why: str


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What contracts, providers and law say about a shape, until `expires_us`."""

    shape: Shape
    contracts: str | None  # digest; None: no contract set, hence no gate
    providers: str  # digest
    candidates: tuple[Candidate, ...]  # in the order of the providers file
    gates: tuple[Gate, ...]  # in the order in which they must be passed
    excluded: tuple[Exclusion, ...]
    not_applicable: tuple[str, ...]  # first rights whose holder cannot lawfully serve (R15)
    unsettled: bool = False  # nobody may be asked before an attester has recorded the job's class
    only: str | None = None  # the holder of an exclusive in force: nobody else may serve
    freed: tuple[Freed, ...] = ()  # clauses that would hold, and do not
    not_exempt: tuple[NotExempt, ...] = ()
    jurisdictions: tuple[str, ...] | None  # where the job's bytes may lie; None: anywhere
    ceiling_microusd: int | None  # effective
    hold_above_microusd: int | None  # the lowest ceiling with onExceed held; None: none
    warnings: tuple[Warned, ...]
    expires_us: int | None  # the next moment at which something begins or ends by itself; None: never


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask now. Where `held` is set, nobody."""

    held: Held | None
    gates: tuple[Gate, ...]  # still to be passed, in order
    market: tuple[str, ...]  # once every gate is passed; a gate's holder keeps its own place
    refused: tuple[str, ...]  # holders whose refusal is good for now: asked last, ungated, each round
    excluded: tuple[Exclusion, ...]
    may_know: tuple[str, ...]  # who may learn now that this job exists (R21)
