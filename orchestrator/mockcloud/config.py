"""How is one mock cloud set up, and what is broken in it? The documents of its file and of its switchboard.

Called by the command line, the switchboard and the cloud. pydantic, camelCase on the wire, unknown fields refused.
All durations are integer milliseconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from orchestrator.mockcloud.profiles import names, profile

Capacity = dict[str, dict[str, int]]
"""Region to accelerator to GPUs."""


class Document(BaseModel):
    """Base: camelCase, frozen, nothing unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Span(Document):
    """A duration drawn evenly from [low, high] by the cloud's seed."""

    low: int = Field(default=0, ge=0)
    high: int = Field(default=0, ge=0)


class Bid(StrEnum):
    """What the cloud does with an offer."""

    AUTO = "auto"
    """By capacity, price and size."""
    ACCEPT = "accept"
    """Yes even without capacity: the launch then fails."""
    DECLINE = "decline"
    SILENT = "silent"


class Policy(Document):
    """How offers are answered."""

    bid: Bid = Bid.AUTO
    delay: Span = Span()
    """From delivery to the answer; without a delay the answer is in the reply."""
    late: int | None = None
    """Answer this long after the offer's window instead."""
    situation: str = "capacity"
    """Which of the cloud's own errors a decline cites."""
    hold_off: int | None = None
    """How long a decline is good, as the cloud says it; None: it does not say."""
    considering: bool = False
    """Say first that the offer is being considered."""
    price: int | None = None
    """Micro-dollars per GPU-hour asked instead of the list price."""
    counter: bool = False
    """Accept other terms than the offered ones."""
    times: int | None = Field(default=None, ge=1)
    """For so many offers, then the next policy; None: for ever."""


class Network(StrEnum):
    """How one of the cloud's two networks fares: its API, or its jobs' way to the store."""

    UP = "up"
    REFUSE = "refuse"
    """Connections are refused, open ones reset."""
    HANG = "hang"
    """Connections are taken and never answered."""
    ERROR = "error"
    """Every request is answered 503."""


class Deed(StrEnum):
    """What happens to one matching request."""

    LOSE_REQUEST = "lose_request"
    """The connection is reset, nothing is done."""
    LOSE_REPLY = "lose_reply"
    """It is done, then the connection is reset."""
    HOLD = "hold"
    """The connection is reset; the request is kept and delivered later."""
    FAIL = "fail"
    """It is answered with `status`, nothing is done."""
    DELAY = "delay"
    """It is passed on after `after`."""


class Mishap(Document):
    """A fault of single requests, on one of the two networks."""

    on: str = Field(default="api", pattern="^(api|store)$")
    method: str = ""
    """Empty: any."""
    path: str = ""
    """A regular expression searched in the path; empty: any."""
    body: str = ""
    """A regular expression searched in the body; empty: any."""
    do: Deed
    times: int = Field(1, ge=1)
    status: int = 503
    after: int | None = None
    """DELAY: the wait. HOLD: deliver by itself after so long; None: when the store network is joined again."""
    then: str = Field(default="", pattern="^(|cut|outage)$")
    """HOLD: what is cut at the very moment: the store network, or both."""


class Faults(Document):
    """Everything that is broken now."""

    api: Network = Network.UP
    store: Network = Network.UP
    latency: int = 0
    """Added to every API request."""
    throttle: int | None = None
    """Every API request is refused with this Retry-After."""
    mishaps: tuple[Mishap, ...] = ()
    launch: str = ""
    """Situation with which every launch is refused (accepted, then failed); `dies`: taken, then never up."""
    listing: str = Field(default="true", pattern="^(true|empty|frozen)$")
    terminate: str = Field(default="works", pattern="^(works|silent)$")
    delete_after: str = Field(default="honoured", pattern="^(honoured|ignored)$")
    tokens: str = Field(default="kept", pattern="^(kept|forgotten)$")
    """Client tokens forgotten: a repeated launch makes another cluster."""
    partial_gang: bool = False
    """A launch that is refused leaves one machine behind."""
    double_billing: bool = False
    """Every final charge is billed twice under two ids."""
    clock_offset: int = 0
    """The cloud's clock is ahead by so much."""


