"""Everything that can happen, as it is written in the ledger. What kinds are there, and what does each carry?

Called by core (which makes and folds them), the engine (which commits them) and the audit. Bodies are canonical:
encoded once by `encode`, hashed and stored as those bytes. Only integers (micro-dollars, microseconds UTC),
strings, booleans, null, lists and objects; never a float. Every kind has a version `v`, so far 1: what is added has a
default, which is what older ledgers are read as. Defaults are left out of the bytes, so a default may never be changed.
"""

from __future__ import annotations

from typing import TypeAlias, get_args

import msgspec

from orchestrator.model.ledgerevent import CapacityInForce as CapacityInForce
from orchestrator.model.ledgerevent import ContractInForce as ContractInForce
from orchestrator.model.ledgerevent import ControllerAbsent as ControllerAbsent
from orchestrator.model.ledgerevent import Event as Event
from orchestrator.model.ledgerevent import HolderReachable as HolderReachable
from orchestrator.model.ledgerevent import HolderUnreachable as HolderUnreachable
from orchestrator.model.ledgerevent import Led as Led
from orchestrator.model.ledgerevent import LogsRead as LogsRead
from orchestrator.model.ledgerevent import ProvidersInForce as ProvidersInForce
from orchestrator.model.ledgerevent import Recorded as Recorded
from orchestrator.model.ledgerevent import Restored as Restored
from orchestrator.model.ledgerevent import Swept as Swept
from orchestrator.model.passed import Gate as Gate
from orchestrator.model.passed import Rest as Rest
from orchestrator.model.passed import Skip as Skip
from orchestrator.model.placement import Freed

# ---- of one job ----------------------------------------------------------------------------------------------------


class Submitted(Event, frozen=True, tag="Submitted"):
    """A job was taken in. Its document lies in specs under `spec`, its shape under `shape`."""

    spec: str
    shape: str
    name: str
    limit_ms: int | None
    """Isolation of its attempts; None: they never stop by themselves."""
    grace_ms: int
    max_runtime_ms: int
    by: str = ""
    """Name of the token that submitted it."""
    start_by_ms: int | None = None
    check_ms: int = 10_000
    max_attempts: int = 10
    on_unreachable: str = "wait"
    """wait | stop | confirmed_stop_only"""
    store: str = ""
    """Name of the store that holds its run log, checkpoints, logs and package; "" = the only one."""
    rest: Rest | None = None
    """Of what is left of a split job: where it comes from; None: somebody submitted it."""


class OfferOpened(Event, frozen=True, tag="OfferOpened", kw_only=True):
    """A job is put to a provider; committed before it is delivered."""

    n: int
    provider: str
    episode: int
    round: int
    contract: int
    """Contract version (`ContractInForce.n`) it is judged by, to its end."""
    providers: int
    clause: str = ""
    """`contract/clause` when gated, else empty: the open market."""
    trigger: str = "new"
    block: str = ""
    """`provider/block` of owned capacity that the job is about to be placed in; empty: in none."""
    most: int | None = None
    """Of a divisible job for which the block has no room as a whole, at most so many workers; None: all of them."""
    version: int = 1
    terms: str
    """Terms hash; the terms lie in specs under it."""
    window: int
    """Microseconds from delivery."""
    undeliverable: int | None = None
    """Microseconds of failed delivery after which it is refused; None: never."""
    hold: int | None = None
    """Micro-dollars set aside, None without a price."""
    ordinal: int = 0
    """The how-many-th offer to this provider, from 1, without a gap."""
    head: str = ""
    """The ledger's head when this was decided: the chain after some earlier event. It leaves us with the offer."""
    skipped: tuple[Skip, ...] = ()
    freed: tuple[Freed, ...] = ()
    """Clauses that would have put another first, or this provider out, and do not hold for this job now."""
    unused: int = 0
    """Numbers left out before `n`: a ledger that was put back may have lost the offers which had them."""
    free_until: int | None = None
    """Last moment at which the refusals that made it possible are good: an acceptance after it comes too late."""


class OfferDelivered(Event, frozen=True, tag="OfferDelivered"):
    """We received the first acknowledgement; the window runs from this event's time."""

    n: int
    ref: str
    sent: str
    """sha256 of the bytes that left us."""
    echo: tuple[int, str] | None = None
    """(ordinal, head) that the receipt echoed, where they are not the offer's own; None: exactly those."""


