"""What passes between us and a provider: offers, receipts, answers, launch orders, sightings, charges.

Called by the provider port and everything on both sides of it. Values only: frozen, no clock, no I/O.
Times are integer microseconds UTC, money is integer micro-dollars (per GPU-hour where it is a price). None can be part
of a circle, so Python's collector need not walk them (`gc=False`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

KEPT = 200
"""Characters of a provider's own words that the ledger keeps."""


class Reason(StrEnum):
    """Why a provider says no: a closed set; what an adapter cannot map becomes `error`."""

    CAPACITY = "capacity"
    PRICE = "price"
    SPEC = "spec"
    START_TIME = "start_time"
    REGION = "region"
    POLICY = "policy"
    STRATEGIC = "strategic"
    ERROR = "error"
    COUNTER = "counter"


class Scope(StrEnum):
    """What a no covers."""

    ZONE = "zone"
    REGION = "region"
    ACCELERATOR = "accelerator"
    PROVIDER = "provider"


class Firmness(StrEnum):
    """How much an acceptance binds the provider's capacity; below `quota` nobody can be in breach."""

    NONE = "none"
    QUOTA = "quota"
    PAID_HOLD = "paid_hold"


class SightingState(StrEnum):
    """What a provider says of the machines under one launch key. Never proof of anything's end but `GONE`."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    ENDED = "ended"
    STOPPING = "stopping"
    GONE = "gone"


class OfferOut(Struct, frozen=True, gc=False):
    """An offer as it leaves us: exactly the allow-list, nothing that tells who else is asked or how busy we are."""

    offer: str
    clause: str | None
    """`contract/clause` behind a gated offer; None in the open market."""
    contract_version: int
    version: int
    workload: str
    """The job's class, e.g. `training`."""
    trigger: str
    terms: bytes
    """Canonical JSON of the terms (`model.placement.terms_bytes`)."""
    terms_hash: str
    window_us: int
    ledger_head: str = ""
    """Hash of our ledger's head when the offer was opened: whoever keeps it can prove what the ledger held by then."""
    ordinal: int = 0
    """The how-many-th offer to this provider, from 1, without a gap; it says nothing of offers to others."""

    def receipt(self, ref: str, provider_at: int | None = None, answer: Answer | None = None) -> Receipt:
        """The receipt of whoever takes exactly this offer: it echoes head and ordinal."""
        return Receipt(self.offer, ref, provider_at, answer, self.ledger_head, self.ordinal)


class Receipt(Struct, frozen=True, gc=False):
    """The provider has the offer. A provider that answers by itself puts its answer in."""

    offer: str
    ref: str
    provider_at: int | None = None
    answer: Answer | None = None
    ledger_head: str = ""
    """The offer's own, echoed: both sides then hold the same evidence."""
    ordinal: int = 0
    """The offer's own, echoed."""


class Undelivered(Struct, frozen=True, gc=False):
    """The offer was not taken: not there, throttled, refused as malformed. Delivered again under the same id."""

    offer: str
    why: str
    retry_after_us: int | None = None


class Covers(Struct, frozen=True, gc=False):
    """What a decline refuses beyond its own offer: such jobs, beforehand, until then."""

    classes: tuple[str, ...]
    """Empty: any class."""
    gpus: int
    """The largest job."""
    until: int
    """First moment at which it no longer holds, microseconds UTC."""


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """A provider's terminal word on one offer."""

    offer: str
    accepted: bool
    terms_hash: str | None = None
    """What an acceptance accepts; anything but the offer's own hash is a counter."""
    price: int | None = None
    """Micro-dollars per GPU-hour that an acceptance asks."""
    workers: int | None = None
    """How many workers an acceptance takes, inside the offer's range; None: all of them."""
    region: str | None = None
    accelerator: str | None = None
    ttl_us: int | None = None
    """How long the earmark lasts, from the answer."""
    reason: Reason | None = None
    """Of a decline."""
    scope: Scope = Scope.PROVIDER
    until: int | None = None
    """A decline's end, on our clock; None: this offer only."""
    detail: str = ""
    provider_at: int | None = None
    covers: Covers | None = None
    """Of a decline by a holder: its waiver of more than this offer."""
    by: str = ""
    """Who gave it by hand: the name of their token."""
    spot: bool = False
    """An acceptance's machines may be taken back after a notice; only where the terms allow it."""


