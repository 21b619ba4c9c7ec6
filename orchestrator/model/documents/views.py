"""What does the server tell a client? The answers of the HTTP API, as both sides type them.

Made by `api` from rows and events, read by `sdk` and the command line. Values only. JSON keys are camelCase;
moments are UTC, money is integer micro-dollars (per GPU-hour where it is a price). A client ignores what it
does not know, so that a newer server may say more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

ItemT = TypeVar("ItemT")


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="ignore"
    )


class FieldError(View):
    """One thing that is wrong with what was sent."""

    field: str = Field(description="path, e.g. `spec.workers.gpus`; empty: the whole")
    reason: str
    remedy: str = ""


_REFUSED: JsonDict = {
    "type": "urn:orchestrator:problem:invalid-job",
    "title": "invalid job",
    "status": 422,
    "detail": "the job is refused; nothing was kept",
    "fault": "caller",
    "remedy": "",
    "errors": [{"field": "spec.maxRuntim", "reason": "the field is not known", "remedy": "Did you mean maxRuntime?"}],
}
_RUNNING: JsonDict = {
    "id": "01K9Z3M5W2T8Q4N6R7VXYBCD0E",
    "project": "default",
    "name": "digits",
    "workers": 2,
    "state": "running",
    "ended": False,
    "submittedAt": "2026-01-01T00:00:00Z",
    "changedAt": "2026-01-01T00:02:10Z",
    "episode": 1,
    "round": 1,
    "provider": "coreweave",
    "attempts": [
        {
            "epoch": 1,
            "provider": "coreweave",
            "region": "US-EAST-04A",
            "accelerator": "H100",
            "state": "running",
            "intendedAt": "2026-01-01T00:01:00Z",
            "startedAt": "2026-01-01T00:02:10Z",
            "priceMicrousd": 2_600_000,
        }
    ],
    "progress": {"epoch": 1, "step": 120, "loss": "0.31", "checkpointStep": 100},
}


class ProblemView(View):
    """Why a request was refused (RFC 9457). `fault`: caller, operator or server."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REFUSED]})

    type: str
    title: str
    status: int
    detail: str
    fault: str = "caller"
    remedy: str = ""
    errors: list[FieldError] = []
    job: str = Field(default="", description="the job that the Idempotency-Key made before, from another body")

    @classmethod
    def of(cls, kind: str, status: int, detail: str, remedy: str = "", **more: Any) -> ProblemView:
        """The problem of this kind, whose words are joined by hyphens."""
        urn, title = f"urn:orchestrator:problem:{kind}", kind.replace("-", " ")
        return cls(type=urn, title=title, status=status, detail=detail, remedy=remedy, **more)


class SkipView(View):
    """A provider that was passed over, and why."""

    provider: str
    reason: str
    until: datetime | None = None


class OfferView(View):
    """One offer of a job to one provider."""

    id: str
    n: int
    provider: str
    state: str = Field(description="opened, delivered, accepted, declined, lapsed or withdrawn")
    clause: str = Field(default="", description="the first right that it honours; empty: the open market")
    trigger: str = Field(default="new", description="new, scale_up, replace or owned")
    block: str = Field(default="", description="owned capacity that it is for; empty: none")
    episode: int
    round: int
    contract: int = Field(default=0, description="contract version that it is judged by")
    opened_at: datetime
    delivered_at: datetime | None = None
    ended_at: datetime | None = None
    window_ms: int
    price_microusd: int | None = Field(default=None, description="asked by an acceptance, per GPU-hour")
    workers: int | None = Field(default=None, description="taken by an acceptance of an elastic or divisible job")
    region: str = ""
    reason: str = Field(default="", description="of a decline, a lapse or a withdrawal")
    scope: str = ""
    until: datetime | None = None
    detail: str = ""
    skipped: list[SkipView] = []


class AttemptView(View):
    """One try at one provider."""

    epoch: int
    provider: str
    region: str
    accelerator: str = ""
    state: str = Field(description="intended, confirmed, unknown, running or ended")
    intended_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    how: str = Field(default="", description="of an end: done, released, fenced, rejected or gone")
    why: str = ""
    price_microusd: int | None = Field(default=None, description="accepted, per GPU-hour")
    workers: int | None = Field(default=None, description="accepted of an elastic or divisible job; null: as asked")
    charge_microusd: int | None = Field(default=None, description="billed; null while the provider has not said")
    ran_ms: int = Field(default=0, description="user-code time")


class ProgressView(View):
    """What user code last reported."""

    epoch: int
    step: int | None = None
    loss: str | None = None
    checkpoint_step: int | None = None
    at: datetime | None = None


