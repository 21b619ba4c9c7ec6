"""Why does a job stand where it stands? The sentences behind `GET …/explain`. Pure; called by the job routes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.api.projections import job_view, moment
from orchestrator.core.explain import Line, timeline
from orchestrator.core.numbers import clock, so_many
from orchestrator.core.reasons import why
from orchestrator.core.sizes import stops
from orchestrator.model import event as kinds
from orchestrator.model.documents.views import ExplainView, LineView
from orchestrator.model.job import AttemptState, JobRow, JobState, OfferState
from orchestrator.ports.ledger import StoredEvent


def explain_view(
    row: JobRow, submitted: bytes, events: Iterable[StoredEvent], notices: Sequence[str] = ()
) -> ExplainView:
    """The whole life of a job in sentences. Redacted events are left out."""
    told = [(event.at, kinds.decode(event.body)) for event in events if event.body is not None]
    lines = timeline(told)
    stands = standing(row) + (_last_no(lines) if row.state is JobState.QUEUED and row.wait_until else "")
    job = job_view(row, submitted, notices=notices)
    return ExplainView(job=job, why=stands, lines=[line_view(line) for line in lines])


def _last_no(lines: Iterable[Line]) -> str:
    """What the round has come to nothing for."""
    noes = [line.text for line in lines if line.kind in ("OfferAnswered", "OfferLapsed", "Ended")]
    return f"; last: {noes[-1]}" if noes else ""


def line_view(line: Line) -> LineView:
    """One sentence."""
    return LineView(
        at=moment(line.at),
        kind=line.kind,
        provider=line.provider,
        text=line.text,
        plain=line.plain,
        tone=line.tone.value,
    )


def standing(row: JobRow) -> str:
    """One sentence on where the job stands and what it waits for."""
    match row.state:
        case JobState.QUEUED:
            return f"waits for the next round, {_until(row)}" if row.wait_until else "waits to be offered"
        case JobState.OFFERING:
            return _offering(row)
        case JobState.LAUNCHING | JobState.RUNNING | JobState.RECOVERING:
            return _attempting(row)
        case JobState.STOPPING:
            return "cancel was asked; waits for the end of its attempt"
        case JobState.HELD:
            return f"held: {why(row.reason)}"
        case JobState.FAILED:
            return f"failed: {why(row.reason)}" if row.reason else f"failed: user code ended with exit {row.exit}"
        case JobState.SUCCEEDED:
            return "done"
        case JobState.CANCELLED:
            return "cancelled as asked"


def _until(row: JobRow) -> str:
    return f"at {clock(row.wait_until or 0)} at the latest, earlier if capacity is released"


def _offering(row: JobRow) -> str:
    offer = row.offer
    if offer is None or offer.state not in (OfferState.OPENED, OfferState.DELIVERED):
        return "waits to be offered"
    right = f" by the first right {offer.clause}" if offer.clause else ""
    if offer.delivered_at is None:
        return f"offered to {offer.provider}{right}; not delivered yet"
    deadline = clock(offer.delivered_at + offer.window)
    return f"offered to {offer.provider}{right}; answer due by {deadline} (our own absence is added)"


def _attempting(row: JobRow) -> str:
    attempt = row.attempts[-1] if row.attempts else None
    if attempt is None:
        return row.state.value
    if row.state is JobState.RECOVERING:
        cut_off = "what may still run there is being fenced off"
        if attempt.why == "scaled":
            over = "has stopped" if attempt.started_at is not None else "did not start"
            size = f"with {so_many(row.size.workers, row.size.least)}" if row.size else "as large as before"
            return f"{over} at {attempt.provider}; {cut_off}, then it is offered {size}"
        return f"lost at {attempt.provider}; {cut_off}, then it goes on elsewhere"
    doing = "runs at" if row.state is JobState.RUNNING else "is being launched at"
    unsure = ", as far as we know: its provider does not answer" if attempt.state is AttemptState.UNKNOWN else ""
    size = f"to have {so_many(row.next.workers, row.next.least)}" if row.next else ""
    then = f"; asked to save and stop, {size}" if stops(row) else size and f"; {size} when it is placed again"
    return f"{doing} {attempt.provider} {attempt.region}".rstrip() + f" (attempt {attempt.epoch}){unsure}{then}"
