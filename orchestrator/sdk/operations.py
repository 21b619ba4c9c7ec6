"""What is said to the server for each thing that a client can do? Generators without I/O, shared by both clients.

Each yields a `Call` (gets a `Reply` or `Lost`) or a `Pause`, and returns a value. So the synchronous and the
asynchronous client differ only in how they send and sleep. Every call may be repeated: submissions carry a key.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError

from orchestrator.model.documents import DocumentError, TrainingJob, canonical_bytes, job_bytes, with_package
from orchestrator.model.documents.inside import StacksView
from orchestrator.model.documents.offers import OpenOfferView, OutcomeView, Said
from orchestrator.model.documents.scale import HowMany, Scale
from orchestrator.model.documents.views import (
    BlockView,
    CheckView,
    ExplainView,
    InForceView,
    JobView,
    OfferView,
    Page,
    ProblemView,
    ProviderView,
    RecordView,
    StoreCheckView,
    View,
)
from orchestrator.model.ids import is_job_id, is_offer_id
from orchestrator.sdk.errors import (
    BY_STATUS,
    Busy,
    Invalid,
    JobFailed,
    NotFound,
    OrchestratorError,
    Refused,
    Timeout,
    Unreachable,
)
from orchestrator.sdk.pack import pack

JOB_TYPE = "application/vnd.orchestrator.job+json"
FIRST_PAUSE_S, LONGEST_PAUSE_S, STREAM_PAUSE_S = 0.1, 2.0, 1.0
KEY = re.compile(r"[\x21-\x7e]{1,255}")
"""An idempotency key, as a header carries it."""
Param = str | int | bool


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    params: Mapping[str, Param | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    takes: tuple[int, ...] = ()
    """Statuses that are answers, not errors, besides 2xx."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer came; nobody knows whether the request arrived."""

    why: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Sleep for so long, then go on."""

    seconds: float


T = TypeVar("T")
ViewT = TypeVar("ViewT", bound=View)
Steps: TypeAlias = Generator[Call | Pause, Reply | Lost | None, T]
Notify: TypeAlias = Callable[[str], None]


# ---- one exchange ----------------------------------------------------------------------------------------------------


class Patience:
    """How long to go on asking a server that does not answer, with growing pauses. Seconds."""

    def __init__(self, limit_s: float) -> None:
        self._limit = limit_s
        self.renew()

    def renew(self) -> None:
        """It answered: begin anew."""
        self._end, self._next = time.monotonic() + self._limit, FIRST_PAUSE_S

    def pause(self, least: float = 0.0) -> float | None:
        """Seconds to the next try; None once patience is at its end."""
        wait = max(self._next, least)
        self._next = min(self._next * 2, LONGEST_PAUSE_S)
        return wait if time.monotonic() + wait <= self._end else None


def exchange(call: Call, patience: Patience) -> Steps[Reply]:
    """Ask until there is an answer; busy servers and lost replies are asked again. Raises Refused, Unreachable."""
    while True:
        reply = yield call
        if isinstance(reply, Reply) and (reply.status < 300 or reply.status in call.takes):
            return reply
        yield Pause(next_try(reply, patience))


def next_try(lost: Reply | Lost | None, patience: Patience) -> float:
    """After how many seconds to ask again. Raises Refused where that is useless, Unreachable at patience's end."""
    if lost is None:  # it did answer; the stream ended before the job did, as when a server stops
        patience.renew()
        return STREAM_PAUSE_S
    if isinstance(lost, Reply) and lost.status != 503:
        raise refusal(lost)
    said = lost.headers.get("retry-after", "") if isinstance(lost, Reply) else ""
    wait = patience.pause(float(said) if said.isdecimal() else 0.0)
    if wait is not None:
        return wait
    if isinstance(lost, Reply):
        raise refusal(lost)
    raise Unreachable(f"the server does not answer ({lost.why}); is it up? See `orchestrator doctor`")


def lost(answer: Reply | Lost) -> OrchestratorError:
    """The exception behind an answer that is none, where asking again would not help."""
    return refusal(answer) if isinstance(answer, Reply) else Unreachable(f"the connection broke ({answer.why})")


def refusal(reply: Reply) -> Refused | Unreachable:
    """The exception behind a refusal. What somebody else answers for the server, an ingress say, refuses nothing."""
    try:
        problem = ProblemView.model_validate_json(reply.content)
    except ValidationError:
        said = " ".join(reply.content[:200].decode(errors="replace").split())
        what = f"the answer is not the server's (status {reply.status}): {said or 'empty'}"
        remedy = "is this address an orchestrator server, and what stands before it?"
        if reply.status != 503:
            return Unreachable(f"{what}; {remedy}")
        problem = ProblemView.of("not-ours", reply.status, what, remedy)
    return BY_STATUS.get(reply.status, Refused)(problem)


