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


class Clause(msgspec.Struct, frozen=True, kw_only=True):
    """What every enforced clause has; `from_us <= t < until_us` is its term."""

    ref: str  # "<contract>/<clause>"
    contract: str
    from_us: int
    until_us: int
    select: Select = Select()


class FirstRight(Clause, frozen=True, kw_only=True):
    """A job is offered to the holder before anybody else may run it."""

    holder: str
    rank: int
    window_us: int
    tail_us: int
    on_replace: OnReplace
    on_outage: OnOutage
    undeliverable_after_us: int


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

    EXCLUSIVE = "exclusive"
    EXEMPT = "exempt"
    ENDS_ON = "ends_on"
    FIRST_RIGHT = "first_right"  # a stage, basis, rounds, … of a first right
    BRIDGE = "bridge"
    REOFFER_IF = "reoffer_if"
    WAIVER = "waiver"
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
    name: str = ""  # an exemption's id
    because: str | None = None  # an exemption's reason
    event: str | None = None  # an endsOn's event


class Contracts(msgspec.Struct, frozen=True):
    """One version of a contract set, compiled. Drafts are left out: they never gate."""

    digest: str
    name: str
    first_rights: tuple[FirstRight, ...] = ()  # by rank, then as written
    ceilings: tuple[PriceCeiling, ...] = ()
    laws: tuple[ResidencyLaw, ...] = ()
    not_enforced: tuple[NotEnforced, ...] = ()
    labels: frozenset[str] = frozenset()  # the label keys that some select reads


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


class Providers(msgspec.Struct, frozen=True):
    """One version of the operator's providers, in the order of the file, which is the order of
    asking where no contract set is in force."""

    digest: str
    providers: tuple[ProviderFacts, ...]
    stores: tuple[StoreFacts, ...] = ()
    policies: tuple[Policy, ...] = ()
