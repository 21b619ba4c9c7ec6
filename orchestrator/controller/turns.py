"""What is to be done about one TrainingJob object now? One look at it: submit its job, mirror it, or end it.

Called by `handlers` whenever the object's flag is raised. Each look begins anew from the object's status and the
server's answer, so that it does not matter who crashed in between. The intention to submit stands in the status before
the server is asked, the object's UID is the idempotency key: no object ever makes two jobs. Labels alone may change
after that; a job that the server made from earlier ones is this object's all the same. It knows nothing of Kopf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from orchestrator.controller.mirror import (
    FALSE,
    LONGEST,
    TRUE,
    UNKNOWN,
    Fact,
    Status,
    changed,
    condition,
    conditions,
    job_facts,
    job_status,
    progress_status,
    untold,
)
from orchestrator.controller.objects import job_of, refusal
from orchestrator.controller.server import SAFETY_S, Server, Watch
from orchestrator.model.documents import DocumentError
from orchestrator.model.documents.views import ExplainView, JobView, LineView
from orchestrator.sdk import AsyncClient, AsyncJob
from orchestrator.sdk.errors import (
    Busy,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    OrchestratorError,
    Unauthenticated,
    Unreachable,
)

ENDING_S, SOON_S, LATER_S = 1.0, 5.0, 60.0
KEY_LIFE = timedelta(days=7) - timedelta(hours=1)
"""How long the server surely remembers a key."""
UNSURE = (
    "whether it was submitted is not known, and the server keeps keys for 7 days only; "
    "look for it by `orchestrator jobs`"
)
KEY_EXPIRED = f"asking the server: {UNSURE}"
UNKNOWN_JOB = (
    "ending its job: the server knows no job {}, so it is another one, or has another ledger, and machines may run on; "
    "look for it by `orchestrator jobs` at the server that took it in"
)
REFUSED_NOW = (
    "ending its job, if it has one: whether it was submitted is not known, and the server would not take it in now; "
    "look for it by `orchestrator jobs`"
)
_REASONS: tuple[tuple[type[OrchestratorError], str], ...] = (
    (Busy, "server_busy"),
    (Unreachable, "server_unreachable"),
    (Unauthenticated, "token_unknown"),
    (Forbidden, "token_lacks_scope"),
    (NotFound, "unknown_job"),
    (Conflict, "conflict"),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a look came to."""

    status: Status = field(default_factory=dict)
    """What changes in the status."""
    lines: tuple[LineView, ...] = ()
    """What is to be told as Kubernetes events."""
    over: bool = False
    """Nothing will happen to this job any more."""


async def look(server: Server, watch: Watch, body: Mapping[str, Any], now: datetime) -> Turn:
    """Submit the job of this object, or mirror it."""
    watch.pause_s, unasked = SAFETY_S, watch.unasked
    try:
        if "job" in watch.status:
            return await _mirrored(server, watch, body, now)
        return await _submitted(server, watch, body, now)
    except DocumentError as error:
        return _not_taken(watch, body, now, refusal(error.problems), sure=not intended(watch.status))
    except Invalid as error:
        return _not_taken(watch, body, now, str(error), sure=unasked)
    except OrchestratorError as error:
        return _unsure(watch, body, now, error)


async def end(server: Server, watch: Watch, body: Mapping[str, Any], now: datetime) -> Turn:
    """The object is being deleted: cancel its job and see it to its end."""
    watch.pause_s = SAFETY_S
    if "job" not in watch.status:
        if not intended(watch.status):
            return Turn(over=True)  # the server never heard of it
        if _key_expired(watch.status, now):
            return _let_go(now, "key_expired", KEY_EXPIRED)  # to ask by an old key would make the second job
    try:
        async with server.asked() as client:
            job = await _job(client, watch, _unlabelled(body))
            if not job.view.ended and not job.view.cancel_asked:
                await job.cancel()
                await _seen(job)
            server.follow(job.id, body["metadata"]["uid"])
            return _told(watch, body, now, await job.explain(), job.view)
    except NotFound:
        return _let_go(now, "unknown_job", UNKNOWN_JOB.format(watch.status.get("job", "of this object")))
    except (DocumentError, Invalid) as error:  # it is judged before its key is looked up, and may be older than a rule
        why = refusal(error.problems) if isinstance(error, DocumentError) else str(error)
        return _let_go(now, "invalid", REFUSED_NOW, f": {' '.join(why.split())}")
    except OrchestratorError as error:
        return _unsure(watch, body, now, error)


def intended(status: Mapping[str, Any]) -> bool:
    """Whether the server may have heard of this object."""
    return condition(status, "Submitted").get("status") in (TRUE, UNKNOWN)


def _key_expired(status: Mapping[str, Any], now: datetime) -> bool:
    """Whether the server may have forgotten the key of this intention."""
    return now - datetime.fromisoformat(condition(status, "Submitted")["lastTransitionTime"]) > KEY_LIFE