def _of(job: str, rest: str = "") -> str:
    """The path of a job. Raises NotFound for what is no id, so that it cannot lead to another route."""
    if not is_job_id(job):
        raise NotFound(
            ProblemView.of("unknown-job", 404, f"{job!r} is no job id", "`orchestrator jobs` lists what there is")
        )
    return f"/v1/jobs/{job}{rest}"


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        remedy = "use 1 to 255 printable ASCII characters without spaces"
        raise Invalid(ProblemView.of("invalid-key", 422, f"the idempotency key {key[:40]!r} cannot be sent", remedy))
    return key


def _ask(kind: type[ViewT], call: Call, patience: Patience) -> Steps[ViewT]:
    reply = yield from exchange(call, patience)
    return kind.model_validate_json(reply.content)


# ---- what a client can do --------------------------------------------------------------------------------------------


def submit(job: TrainingJob, key: str, notify: Notify, patience: Patience) -> Steps[JobView]:
    """Pack and upload the code if it is a folder, then submit under `key`."""
    headers = {"Content-Type": JOB_TYPE, "Idempotency-Key": _checked(key)}
    package = job.spec.run.package
    if package is not None and package.dir is not None:
        digest = yield from upload(Path(package.dir), job.metadata.project, notify, patience, job.spec.policy)
        job = with_package(job, f"sha256:{digest}")
    return (yield from _ask(JobView, Call("POST", "/v1/jobs", {}, headers, job_bytes(job)), patience))


def upload(folder: Path, project: str, notify: Notify, patience: Patience, policy: str = "") -> Steps[str]:
    """Pack a folder and make sure that the server has it, at the store of jobs of this policy; its digest, hexadecimal.

    Raises PackageError.
    """
    packed = pack(folder)
    for notice in packed.notices:
        notify(notice)
    path, params = f"/v1/packages/{packed.digest}", {"project": project} | ({"policy": policy} if policy else {})
    try:
        here = (yield from exchange(Call("HEAD", path, params, takes=(403, 404)), patience)).status == 200
    except Busy:  # why, an answer to HEAD cannot say; the answer to the upload does
        here = False
    if not here:
        headers = {"Content-Type": "application/zip"}
        yield from exchange(Call("PUT", path, params, headers, packed.data), patience)
    return packed.digest


def job(job: str, patience: Patience) -> Steps[JobView]:
    """Where a job stands."""
    return (yield from _ask(JobView, Call("GET", _of(job)), patience))


def jobs(
    project: str | None, states: Sequence[str], limit: int, before: str | None, patience: Patience
) -> Steps[Page[JobView]]:
    """One page of jobs, newest first."""
    params: dict[str, Param | Sequence[str]] = {"limit": limit, "state": list(states)}
    params |= {name: value for name, value in (("project", project), ("before", before)) if value}
    return (yield from _ask(Page[JobView], Call("GET", "/v1/jobs", params), patience))


def wish(job: str, verb: str, patience: Patience) -> Steps[JobView]:
    """`cancel` or `resume` a job."""
    return (yield from _ask(JobView, Call("POST", _of(job, f"/{verb}")), patience))


def scale(job: str, workers: HowMany, patience: Patience) -> Steps[JobView]:
    """Give a job another number of workers, or a range of it."""
    try:
        body, headers = canonical_bytes(Scale.said(workers)), {"Content-Type": "application/json"}
    except DocumentError as error:
        wrong = error.problems[0]
        raise Invalid(ProblemView.of("invalid-size", 422, wrong.reason, wrong.remedy)) from error
    return (yield from _ask(JobView, Call("POST", _of(job, "/scale"), {}, headers, body), patience))


def output_of(job: str, rank: int, follow: bool) -> Call:
    """What one rank prints, where it runs now."""
    return Call("GET", _of(job, "/logs"), {"rank": rank, "follow": follow})


def stacks(job: str, rank: int | None, patience: Patience) -> Steps[Page[StacksView]]:
    """What every rank is doing, or one."""
    params: dict[str, Param | Sequence[str]] = {} if rank is None else {"rank": rank}
    return (yield from _ask(Page[StacksView], Call("POST", _of(job, "/dump"), params), patience))


def explain(job: str, patience: Patience) -> Steps[ExplainView]:
    """A job's life in sentences."""
    return (yield from _ask(ExplainView, Call("GET", _of(job, "/explain")), patience))