class LaunchOrder(Struct, frozen=True, kw_only=True, gc=False):
    """One attempt to be started. The key is the idempotency token and the name of everything made for it."""

    key: str
    job: str
    project: str
    epoch: int
    offer: str
    region: str
    accelerator: str
    workers: int
    gpus: int
    """GPUs per worker."""
    cpus: int
    memory: int
    """Bytes per worker."""
    delete_after_ms: int
    """Leak backstop: the provider may end it this long after launch."""
    attempt: str
    """JSON of `model.wire.AttemptEnv`, the agent's one environment variable."""
    requirements: tuple[str, ...] = ()
    ledger: str = ""
    """Our ledger's id, put on everything as a label beside our own."""
    term: int = 0
    price: int | None = None
    """Accepted, micro-dollars per GPU-hour; None: none was asked."""
    block: str = ""
    """Name of the owned block of capacity that it is to take; empty: none."""


class Confirmed(Struct, frozen=True, gc=False):
    """The provider has the launch under its key (made now or before)."""

    key: str
    ref: str = ""


class Rejected(Struct, frozen=True, gc=False):
    """The provider refuses the launch for good: nothing of it exists or will."""

    key: str
    reason: Reason
    scope: Scope = Scope.PROVIDER
    until: int | None = None
    detail: str = ""


class OutcomeUnknown(Struct, frozen=True, gc=False):
    """Sent, and no trustworthy reply: it may or may not exist."""

    key: str
    why: str


LaunchReply: TypeAlias = Confirmed | Rejected | OutcomeUnknown


class StopReply(Struct, frozen=True, gc=False):
    """Whether a stop was acknowledged. Only listings say that it worked."""

    key: str
    acknowledged: bool
    detail: str = ""


class Sighting(Struct, frozen=True, gc=False):
    """Machines seen under one launch key, as old as `seen_at` says."""

    key: str
    state: SightingState
    seen_at: int
    ledger: str = ""
    machines: tuple[str, ...] = ()
    gpus: int = 0
    detail: str = ""


class Charge(Struct, frozen=True, gc=False):
    """What the provider bills for one launch key so far; the same id again replaces the earlier amount."""

    id: str
    key: str
    microdollars: int
    gpu_seconds: int
    final: bool


class PriceRow(Struct, frozen=True, gc=False):
    """A provider's current price for one accelerator in one region, micro-dollars per GPU-hour."""

    accelerator: str
    region: str
    price: int


class Notice(Struct, frozen=True, gc=False):
    """Anything else worth telling. `kind`: considering | maintenance | capacity (some came free), which change nothing,
    or reclaim: the machines of `key` are taken back at `until`; what runs there is asked to save and stop."""

    kind: str
    offer: str = ""
    detail: str = ""
    key: str = ""
    until: int | None = None
    """On our clock."""


class Observation(Struct, frozen=True, gc=False):
    """One reply of the feed. Every answer given before the call arrived is in it (or in an earlier one)."""

    cursor: str
    as_of: int
    answers: tuple[Answer, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    charges: tuple[Charge, ...] = ()
    notices: tuple[Notice, ...] = ()
    prices: tuple[PriceRow, ...] = ()


class Listing(Struct, frozen=True, gc=False):
    """Everything alive that carries our label and a ledger id, as old as `as_of` says."""

    as_of: int
    sightings: tuple[Sighting, ...]


class Capabilities(Struct, frozen=True, kw_only=True, gc=False):
    """What a provider promises about itself; constant while we are connected."""

    firm: Firmness = Firmness.NONE
    idempotency: bool = True
    """A repeated launch key is recognised."""
    list_by_label: bool = True
    list_lag_us: int = 0
    """A listing may lack what was made less than this ago."""
    delete_after: bool = False
    max_open_offers: int = 64
    answers_itself: bool = False
    """Receipts carry the answer; no window is ever waited for."""
    store_url: str | None = None
    """Where jobs here reach the checkpoint store, if not under its own address: a forwarder, a VPC endpoint."""
