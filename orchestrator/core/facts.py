"""What the loop tells the planner: wishes, replies, sightings, run-log reads. Facts, never conclusions.

Made by the engine's lanes and watchers; consumed by `core.planner.on_fact`. A fact may be stale, repeated or about
something long over: the planner ignores what no longer applies. Facts are values and never part of a circle, so
Python's collector need not walk them (`gc=False`), however many wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.capacity import Block
from orchestrator.model.contract import Contracts
from orchestrator.model.event import Accessed, Submitted
from orchestrator.model.offer import Answer, LaunchReply, PriceRow, Receipt, Sighting, Undelivered
from orchestrator.model.placement import Shape
from orchestrator.model.record import Record


class Wish(Struct, frozen=True, kw_only=True, gc=False):
    """A job comes in."""

    job: str
    project: str
    event: Submitted
    shape: Shape


class CancelWish(Struct, frozen=True, gc=False):
    """Somebody wants the job's end."""

    job: str
    by: str


class ResumeWish(Struct, frozen=True, gc=False):
    """Somebody, or a change, lets a held job go on."""

    job: str
    by: str


class ScaleWish(Struct, frozen=True, gc=False):
    """Somebody wants the job to have another number of workers."""

    job: str
    workers: int
    least: int
    """The least that may be taken; 0: all or nothing."""
    by: str


class AnswerWish(Struct, frozen=True, gc=False):
    """A supplier's people answer an offer by hand."""

    job: str
    provider: str
    answer: Answer
    sent: str
    """sha256 of the offer's bytes, which they answer; empty where it is open no more."""


class VisitWish(Struct, frozen=True, gc=False):
    """Somebody wants to be let in at a running attempt."""

    job: str
    event: Accessed


class RecordWish(Struct, frozen=True, gc=False):
    """An attester puts something on record."""

    record: Record