def offers(job: str, patience: Patience) -> Steps[Page[OfferView]]:
    """Every offer of a job."""
    return (yield from _ask(Page[OfferView], Call("GET", _of(job, "/offers")), patience))


def open_offers(patience: Patience) -> Steps[Page[OpenOfferView]]:
    """What waits for the word of the token's provider."""
    return (yield from _ask(Page[OpenOfferView], Call("GET", "/v1/offers"), patience))


def answer(offer: str, said: Said, patience: Patience) -> Steps[OutcomeView]:
    """Answer an offer; the same answer again changes nothing."""
    if not is_offer_id(offer):
        remedy = "`orchestrator offers list` shows what is open"
        raise NotFound(ProblemView.of("unknown-offer", 404, f"{offer!r} is no offer id", remedy))
    body = said.model_dump_json(by_alias=True, exclude_none=True).encode()
    headers = {"Content-Type": "application/json"}
    return (yield from _ask(OutcomeView, Call("POST", f"/v1/offers/{offer}/answer", {}, headers, body), patience))


def providers(patience: Patience) -> Steps[Page[ProviderView]]:
    """All providers."""
    return (yield from _ask(Page[ProviderView], Call("GET", "/v1/providers"), patience))


def check_providers(patience: Patience) -> Steps[Page[CheckView]]:
    """What each provider lacks."""
    return (yield from _ask(Page[CheckView], Call("POST", "/v1/providers/check"), patience))


def check_stores(patience: Patience) -> Steps[Page[StoreCheckView]]:
    """What each checkpoint store lacks."""
    return (yield from _ask(Page[StoreCheckView], Call("POST", "/v1/stores/check"), patience))


def in_force(patience: Patience) -> Steps[InForceView]:
    """What decides now."""
    return (yield from _ask(InForceView, Call("GET", "/v1/contracts"), patience))


def apply_contracts(document: bytes, patience: Patience) -> Steps[InForceView]:
    """Let a contract set, YAML or JSON, take effect."""
    call = Call("POST", "/v1/contracts", {}, {"Content-Type": "application/yaml"}, document)
    return (yield from _ask(InForceView, call, patience))


def capacity(patience: Patience) -> Steps[Page[BlockView]]:
    """The blocks that are owned."""
    return (yield from _ask(Page[BlockView], Call("GET", "/v1/capacity"), patience))


def apply_capacity(document: bytes, patience: Patience) -> Steps[Page[BlockView]]:
    """Let another set of owned capacity, YAML or JSON, take effect."""
    call = Call("POST", "/v1/capacity", {}, {"Content-Type": "application/yaml"}, document)
    return (yield from _ask(Page[BlockView], call, patience))


def record(told: Mapping[str, Any], patience: Patience) -> Steps[RecordView]:
    """Put something on record; what is on record already is not put there twice."""
    headers = {"Content-Type": "application/json"}
    call = Call("POST", "/v1/records", {}, headers, json.dumps(dict(told)).encode())
    return (yield from _ask(RecordView, call, patience))


def records(patience: Patience) -> Steps[Page[RecordView]]:
    """What is on record."""
    return (yield from _ask(Page[RecordView], Call("GET", "/v1/records"), patience))


def complete(job: str | None, follow: bool, patience: Patience) -> Steps[bool]:
    """Whether a stream (job None: of everything) that ended has brought all there will be."""
    if not follow or job is None:
        return not follow
    view = yield from _ask(JobView, Call("GET", _of(job)), patience)
    return view.ended


def wait(job: str, timeout_s: float | None, check: bool, patience_s: float, *, parts: bool) -> Steps[JobView]:
    """Until the job, and with `parts` all that was left of it when it was split, have ended; its own end.

    Raises Timeout, and JobFailed where `check` is set and one of them did not succeed.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    views = [(yield from _ended(job, timeout_s, end, patience_s))]
    while parts and (rest := views[-1].rest):
        views.append((yield from _ended(rest, timeout_s, end, patience_s)))
    if check and (failed := next((view for view in views if view.state != "succeeded"), None)) is not None:
        raise JobFailed(failed)
    return views[0]


def _ended(job: str, timeout_s: float | None, end: float | None, patience_s: float) -> Steps[JobView]:
    """One job's end."""
    pause_s = FIRST_PAUSE_S
    while True:
        view = yield from _ask(JobView, Call("GET", _of(job)), Patience(patience_s))
        if view.ended:
            return view
        if end is not None and time.monotonic() + pause_s > end:
            raise Timeout(f"job {job} is {view.state} after {timeout_s} s of waiting; it goes on")
        yield Pause(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
