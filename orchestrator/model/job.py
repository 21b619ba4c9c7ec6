"""Where a job stands: its row, its offers and attempts. What does the book hold of a job, and the ledger's live table?

Made by `core.lifecycle.fold` from events and by nothing else; read by the planner, the API and a restart.
A row is a value: `fold` returns a new one. It holds ids and numbers, never the job's document. Values refer to
older values only, never in a circle: Python's collector need not walk them (`gc=False`), however many there are.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from orchestrator.model.capacity import Block, inside
from orchestrator.model.record import Record


class JobState(StrEnum):
    """One word for where a job stands."""

    QUEUED = "queued"
    OFFERING = "offering"
    LAUNCHING = "launching"
    RUNNING = "running"
    RECOVERING = "recovering"
    STOPPING = "stopping"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class OfferState(StrEnum):
    """opened → delivered → accepted | declined | lapsed | withdrawn."""

    OPENED = "opened"
    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    LAPSED = "lapsed"
    WITHDRAWN = "withdrawn"


class AttemptState(StrEnum):
    """intended → confirmed ⇄ unknown, either → running ⇄ unknown; any → ended."""

    INTENDED = "intended"
    CONFIRMED = "confirmed"
    UNKNOWN = "unknown"
    RUNNING = "running"
    ENDED = "ended"


class OfferRow(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """The job's last offer. Times are microseconds UTC; `window` and `undeliverable` are microseconds."""

    n: int
    provider: str
    clause: str = ""
    terms: str
    contract: int
    window: int
    undeliverable: int | None = None
    hold: int | None = None
    opened_at: int
    state: OfferState = OfferState.OPENED
    delivered_at: int | None = None
    failed_at: int | None = None
    """First failed delivery or closing poll; None while there was none."""
    answered_at: int | None = None
    ttl: int | None = None
    ordinal: int = 0
    head: str = ""
    """The ledger's head that leaves us with it, however often it is delivered."""
    freed: tuple[str, ...] = ()
    """Exemptions (`contract/clause/exemption`) by which this offer was made."""
    free_until: int | None = None
    """Last moment at which the refusals that made it possible are good; None: it rests on none."""
    block: str = ""
    """Owned capacity that the job is about to be placed in."""
    in_part: bool = False
    """It is for no more of a divisible job than that has room for."""
    firm: str = ""
    """What its acceptance is worth, as was stated when it came: quota | paid_hold; empty: nothing."""

    @property
    def inside(self) -> str:
        """The owned block that this very offer is for; empty: none."""
        return self.block if self.block and inside(self.block, self.provider) else ""


