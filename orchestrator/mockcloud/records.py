"""What does the cloud remember: offers with their answers, earmarks, clusters? And what do requests look like?

Called by the cloud and its HTTP face. Times are microseconds UTC, money is micro-dollars per GPU-hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import Field

from orchestrator.mockcloud.config import Document


class OfferIn(Document):
    """An offer as it arrives. `terms` are the exact bytes that `terms_hash` is taken of, as text."""

    id: str = Field(min_length=1)
    clause: str | None = None
    contract_version: int = 0
    version: int = 1
    workload: str = ""
    trigger: str = "new"
    terms: str
    terms_hash: str
    window_us: int = Field(gt=0)
    ledger_head: str = ""
    ordinal: int = 0


class Terms(Document):
    """What the cloud reads in an offer's terms; more may stand there."""

    model_config = Document.model_config | {"extra": "ignore"}

    accelerators: tuple[str, ...] = ()
    gpus_per_worker: int = 0
    workers: int = 1
    min_workers: int | None = None
    cpus: int = 0
    memory: int = 0
    ceiling_microusd: int | None = None
    regions: tuple[str, ...] = ()
    spot: bool = False

    @property
    def gpus(self) -> int:
        """GPUs over all workers."""
        return self.gpus_per_worker * self.workers

    @property
    def sizes(self) -> range:
        """Numbers of workers that will do."""
        return range(self.workers if self.min_workers is None else self.min_workers, self.workers + 1)


class ClusterOrder(Document):
    """A cluster to be made. `key` is the client token and its name."""

    key: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    offer: str | None = None
    region: str
    accelerator: str = ""
    workers: int = Field(ge=1)
    gpus: int = Field(ge=0)
    """Per worker."""
    cpus: int = Field(default=0, ge=0)
    memory: int = Field(default=0, ge=0)
    delete_after_ms: int = Field(gt=0)
    requirements: tuple[str, ...] = ()
    tags: dict[str, str] = Field(default_factory=dict)
    user_data: str = ""

    @property
    def all_gpus(self) -> int:
        """GPUs over all workers."""
        return self.gpus * self.workers

    @property
    def size(self) -> tuple[str, str, int, int]:
        """What a repetition of the same client token may not change."""
        return self.region, self.accelerator, self.workers, self.gpus


class Refusal(Exception):
    """The cloud says no: one of its situations, which its profile puts into its own words."""

    def __init__(
        self, situation: str, detail: str = "", *, retry_after: int | None = None, hold_off: int | None = None
    ) -> None:
        super().__init__(f"{situation}: {detail}" if detail else situation)
        self.situation = situation
        self.detail = detail
        self.retry_after = retry_after
        """Seconds."""
        self.hold_off = hold_off
        """How long the refusal is good, as the cloud says it, milliseconds; None: it does not say."""


@dataclass(slots=True)
class Earmark:
    """GPUs kept for an accepted offer; `gpus` 0 where the acceptance was a lie."""

    region: str
    accelerator: str
    gpus: int
    price: int | None
    expires: int
    spot: bool = False


@dataclass(slots=True)
class OfferRecord:
    """One offer and what became of it."""

    doc: OfferIn
    ref: str
    at: int
    answer: dict[str, object] | None = None
    earmark: Earmark | None = None
    withdrawn: bool = False


class ClusterState(StrEnum):
    """As the API says it."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    ENDED = "ended"
    """Ran to its end by itself (clusters of paper only)."""
    DELETING = "deleting"
    TERMINATED = "terminated"


@dataclass(slots=True, eq=False)
class Cluster:
    """Machines under one client token."""

    id: str
    order: ClusterOrder
    price: int | None
    created_at: int
    gpus: int
    """GPUs that it takes from the capacity."""
    history: list[tuple[int, ClusterState]] = field(default_factory=list)
    address: str = ""
    token: str = ""
    running_at: int | None = None
    ended_at: int | None = None
    detail: str = ""
    spot: bool = False
    reclaimed: bool = False
    """The cloud has given notice that it takes it back."""

    @property
    def state(self) -> ClusterState:
        """Now."""
        return self.history[-1][1]

    def state_at(self, moment: int) -> ClusterState | None:
        """Then; None before it was made."""
        return next((state for at, state in reversed(self.history) if at <= moment), None)

    def gpu_seconds(self, now: int) -> int:
        """What is billed: from running to the end, whole GPU-seconds, rounded down."""
        if self.running_at is None:
            return 0
        return (min(now, self.ended_at or now) - self.running_at) * self.gpus // 1_000_000