class DeliveryFailed(Event, frozen=True, tag="DeliveryFailed"):
    """First failed delivery or closing poll of an offer while another provider answered us, or one after it while
    nobody did."""

    n: int
    why: str
    unheard: bool = False
    """True: nobody answers us, which is our own network; the offer counts as undeliverable from its next failure on."""


class OfferAnswered(Event, frozen=True, tag="OfferAnswered", kw_only=True):
    """The terminal answer, in time."""

    n: int
    accepted: bool
    terms: str = ""
    price: int | None = None
    region: str = ""
    accelerator: str = ""
    ttl: int | None = None
    reason: str = ""
    scope: str = ""
    until: int | None = None
    detail: str = ""
    provider_at: int | None = None
    by: str = ""
    """Name of the token by which it was given by hand."""
    workers: int | None = None
    """Of an acceptance of elastic or divisible terms: how many workers; None: the terms have one size."""
    spot: bool = False
    """Accepted with machines that may be taken back after a notice."""
    firm: str = ""
    """What its provider says that the acceptance is worth: quota | paid_hold. Empty: nothing, or no acceptance."""


class LateAnswer(Event, frozen=True, tag="LateAnswer"):
    """An answer to an offer that was no longer open: evidence, nothing else."""

    n: int
    accepted: bool
    reason: str = ""
    provider_at: int | None = None
    by: str = ""


class OfferLapsed(Event, frozen=True, tag="OfferLapsed"):
    """Refused without a word."""

    n: int
    how: str
    """silence | undeliverable"""
    deadline: int
    polled_at: int
    """When the closing poll was sent (silence), or the last try (undeliverable)."""


class OfferWithdrawn(Event, frozen=True, tag="OfferWithdrawn"):
    """We took it back; satisfies no gate."""

    n: int
    why: str


class RoundEnded(Event, frozen=True, tag="RoundEnded"):
    """Everybody was asked or passed over; the next round starts at `until` or when capacity is released."""

    round: int
    until: int
    skipped: tuple[Skip, ...] = ()


class Split(Event, frozen=True, tag="Split"):
    """A part of a divisible job was accepted: that is the job from here on, and what is left is another one (R7)."""

    n: int
    """The accepted offer."""
    workers: int
    left: int
    """Workers of the other one."""
    rest: str
    """Its job id."""
    shape: str
    """What this job is decided as from here on."""


class Intended(Event, frozen=True, tag="Intended", kw_only=True):
    """An attempt is about to be launched: written before the call, named by `<job>-e<epoch>`."""

    epoch: int
    offer: int
    provider: str
    region: str
    accelerator: str
    price: int | None = None
    hold: int | None = None
    contract: int
    episode: int
    gates: tuple[Gate, ...] = ()
    workers: int | None = None
    """Of an elastic or divisible job: as many as were accepted; None: the job has one size."""


class LaunchConfirmed(Event, frozen=True, tag="Confirmed"):
    """The provider holds the launch."""

    epoch: int


class WentUnknown(Event, frozen=True, tag="WentUnknown"):
    """A state, never a failure: unreachable, no_reply, beat_silent, never_started, machines_gone, run_log_unread."""

    epoch: int
    why: str
    detail: str = ""
    """Why it never started, as its provider last said; empty: it said nothing."""


class SeenAgain(Event, frozen=True, tag="SeenAgain"):
    """An unknown attempt was found: back to confirmed or running."""

    epoch: int
    how: str
    """sighting | beat | log"""


class ReclaimNoticed(Event, frozen=True, tag="ReclaimNoticed"):
    """The provider says that it takes an attempt's machines back; the attempt is asked to save and stop before."""

    epoch: int
    until: int


class Started(Event, frozen=True, tag="Started"):
    """User code began, folded in from the run log."""

    epoch: int
    waited_ms: int
    cleared: bool
    resumed_epoch: int = 0
    resumed_step: int = 0
    """Checkpoint it goes on from; epoch 0: from the beginning."""


class Fencing(Event, frozen=True, tag="Fencing"):
    """We mean to fence every epoch below `epoch` in the run log."""

    epoch: int
    why: str


class Fenced(Event, frozen=True, tag="Fenced"):
    """The fence stands in the run log: nothing below `epoch` may append any more."""

    epoch: int