class Quota(Document):
    """How many GPUs of one kind this account may use in one region at a time."""

    gpus: int = Field(ge=0)
    hold_off: int | None = None
    """How long a refusal for want of it is good, as the cloud says it; None: it does not say."""


Quotas = dict[str, dict[str, Quota]]
"""Region to accelerator to quota; what is not named has none."""


class Spot(Document):
    """Machines that are cheaper and may be taken back after a notice."""

    gpus: Capacity
    """In all, apart from the other capacity."""
    percent: int = Field(default=40, ge=1, le=100)
    """Of the list price."""
    notice: int = 120_000
    """From the notice until they are gone: 120 s at AWS, 30 s at Google Cloud and Azure."""
    lasts: Span | None = None
    """How long they are there before the cloud wants them back; None: until the switchboard says so."""


class Throttle(Document):
    """How many API requests a second are taken."""

    per_second: float = Field(default=200.0, gt=0)
    burst: int = Field(default=400, ge=1)


class Machines(StrEnum):
    """What a cluster is made of."""

    RAY = "ray"
    """A real Ray head with fake GPUs."""
    PROCESS = "process"
    """A small server of the same REST API that runs entrypoints as plain processes."""
    PAPER = "paper"
    """Nothing: a record that ends after `paper_run`."""


def _http_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


class CloudConfig(Document):
    """One cloud, as its file says."""

    cloud: str
    seed: int = 0
    port: int = 0
    """API; 0: any free one."""
    admin_port: int = 0
    store_port: int = 0
    store: str | None = None
    """Address of the checkpoint store that jobs reach through the cloud's forwarder; None: no forwarder."""
    token: str | None = None
    """None: drawn at the start."""
    admin_token: str | None = None
    machines: Machines = Machines.RAY
    regions: dict[str, str] | None = None
    """Region to jurisdiction; None: the cloud's own."""
    capacity: Capacity | None = None
    """GPUs; None: the cloud's own."""
    prices: dict[str, int] = {}
    """Accelerator to micro-dollars per GPU-hour, instead of the public list."""
    quotas: Quotas = {}
    spot: Spot | None = None
    """None: it has none."""
    provisioning: Span = Span(low=500, high=2000)
    termination: int = 200
    ttl: int = 600_000
    """How long an accepted offer's earmark is kept."""
    list_lag: int = 1000
    firm: str = Field(default="quota", pattern="^(none|quota|paid_hold)$")
    max_open_offers: int = 64
    throttle: Throttle = Throttle()
    charge_every: int = 10_000
    """How often the bill of a running cluster is renewed."""
    shown_terminated: int = 60_000
    """How long a terminated cluster stays in listings."""
    paper_run: int = 1000
    job_stop_wait: int = 60
    """Seconds that a head gives a stopped job: at least the attempts' grace + 5."""
    python: str | None = None
    """Interpreter of the clusters; None: the cloud's own."""
    policies: Annotated[tuple[Policy, ...], Field(min_length=1)] = (Policy(),)
    faults: Faults = Faults()

    @model_validator(mode="after")
    def _of_this_cloud(self) -> CloudConfig:
        """The cloud exists, and has a word for every situation that is named."""
        if self.cloud not in names():
            raise ValueError(f"no mock cloud is called {self.cloud!r}; known: {', '.join(names())}")
        known = profile(self.cloud).errors
        wanted = {policy.situation for policy in self.policies} | ({self.faults.launch} - {"", "dies"})
        unknown = sorted(wanted - set(known))
        if unknown:
            raise ValueError(f"no such situation: {', '.join(unknown)}; known: {', '.join(known)}")
        if self.store is not None and not _http_host(self.store):
            raise ValueError(f"the store's address must be http://host[:port], not {self.store!r}")
        return self
