"""What do the agreements and the operator's providers say, in the form that decisions read?

Compiled once from the documents (`orchestrator.model.documents`): durations are integer
microseconds, money is integer micro-dollars, moments are microseconds UTC, volumes are
GPU-milliseconds. Called by core (eligibility, ranking, audit) and the planner. Never parses text,
never imports pydantic, never knows what time it is.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
DAY_US = 24 * HOUR_US


class Trigger(StrEnum):
    """Why capacity is needed. A restart inside an attempt is no trigger at all (R1)."""

    NEW = "new"
    SCALE_UP = "scale_up"
    RENEW = "renew"
    REPLACE = "replace"
    OWNED = "owned"


class OnReplace(StrEnum):
    """What a lost job's new episode does with an earlier refusal."""

    REOFFER = "reoffer"
    INHERIT = "inherit"


class OnOutage(StrEnum):
    """What an offer becomes that cannot be delivered for `undeliverable_after_us` (R12)."""

    LAPSE_NORMALLY = "lapse_normally"
    DEEMED_DECLINE = "deemed_decline"
    BRIDGE = "bridge"


class OnExceed(StrEnum):
    """What happens at a price over a clause's ceiling."""

    TREAT_AS_DECLINE = "treat_as_decline"
    HELD = "held"


class OnUnreachable(StrEnum):
    """What happens to a running job whose provider and beat are silent (W5)."""

    WAIT = "wait"
    STOP = "stop"
    CONFIRMED_STOP_ONLY = "confirmed_stop_only"


class Classification(StrEnum):
    """What a job's class is worth that only its submitter claims (R20)."""

    CLAIMED = "claimed"  # as much as any
    STRICTEST = "strictest"  # every clause holds that would for some class, until an attester has recorded one
    HELD = "held"  # nobody is asked until an attester has recorded one, where some clause minds


class Range(msgspec.Struct, frozen=True):
    """gte <= x < lt; None is unbounded."""

    gte: int | None = None
    lt: int | None = None


class Select(msgspec.Struct, frozen=True):
    """Which jobs a clause is about: every given key must hold; None is any."""

    classes: tuple[str, ...] | None = None
    triggers: tuple[Trigger, ...] | None = None
    gpus: Range = Range()
    gpu_ms: Range = Range()  # GPU-milliseconds
    residency: tuple[str, ...] | None = None
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()  # key -> any of these values


class End(msgspec.Struct, frozen=True):
    """An event that ends a clause for good once enough attesters say that it happened (R14)."""

    event: str
    quorum: int = 1
    attesters: tuple[str, ...] = ()  # empty: anyone's word counts


class Because(StrEnum):
    """Why an exemption leaves jobs free. The first four are judged by us, the others need evidence."""

    BELOW_THRESHOLD = "below_threshold"
    UNLAWFUL_FOR_HOLDER = "unlawful_for_holder"
    HOLDER_OUTAGE = "holder_outage"
    CONSENT = "consent"
    RESEARCH = "research"
    OWN_BUILD = "own_build"
    GRANDFATHERED = "grandfathered"
    NATIONAL_SECURITY = "national_security"
    OPEN_WEIGHT = "open_weight"


JUDGED = frozenset({Because.BELOW_THRESHOLD, Because.UNLAWFUL_FOR_HOLDER, Because.HOLDER_OUTAGE, Because.CONSENT})
"""Reasons that need no evidence of their own: law, ledger and job say whether they hold."""