class JobView(View):
    """Where a job stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RUNNING]})

    id: str
    project: str
    name: str = Field(description="a label, not unique")
    state: str = Field(
        description="queued, offering, launching, running, recovering, stopping, held, succeeded, failed or cancelled"
    )
    ended: bool
    reason: str = Field(default="", description="why it is held, failed, or waits for its next round")
    exit: int | None = Field(default=None, description="exit code of user code, once it ended by itself")
    submitted_at: datetime
    changed_at: datetime
    ended_at: datetime | None = None
    wait_until: datetime | None = Field(default=None, description="when the next round starts at the latest")
    episode: int
    round: int
    cancel_asked: bool = False
    ending: bool = Field(default=False, description="over, but no word yet that its machines are gone")
    provider: str = Field(default="", description="who has it, or is being asked now")
    rest_of: str = Field(default="", description="offer of another job: this job is what a part accepted of it left")
    rest: str = Field(default="", description="job that is what was left when a part of this one was accepted")
    workers: int = Field(description="how many it has; of a range the most")
    min_workers: int | None = Field(default=None, description="of a range the least; null: it has so many")
    next_workers: int | None = Field(
        default=None, description="what it has once its attempt, which is asked to stop for it, is over"
    )
    next_min_workers: int | None = Field(default=None, description="the least of `next_workers` then; null: all")
    first_piece: int = Field(default=0, description="of a part of a divisible job, its first among those of the whole")
    attempts: list[AttemptView] = []
    progress: ProgressView | None = Field(default=None, description="with one job that was asked for only")
    document: dict[str, Any] | None = Field(default=None, description="what was submitted; with one job only")
    notices: list[str] = Field(
        default=[], description="what to know besides, e.g. why its machines are not there yet; with one job only"
    )


class EventView(View):
    """One event of the ledger."""

    seq: int
    at: datetime
    kind: str
    project: str
    job: str
    body: dict[str, Any] | None = Field(default=None, description="null where it was redacted")


class LineView(View):
    """One sentence about one event."""

    at: datetime
    kind: str
    provider: str = ""
    text: str = Field(description="with times and numbers")
    plain: str = Field(description="without")
    tone: str = Field(description="plain, good, warn or bad")


class ExplainView(View):
    """What happened to a job, and why it stands where it stands."""

    job: JobView
    why: str = Field(description="one sentence on where it stands now")
    lines: list[LineView]


class ProviderView(View):
    """How a provider looks from here."""

    name: str
    reachable: bool
    since: datetime | None
    """None: ever since this ledger knows it."""
    open_offers: int
    active_attempts: int
    detail: str = ""


class CheckView(View):
    """What is missing for a provider to work, each with its remedy; empty when all is well."""

    provider: str
    missing: list[str]


class StoreCheckView(View):
    """What is missing for a checkpoint store to work, each with its remedy; empty when all is well."""

    store: str
    missing: list[str]


class InForceView(View):
    """What decides now."""

    contract: int = Field(description="version of the contract set; 0: none was ever in force")
    contract_digest: str = Field(description="empty: no contract set, hence no gate")
    contract_document: Any = None
    providers: int
    providers_digest: str
    providers_document: Any = None
    head: int = Field(default=0, description="sequence number of the newest event: where to begin to follow them")


class RecordView(View):
    """Something that an attester put on record. What its subject leaves out is any."""

    id: str
    what: str = Field(description="consent, evidence, waiver, event, class or override")
    name: str = Field(default="", description="of evidence, an event or a class")
    holder: str = Field(default="", description="whose consent or waiver it is")
    clause: str = ""
    project: str = ""
    job: str = ""
    block: str = Field(
        default="", description="PROVIDER/NAME of a block of owned capacity whose prolonging it is about"
    )
    block_to: datetime | None = Field(default=None, description="the end that the block is to have by that")
    classes: list[str] = []
    cited: bool = Field(default=False, description="it counts only for jobs that cite it in spec.evidence")
    gpus: int | None = None
    until: datetime | None = Field(default=None, description="first moment at which it no longer counts")
    document: str = Field(default="", description="sha256 of the paper behind it")
    approver: str = ""
    why: str = Field(default="", description="in words; an override always says it")
    by: str = Field(default="", description="name of the token that recorded it: the attester")
    at: datetime


class BlockView(View):
    """A block of capacity that is owned."""

    name: str
    provider: str
    accelerator: str
    gpus: int
    region: str
    since: datetime
    until: datetime = Field(description="first moment at which it is over")
    price: int | None = Field(default=None, description="micro-dollars per GPU-hour that were agreed")
    contract: str = Field(default="", description="by which it was acquired")
    taken: int | None = Field(
        default=None, description="GPUs in it that are offered or in use; null where no server that leads says it"
    )


class PackageView(View):
    """A code package that the server has."""

    digest: str
    size: int


class Page(View, Generic[ItemT]):
    """Some of a listing, newest first; `next` goes into `before` to read on, null at the end."""

    items: list[ItemT]
    next: str | None = None