class Ended(Event, frozen=True, tag="Ended", kw_only=True):
    """An attempt is over."""

    epoch: int
    how: str
    """done | released | fenced | rejected | gone"""
    why: str = ""
    exit: int | None = None
    charge: int | None = None
    """Micro-dollars, None where the provider has not said; see Charged."""
    gpu_seconds: int | None = None
    ran_ms: int = 0
    """User-code time of this attempt."""
    avoid_scope: str = ""
    avoid_until: int = 0
    late: bool = False
    """Rejected only after the earmark's TTL: our fault (acceptance_unused)."""
    refused: bool = False
    """Never started, although the provider held the launch inside the earmark's TTL: a refusal (accept_failed)."""
    firm: str = ""
    """What the acceptance that they failed was worth: quota | paid_hold. Empty: nothing, so this is no breach."""
    fails: str = ""
    """Reason for which this end also fails the job; empty: the job goes on (or succeeds, how=done exit 0)."""
    detail: str = ""
    """The provider's own words, of a rejected launch."""


class Charged(Event, frozen=True, tag="Charged"):
    """The bill of an ended attempt, learned later; replaces its charge."""

    epoch: int
    charge: int
    gpu_seconds: int


class Accessed(Event, frozen=True, tag="Accessed", kw_only=True):
    """Somebody is let in at a running attempt: written before the way is opened. Changes where nothing stands.

    What they asked for stands here, not what came of it: the way, the rank or the command may turn out not to be there.
    """

    epoch: int
    what: str
    """exec | logs | dump | forward"""
    by: str
    """Name of the token."""
    rank: int | None = None  # None: every rank
    name: str = ""
    """Of an exec the command's name, never its arguments (they hold secrets); of a forward the port."""


class CancelAsked(Event, frozen=True, tag="CancelAsked"):
    """Somebody asked for the end of the job."""

    by: str = ""


class Cancelled(Event, frozen=True, tag="Cancelled"):
    """The job ended by request."""


class Failed(Event, frozen=True, tag="Failed"):
    """The job failed outside any attempt: start_by_passed, max_attempts."""

    reason: str


class Held(Event, frozen=True, tag="Held"):
    """The job waits for a person or a change: one of `placement.Held`, run_log_ahead, run_log_part, run_log_unread."""

    reason: str
    skipped: tuple[Skip, ...] = ()
    ahead: int = 0  # run_log_ahead: the highest epoch in its run log; the next attempt's is above it


class Resumed(Event, frozen=True, tag="Resumed"):
    """A held job goes on: by whom or by what change."""

    by: str


class Reshaped(Event, frozen=True, tag="Reshaped"):
    """From here on the job is decided as another shape: the contract set in force selects on other labels, or a record
    is about this job."""

    shape: str
    next: str = ""
    """What it is to be once its attempt is over, where it waits to be another size; seen likewise."""


class Scaled(Event, frozen=True, tag="Scaled", kw_only=True):
    """Somebody wants the job to have another size: at once where it waits, else when its attempt is over."""

    shape: str
    workers: int
    """The most of them."""
    least: int = 0
    """The least that may be taken; 0: all or nothing."""
    was: int
    """The most of them so far."""
    epoch: int = 0
    """The attempt that is asked to save and stop for it; 0: none is under way, or it is of such a size."""
    by: str = ""


AnyEvent: TypeAlias = (
    Led | ControllerAbsent | ContractInForce | ProvidersInForce | CapacityInForce | Swept | Recorded | HolderUnreachable
    | HolderReachable | Restored | LogsRead | Submitted | OfferOpened | OfferDelivered | DeliveryFailed
    | OfferAnswered | LateAnswer | OfferLapsed | OfferWithdrawn | RoundEnded | Split | Intended | LaunchConfirmed
    | WentUnknown | SeenAgain | ReclaimNoticed | Started | Fencing | Fenced | Ended | Charged | Accessed
    | CancelAsked | Cancelled | Failed | Held | Resumed | Reshaped | Scaled
)  # fmt: skip

_TAGS: dict[type, str] = {k: str(k.__struct_config__.tag) for k in get_args(AnyEvent)}
KINDS: tuple[str, ...] = tuple(_TAGS.values())
"""Names of all kinds, in the order above."""

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def kind_of(event: AnyEvent) -> str:
    """The kind's name, as the envelope carries it."""
    return _TAGS[type(event)]


def encode(event: AnyEvent) -> bytes:
    """Canonical body bytes: JSON, keys in declared order with `kind` first and `v` last, defaults left out."""
    return _encoder.encode(event)[:-1] + b',"v":1}'


def decode(body: bytes) -> AnyEvent:
    """The event behind body bytes; `msgspec.ValidationError` for anything this version does not know."""
    return _decoder.decode(body)