class Exemption(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that a clause leaves free."""

    id: str
    because: Because
    select: Select = Select()
    evidence: tuple[str, ...] = ()  # names of the records that it takes
    limit_ms: int | None = None  # GPU-milliseconds over `window_us` (R17); None: no limit
    window_us: int = 0
    per_lineage: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """The evidence that it takes: without a reason that we judge, and without a name, a record of its own id."""
        return self.evidence or (() if self.because in JUDGED else (self.id,))


class Clause(msgspec.Struct, frozen=True, kw_only=True):
    """What every enforced clause has; `from_us <= t < until_us` is its term."""

    ref: str  # "<contract>/<clause>"
    contract: str
    from_us: int
    until_us: int
    select: Select = Select()
    ends: tuple[End, ...] = ()
    exempt: tuple[Exemption, ...] = ()


class Release(StrEnum):
    """What may free an exclusive class."""

    CONSENT = "consent"
    HOLDER_DECLINED = "holder_declined"
    HOLDER_OUTAGE = "holder_outage"
    UNLAWFUL_FOR_HOLDER = "unlawful_for_holder"
    UNMET_CAPACITY = "unmet_capacity"


class Exclusive(Clause, frozen=True, kw_only=True):
    """Only the holder may serve, until a listed release."""

    holder: str
    releases: tuple[Release, ...] = ()
    outage_after_us: int = 0  # with holder_outage: how long the holder must have been unreachable


class Waiver(msgspec.Struct, frozen=True):
    """A holder's refusal beforehand, as the contract itself has it."""

    select: Select
    until_us: int  # first moment at which it no longer holds


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """By how much terms may be better for a supplier than those that its holder refused, and are covered still (R8)."""

    price_up_ppm: int = 0
    start_later_ms: int = 0
    smaller_gpus: int = 0  # of a range its least size counts; of jobs without GPUs no fewer workers are covered
    looser_points: int = 0  # in how many points of the spec; another residency is never covered


NO_TOLERANCE = Tolerance()


class FirstRight(Clause, frozen=True, kw_only=True):
    """A job is offered to the holder before anybody else may run it."""

    holder: str
    rank: int
    window_us: int
    tail_us: int
    on_replace: OnReplace
    on_outage: OnOutage
    undeliverable_after_us: int
    waiver: Waiver | None = None
    tolerance: Tolerance = NO_TOLERANCE
    least_gpus: int = 0  # the smallest part of a divisible job that it may take (R7); 0: any


class PriceCeiling(Clause, frozen=True, kw_only=True):
    """No placement over this many micro-dollars per GPU-hour."""

    ceiling_microusd: int
    on_exceed: OnExceed


class ResidencyLaw(Clause, frozen=True, kw_only=True):
    """Where, and by whose operators, the selected work may be done; None is no limit."""

    regions_in: tuple[str, ...] | None = None
    operator_in: tuple[str, ...] | None = None
    min_seal: int | None = None


class Part(StrEnum):
    """Kinds of contract text that parse and digest but are not enforced in this release."""

    EXEMPT = "exempt"  # from a clause that is no holder's
    FIRST_RIGHT = "first_right"  # a stage, basis, rounds, … of a first right
    BRIDGE = "bridge"
    PRECEDENCE = "precedence"
    COMMIT = "commit"
    SHARE = "share"
    MOST_FAVOURED = "most_favoured"


class NotEnforced(Clause, frozen=True, kw_only=True):
    """A part that is treated as absent: where it stands, what it would do, and for which jobs."""

    path: str
    what: str
    part: Part
    holder: str | None = None
    narrower: Select = Select()  # an exemption's own select, inside its clause's


class Contracts(msgspec.Struct, frozen=True):
    """One version of a contract set, compiled. Drafts are left out: they never gate."""

    digest: str
    name: str
    exclusives: tuple[Exclusive, ...] = ()
    first_rights: tuple[FirstRight, ...] = ()  # by rank, then as written
    ceilings: tuple[PriceCeiling, ...] = ()
    laws: tuple[ResidencyLaw, ...] = ()
    not_enforced: tuple[NotEnforced, ...] = ()
    labels: frozenset[str] = frozenset()  # the label keys that some select reads
    events: frozenset[str] = frozenset()  # that end something, by drafts too: what may be put on record
    evidence: frozenset[str] = frozenset()  # that some exemption takes, by drafts too

    @property
    def of_holders(self) -> tuple[Exclusive | FirstRight, ...]:
        """The clauses that put a holder before others."""
        return (*self.exclusives, *self.first_rights)


class ProviderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator states about one provider."""

    name: str
    regions: tuple[tuple[str, str], ...]  # (region, jurisdiction)
    operator_jurisdiction: str
    seal: int  # sovereignty level 0..4
    accelerators: tuple[tuple[str, int], ...]  # (name, thousandths of an H100)
    prices: tuple[tuple[str, int], ...] = ()  # (accelerator, micro-dollars per GPU-hour)
    market_window_us: int = 60 * SECOND_US


class StoreFacts(msgspec.Struct, frozen=True):
    """A checkpoint store and the jurisdiction it lies in."""

    name: str
    url: str
    jurisdiction: str


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's policy: how long silence is borne, how often a job may start, where it saves."""

    name: str
    store: str
    check_us: int = 10 * SECOND_US
    limit_us: int | None = 15 * 60 * SECOND_US  # None: an attempt never stops by itself
    grace_us: int = 30 * SECOND_US
    on_unreachable: OnUnreachable = OnUnreachable.WAIT
    max_attempts: int = 10  # attempts with a start
    max_runtime_us: int = DAY_US  # of a job that names none
    classification: Classification = Classification.CLAIMED


class Providers(msgspec.Struct, frozen=True):
    """One version of the operator's providers, in the order of the file, which is the order of
    asking where no contract set is in force."""

    digest: str
    providers: tuple[ProviderFacts, ...]
    stores: tuple[StoreFacts, ...] = ()
    policies: tuple[Policy, ...] = ()
