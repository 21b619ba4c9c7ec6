"""How does a job, as the server tells of it, look as the status of an object? Pure.

Called by `turns` with what the server said and the status that stands there. It keeps the moments at which a condition
changed, and says which lines of the job's life were not told as Kubernetes events yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from orchestrator.model.documents.views import ExplainView, JobView, LineView

Status = dict[str, Any]
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
LONGEST = 1000  # characters of a message


class Fact(NamedTuple):
    """A condition without its times."""

    type: str
    status: str
    reason: str
    message: str = ""


def moment(at: datetime) -> str:
    """RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def camel(code: str) -> str:
    """`start_by_passed` -> `StartByPassed`: a reason as conditions have it."""
    return "".join(word[:1].upper() + word[1:] for word in code.replace("-", "_").split("_") if word)


def conditions(
    old: Iterable[Mapping[str, Any]], facts: Sequence[Fact], now: datetime, generation: int
) -> list[dict[str, Any]]:
    """The old conditions with these facts in their places; a fact that stands keeps its time of transition."""
    found = {str(one["type"]): dict(one) for one in old}
    for fact in facts:
        before = found.get(fact.type, {})
        since = (
            before["lastTransitionTime"] if before.get("status") == fact.status else moment(now.replace(microsecond=0))
        )
        found[fact.type] = {
            "type": fact.type,
            "status": fact.status,
            "reason": fact.reason,
            "message": fact.message[:LONGEST],
            "lastTransitionTime": since,
            "observedGeneration": generation,
        }
    return list(found.values())


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One condition of a status; empty where it is not there."""
    return next((one for one in status.get("conditions") or () if one["type"] == kind), {})


def job_status(told: ExplainView) -> Status:
    """The fields of a status that mirror a job; None removes one."""
    job = told.job
    last = job.attempts[-1] if job.attempts else None
    started = [attempt.started_at for attempt in job.attempts if attempt.started_at]
    found: Status = {
        "job": job.id,
        "state": job.state,
        "reason": job.reason or None,
        "message": told.why[:LONGEST],
        "provider": job.provider or None,
        "region": (last.region or None) if last else None,
        "attempt": last.epoch if last else None,
        "exitCode": job.exit,
        "submittedAt": moment(job.submitted_at),
        "startedAt": moment(started[0]) if started else None,
        "endedAt": moment(job.ended_at) if job.ended_at else None,
    }
    if told.lines:
        found["toldUntil"] = moment(told.lines[-1].at)
    return found


def progress_status(job: JobView) -> Status:
    """What only a close look shows: what user code last reported, and what became of its machines."""
    seen = job.progress
    rows: Status = {"step": seen.step, "checkpointStep": seen.checkpoint_step, "loss": seen.loss} if seen else {}
    rows["machines"] = ("ending" if job.ending else "gone") if job.ended else None
    return {key: value for key, value in rows.items() if value is not None}


def job_facts(told: ExplainView) -> list[Fact]:
    """The conditions of an object whose job the server knows."""
    job, state = told.job, camel(told.job.state)
    running = TRUE if job.state == "running" else FALSE
    bad = job.state in ("failed", "cancelled")
    why = camel(job.reason) or ("UserFailure" if job.state == "failed" else state)
    return [
        Fact("Submitted", TRUE, "Submitted", f"it is job {job.id} of project {job.project}"),
        Fact("Synced", TRUE, "Synced", "this is how it stands at the server"),
        Fact("Running", running, state, told.why),
        Fact("Complete", TRUE if job.state == "succeeded" else FALSE, state, told.why if job.ended else ""),
        Fact("Failed", TRUE if bad else FALSE, why if bad else state, told.why if bad else ""),
    ]


def untold(status: Mapping[str, Any], lines: Sequence[LineView]) -> list[LineView]:
    """The lines of a life that are newer than what was told."""
    until = status.get("toldUntil")
    return [line for line in lines if until is None or line.at > datetime.fromisoformat(until)]


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Status:
    """What of `new` differs, for a merge patch: None removes a field."""
    return {key: value for key, value in new.items() if old.get(key) != value}