class RefusalRow(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """A no in the current or an earlier episode that may still pass a gate."""

    n: int
    provider: str
    clause: str = ""
    terms: str
    how: str
    """declined | lapsed | undeliverable | accept_failed | split"""
    at: int
    episode: int
    scope: str = ""
    until: int | None = None
    reason: str = ""
    job: str = ""
    """Whose offer it was a no to, of what is left of a split job; empty: this job's own."""


class AvoidRow(Struct, frozen=True, array_like=True, gc=False):
    """A market provider not to go straight back to."""

    provider: str
    scope: str
    until: int
    why: str


class AttemptRow(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One try at one provider."""

    epoch: int
    offer: int
    provider: str
    region: str
    accelerator: str = ""
    price: int | None = None
    hold: int | None = None
    intended_at: int
    state: AttemptState = AttemptState.INTENDED
    confirmed_at: int | None = None
    """When the provider first said that it holds the launch."""
    started_at: int | None = None
    unknown_at: int | None = None
    ended_at: int | None = None
    how: str = ""
    why: str = ""
    charge: int | None = None
    ran_ms: int = 0
    freed: tuple[str, ...] = ()
    """Exemptions under which its GPU-hours count."""
    block: str = ""
    """Owned capacity that it takes; empty: none."""
    workers: int | None = None
    """Of an elastic job as many as its provider accepted, of one that was scaled what it had; None: all it has."""
    reclaim_at: int | None = None
    """When its provider takes the machines back, as it gave notice; None: it gave none."""


class SizeRow(Struct, frozen=True, array_like=True, gc=False):
    """Another size than its document says: the shape of it, its most workers, and the least that may be taken."""

    shape: str
    workers: int
    least: int = 0
    """0: all or nothing."""

    def holds(self, workers: int | None) -> bool:
        """Whether that is one of its numbers."""
        return workers is not None and (self.least or self.workers) <= workers <= self.workers


class JobRow(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """Everything the planner knows of one job, and all that the API shows without reading its events."""

    job: str
    project: str
    name: str
    spec: str
    shape: str
    limit_ms: int | None
    grace_ms: int
    max_runtime_ms: int
    start_by_ms: int | None = None
    check_ms: int = 10_000
    max_attempts: int = 10
    on_unreachable: str = "wait"
    store: str = ""
    submitted_at: int
    state: JobState = JobState.QUEUED
    episode: int = 1
    episode_at: int
    """When the current episode began."""
    round: int = 1
    wait_until: int | None = None
    """When the next round starts, unless capacity is released earlier."""
    asked: tuple[str, ...] = ()
    """Providers asked in this round, and owned blocks (`provider/block`)."""
    offer: OfferRow | None = None
    refusals: tuple[RefusalRow, ...] = ()
    """The latest no of each provider under each clause."""
    answered: tuple[int, ...] = ()
    """Offers that were answered in time (the newest few)."""
    late: tuple[int, ...] = ()
    """Offers whose late answers were noted (the newest few)."""
    avoid: tuple[AvoidRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    fence: int = 0
    """Highest epoch for which a fence was intended."""
    fenced: int = 0
    """Highest epoch whose fence stands in the run log."""
    ahead: int = 0
    """Highest epoch in its run log when a ledger that was put back knew less; 0: it never did."""
    started: int = 0
    """Attempts with a start."""
    ran_ms: int = 0
    """User-code time of ended attempts."""
    reason: str = ""
    """Why held or failed."""
    exit: int | None = None
    cancel_asked: bool = False
    accesses: int = 0
    """How often somebody was let in at its attempts."""
    rest_of: str = ""
    """Offer of another job of which a part was accepted: this job is what that left."""
    root: str = ""
    """The job that was submitted, of which this is a part; empty: itself."""
    rest: str = ""
    """The job that is what was left of this one, once a part of it was accepted."""
    part: int = 0
    """Of a part of a divisible job, how many workers that is; 0: it is whole, and as its document says."""
    piece: int = 0
    """The first of its pieces, among those of the whole divisible job."""
    size: SizeRow | None = None
    """What it was made by the latest `Scaled`; None: it is as its document says, or a part of that."""
    next: SizeRow | None = None
    """What it becomes when its attempt is over, which stops for that if its size is none of it; None: it stays so."""
    grown: bool = False
    """Since what ran last was placed, somebody has made it larger than that."""
    ended_at: int | None = None
    applied_at: int = 0
    """Time of the last event folded in."""


class LedgerRow(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """The ledger's own row: what is in force for everybody."""

    term: int = 0
    contract: int = 0
    contract_digest: str = ""
    contract_file: str | None = None
    """Digest of the server's own file when it last took effect; None: it is what is in force."""
    providers: int = 0
    providers_digest: str = ""
    absences: tuple[tuple[int, int], ...] = ()
    """Closed intervals in which nobody led, oldest first."""
    swept: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    """What is on record and has not expired, in order."""
    unreachable: tuple[tuple[str, int], ...] = ()
    """(holder, since) of watched holders that do not answer."""
    blocks: tuple[Block, ...] = ()
    """Capacity that is owned."""
    blocks_file: tuple[Block, ...] | None = None
    """What the server's own file said when it last took effect; None: that is what is in force."""
    restored: int | None = None
    """When the ledger was put back from a backup, until every live job's run log was read; None: nothing to do."""
    lost: tuple[tuple[int, int], ...] = ()
    """Each time that it was put back: when, and how many offers of a job it may have lost by that."""


_encoder = msgspec.json.Encoder()
_jobs = msgspec.json.Decoder(JobRow)
_ledger = msgspec.json.Decoder(LedgerRow)


def row_bytes(row: JobRow | LedgerRow) -> bytes:
    """Canonical bytes of a row."""
    return _encoder.encode(row)


def job_row(body: bytes) -> JobRow:
    """A job's row from its bytes."""
    return _jobs.decode(body)


def ledger_row(body: bytes) -> LedgerRow:
    """The ledger's own row from its bytes."""
    return _ledger.decode(body)