class Amended(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody applied another contract set."""

    contracts: Contracts | None
    document: bytes
    by: str
    labels: Mapping[str, tuple[tuple[str, str], ...]]
    """job → the labels that this set selects on, where they differ from those of its shape."""


class OwnedWish(Struct, frozen=True, gc=False):
    """Somebody applied another set of owned capacity."""

    blocks: tuple[Block, ...]
    by: str


class Due(Struct, frozen=True, gc=False):
    """A timer of this job has come."""

    job: str


class Delivery(Struct, frozen=True, gc=False):
    """A provider's reply to a delivered offer; `sent` is the sha256 of the bytes that left us."""

    provider: str
    reply: Receipt | Undelivered
    sent: str
    others_answer: bool
    """Whether some other provider answered us meanwhile; if not, it is our network."""


class Polled(Struct, frozen=True, gc=False):
    """The feed of a provider, asked at `sent_at`, brought these answers and no others."""

    provider: str
    sent_at: int
    answers: tuple[Answer, ...] = ()


class PollFailed(Struct, frozen=True, gc=False):
    """A closing poll that got no reply."""

    provider: str
    sent_at: int
    others_answer: bool


class Launched(Struct, frozen=True, gc=False):
    """A provider's reply to a launch that we sent at `sent_at`."""

    reply: LaunchReply
    sent_at: int


class Sighted(Struct, frozen=True, gc=False):
    """Machines were seen, or said to be gone."""

    provider: str
    sighting: Sighting


class ProviderDown(Struct, frozen=True, gc=False):
    """A provider stopped answering."""

    provider: str


class ProviderUp(Struct, frozen=True, gc=False):
    """A provider answers (again)."""

    provider: str


class CapacityReleased(Struct, frozen=True, gc=False):
    """A provider says that something became free."""

    provider: str


class ReclaimSeen(Struct, frozen=True, gc=False):
    """A provider gives notice: it takes the machines of this attempt back at `until`."""

    job: str
    epoch: int
    provider: str
    until: int


class StartSeen(Struct, frozen=True, kw_only=True, gc=False):
    """The run log holds this epoch's start."""

    job: str
    epoch: int
    waited_ms: int
    cleared: bool
    resumed_epoch: int = 0
    resumed_step: int = 0


class DoneSeen(Struct, frozen=True, gc=False):
    """The run log holds the job's done."""

    job: str
    epoch: int
    exit: int
    ran_ms: int
    billed: tuple[int, int] | None = None
    """(micro-dollars, GPU-seconds) as the provider counts them, if it has said."""
    workers: int | None = None
    """Of a divisible job: so many of its pieces are done; None: all."""
    began: bool = True
    """Whether user code was started; otherwise its agent could not."""


class ReleaseSeen(Struct, frozen=True, kw_only=True, gc=False):
    """The run log holds this epoch's release."""

    job: str
    epoch: int
    why: str
    ran_ms: int
    stopped_for: str = ""
    """The reason of the stop in its log, if that holds one."""
    crash_loop: bool = False


class BeatSeen(Struct, frozen=True, gc=False):
    """A new beat, or a new entry of this epoch: it lives."""

    job: str
    epoch: int


class BeatSilent(Struct, frozen=True, gc=False):
    """No new beat for `limit` of our own readable time."""

    job: str
    epoch: int


class Unstarted(Struct, frozen=True, gc=False):
    """The run log was read, and holds no start of this epoch although one is overdue."""

    job: str
    epoch: int
    detail: str = ""
    """What its provider last said of machines that are not there yet."""


class GoneSeen(Struct, frozen=True, gc=False):
    """Listings confirm the end of everything that ran under this epoch's key."""

    job: str
    epoch: int


class FencePlaced(Struct, frozen=True, gc=False):
    """The fence stands in the run log. `ran_ms`: user-code time of the epoch below, to its last beat."""

    job: str
    epoch: int
    unclaimed: bool
    """The epoch below never claimed: behind the fence it never can."""
    ran_ms: int
    stopped_for: str = ""
    """The reason of the stop that had reached the epoch below, if one had."""


class StopPlaced(Struct, frozen=True, gc=False):
    """The stop stands in the run log: from here on this epoch neither claims nor starts."""

    job: str
    epoch: int
    unclaimed: bool
    stopped_for: str = ""
    """Its reason, or that of the one which stood there before."""


class Priced(Struct, frozen=True, gc=False):
    """A provider's prices, all of them."""

    provider: str
    rows: tuple[PriceRow, ...]


class Stray(Struct, frozen=True, gc=False):
    """The sweep found this key alive at a provider, and it is nobody's business."""

    provider: str
    key: str
    gpus: int


class Billed(Struct, frozen=True, gc=False):
    """What a provider charges for an ended attempt."""

    job: str
    epoch: int
    microdollars: int
    gpu_seconds: int


class LogEnd(Struct, frozen=True):
    """Where a run log ends, as it was read since the ledger was put back from a backup."""

    job: str
    epoch: int
    """The highest one that any entry names."""
    fence: int
    claimed: int = 0
    """The highest that an attempt has claimed."""
    ran_ms: int = 0
    """User-code time of the attempt that the ledger believes in."""
    done: tuple[int, int] | None = None
    """(exit, ran_ms) of a job that is complete."""
    workers: int | None = None
    """Of a divisible job that is: so many of its pieces; None: all."""


Fact: TypeAlias = (
    Wish | CancelWish | ResumeWish | ScaleWish | AnswerWish | VisitWish | RecordWish | Amended | OwnedWish | Due
    | Delivery | Polled | PollFailed | Launched | Sighted | ProviderDown | ProviderUp | CapacityReleased | StartSeen
    | DoneSeen | ReleaseSeen | BeatSeen | BeatSilent | FencePlaced | StopPlaced | Unstarted | GoneSeen | Priced | Stray
    | Billed | ReclaimSeen | LogEnd
)  # fmt: skip