def _unlabelled(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object without its labels: they may have become wrong since, and to end its job they matter to nobody."""
    return {**body, "metadata": {key: value for key, value in body["metadata"].items() if key != "labels"}}


def _let_go(now: datetime, kind: str, what: str, why: str = "") -> Turn:
    """The object goes although a job of it may be there, and says so."""
    text = f"deleted without {what}; if it is there, `orchestrator cancel` ends it{why}"[:LONGEST]
    return Turn(lines=(LineView(at=now, kind=kind, text=text, plain=text, tone="warn"),), over=True)


async def _job(client: AsyncClient, watch: Watch, body: Mapping[str, Any]) -> AsyncJob:
    """The job of this object: by its id, or by its key where the answer to its submission was lost."""
    if "job" in watch.status:
        return await client.job(watch.status["job"])
    try:
        job = await client.submit(job_of(body), key=body["metadata"]["uid"])
    except Conflict as error:
        if not error.problem.job:
            raise
        return await client.job(error.problem.job)  # the same object's, of other labels
    await _seen(job)
    return job


async def _seen(job: AsyncJob) -> None:
    """Look at a job that is over already: the answer to a wish does not say whether machines of it are left."""
    if job.view.ended:
        await job.refresh()


async def _submitted(server: Server, watch: Watch, body: Mapping[str, Any], now: datetime) -> Turn:
    job_of(body)
    if server.away:
        raise Unreachable(server.away)
    if not intended(watch.status):
        watch.unasked = True
        watch.flag.set()
        fact = Fact("Submitted", UNKNOWN, "Submitting", "the server is being asked to take it in")
        return _turn(watch, body, now, {"state": "pending", "reason": None}, [fact])
    if _key_expired(watch.status, now):
        why = f"{UNSURE}; to run it (again), delete this object and apply it anew"
        return _turn(watch, body, now, {"state": "refused", "reason": "key_expired", "message": why}, [])
    async with server.asked() as client:
        watch.unasked = False
        job = await _job(client, watch, body)
        server.follow(job.id, body["metadata"]["uid"])
        return _told(watch, body, now, await job.explain(), job.view)


async def _mirrored(server: Server, watch: Watch, body: Mapping[str, Any], now: datetime) -> Turn:
    job_id = watch.status["job"]
    server.follow(job_id, body["metadata"]["uid"])
    async with server.asked() as client:
        job = await client.job(job_id)
        told = await job.explain()
    if told.job.state == "running":
        watch.pause_s = server.progress_pace()
    return _told(watch, body, now, told, job.view)


def _told(watch: Watch, body: Mapping[str, Any], now: datetime, told: ExplainView, seen: JobView) -> Turn:
    """`seen` is the job a moment before `told`: what was over then is over for good."""
    lines = untold(watch.status, told.lines)
    turn = _turn(watch, body, now, job_status(told) | progress_status(seen), job_facts(told))
    gone = seen.ended and not seen.ending
    if told.job.ended and not gone:
        watch.pause_s = ending_pace(now - (told.job.ended_at or now))  # no event says that machines are gone
    return Turn(turn.status, tuple(lines), gone)


def ending_pace(over: timedelta) -> float:
    """Seconds between two looks at a job whose machines are ending, `over` for so long already."""
    return min(max(ENDING_S, over.total_seconds() / 10), LATER_S)


def _not_taken(watch: Watch, body: Mapping[str, Any], now: datetime, why: str, *, sure: bool) -> Turn:
    """The job is refused. `sure`: nothing of it is at the server; else it may have taken it in when asked before."""
    fields = {"state": "refused", "reason": "invalid", "message": why.split("\n")[0]}
    return _turn(watch, body, now, fields, [Fact("Submitted", FALSE if sure else UNKNOWN, "Invalid", why)])


def _unsure(watch: Watch, body: Mapping[str, Any], now: datetime, error: OrchestratorError) -> Turn:
    """The server does not say: what stands here may be old, and what is to be done is done later."""
    reason = next((name for kind, name in _REASONS if isinstance(error, kind)), "refused")
    watch.pause_s = SOON_S if reason in ("server_busy", "server_unreachable") else LATER_S
    name = "".join(word.capitalize() for word in reason.split("_"))
    facts = [Fact("Synced", FALSE, name, str(error))]
    fields: Status = {}
    if "job" not in watch.status:
        fields = {"state": "pending", "reason": reason, "message": str(error).split("\n")[0]}
        if not intended(watch.status):
            facts.append(Fact("Submitted", FALSE, name, "not submitted yet; tried again until the server answers"))
    return _turn(watch, body, now, fields, facts)


def _turn(watch: Watch, body: Mapping[str, Any], now: datetime, fields: Status, facts: list[Fact]) -> Turn:
    """The change of the status that these fields and facts make; remembered as done."""
    generation = int(body["metadata"].get("generation", 1))
    new = fields | {"observedGeneration": generation}
    new["conditions"] = conditions(watch.status.get("conditions") or (), facts, now, generation)
    change = changed(watch.status, new)
    watch.status = {key: value for key, value in (watch.status | new).items() if value is not None}
    return Turn(change)
