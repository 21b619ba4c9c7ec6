"""How do rows and events look from outside? The views that the routes answer with. Pure; called by the routes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.model import event as kinds
from orchestrator.model.documents.views import (
    AttemptView,
    EventView,
    JobView,
    OfferView,
    ProgressView,
    ProviderView,
    SkipView,
)
from orchestrator.model.ids import offer_id
from orchestrator.model.job import TERMINAL, AttemptRow, AttemptState, JobRow, JobState
from orchestrator.ports.desk import Progress, ProviderStatus
from orchestrator.ports.ledger import StoredEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIVE_OFFER = ("opened", "delivered", "accepted")


def moment(us: int) -> datetime:
    """Microseconds UTC as a datetime."""
    return _EPOCH + timedelta(microseconds=us)


def maybe(us: int | None) -> datetime | None:
    """The same, where there may be none (null or 0)."""
    return moment(us) if us else None


def attempt_view(row: AttemptRow) -> AttemptView:
    """One try."""
    return AttemptView(
        epoch=row.epoch,
        provider=row.provider,
        region=row.region,
        accelerator=row.accelerator,
        state=row.state.value,
        intended_at=moment(row.intended_at),
        started_at=maybe(row.started_at),
        ended_at=maybe(row.ended_at),
        how=row.how,
        why=row.why,
        price_microusd=row.price,
        workers=row.workers,
        charge_microusd=row.charge,
        ran_ms=row.ran_ms,
    )


def _reason(row: JobRow) -> str:
    """Why it is held or failed, or was refused last while it waits for its next round; over as asked has no reason."""
    if row.state is JobState.CANCELLED:
        return ""
    if row.state is not JobState.QUEUED or row.wait_until is None:
        return row.reason
    noes = [(no.at, no.reason or no.how) for no in row.refusals]
    noes += [(one.ended_at or 0, one.why or one.how) for one in row.attempts if one.state is AttemptState.ENDED]
    return max(noes, default=(0, ""))[1]


def _size(row: JobRow, submitted: bytes) -> tuple[int, int | None]:
    """(the most workers that it has, the least of a range)."""
    if row.size:
        return row.size.workers, row.size.least or None
    count = row.part or json.loads(submitted)["spec"].get("workers", {}).get("count", 1)
    most, least = (count["max"], count["min"]) if isinstance(count, dict) else (count, count)
    return most, least if least < most else None


def job_view(
    row: JobRow, submitted: bytes, progress: Progress | None = None, notices: Sequence[str] = (), *, whole: bool = False
) -> JobView:
    """A job, with its latest report and notices where the caller has them, and with what was `submitted` if `whole`."""
    most, least = _size(row, submitted)
    return JobView(
        id=row.job,
        project=row.project,
        name=row.name,
        state=row.state.value,
        ended=row.state in TERMINAL,
        reason=_reason(row),
        exit=row.exit,
        submitted_at=moment(row.submitted_at),
        changed_at=moment(row.applied_at or row.submitted_at),
        ended_at=maybe(row.ended_at),
        wait_until=maybe(row.wait_until),
        episode=row.episode,
        round=row.round,
        cancel_asked=row.cancel_asked,
        provider=_provider(row),
        rest_of=row.rest_of,
        rest=row.rest,
        workers=most,
        min_workers=least,
        next_workers=row.next.workers if row.next else None,
        next_min_workers=(row.next.least or None) if row.next else None,
        first_piece=row.piece,
        attempts=[attempt_view(attempt) for attempt in row.attempts],
        progress=progress_view(progress) if progress else None,
        document=json.loads(submitted) if whole else None,
        notices=list(notices),
    )


def _provider(row: JobRow) -> str:
    if row.attempts and (row.attempts[-1].state is not AttemptState.ENDED or row.state in TERMINAL):
        return row.attempts[-1].provider
    return row.offer.provider if row.offer and row.offer.state.value in _LIVE_OFFER else ""


def progress_view(progress: Progress) -> ProgressView:
    """What user code last reported."""
    return ProgressView(
        epoch=progress.epoch,
        step=progress.step,
        loss=progress.loss,
        checkpoint_step=progress.checkpoint_step,
        at=maybe(progress.at),
    )


def provider_view(status: ProviderStatus) -> ProviderView:
    """One provider."""
    return ProviderView(
        name=status.name,
        reachable=status.reachable,
        since=maybe(status.since or None),
        open_offers=status.open_offers,
        active_attempts=status.active_attempts,
        detail=status.detail,
    )


def event_view(stored: StoredEvent) -> EventView:
    """One event, its body as it lies in the ledger."""
    return EventView(
        seq=stored.seq,
        at=moment(stored.at),
        kind=stored.kind,
        project=stored.project,
        job=stored.job,
        body=json.loads(stored.body) if stored.body is not None else None,
    )


def offer_views(events: Iterable[StoredEvent]) -> list[OfferView]:
    """Every offer of one job, in order, folded from its events. Redacted bodies leave their offers out."""
    offers: dict[int, OfferView] = {}
    for stored in events:
        if stored.body is not None:
            _fold(offers, stored.job, moment(stored.at), kinds.decode(stored.body))
    return list(offers.values())


def _fold(offers: dict[int, OfferView], job: str, at: datetime, event: kinds.AnyEvent) -> None:
    match event:
        case kinds.OfferOpened():
            offers[event.n] = _opened(job, at, event)
        case kinds.OfferDelivered(n=n) if n in offers:
            offers[n] = offers[n].model_copy(update={"state": "delivered", "delivered_at": at})
        case kinds.OfferAnswered(n=n) if n in offers:
            offers[n] = offers[n].model_copy(update=_answered(at, event))
        case kinds.OfferLapsed(n=n) if n in offers:
            offers[n] = offers[n].model_copy(update={"state": "lapsed", "ended_at": at, "reason": event.how})
        case kinds.OfferWithdrawn(n=n) if n in offers:
            offers[n] = offers[n].model_copy(update={"state": "withdrawn", "ended_at": at, "reason": event.why})
        case _:
            pass


def _opened(job: str, at: datetime, event: kinds.OfferOpened) -> OfferView:
    return OfferView(
        id=offer_id(job, event.n),
        n=event.n,
        provider=event.provider,
        state="opened",
        clause=event.clause,
        trigger=event.trigger,
        block=event.block,
        episode=event.episode,
        round=event.round,
        contract=event.contract,
        opened_at=at,
        window_ms=event.window // 1000,
        skipped=[SkipView(provider=s.provider, reason=s.reason, until=maybe(s.until)) for s in event.skipped],
    )


def _answered(at: datetime, event: kinds.OfferAnswered) -> dict[str, object]:
    return {
        "state": "accepted" if event.accepted else "declined",
        "ended_at": at,
        "price_microusd": event.price,
        "workers": event.workers,
        "region": event.region,
        "reason": event.reason,
        "scope": event.scope,
        "until": maybe(event.until),
        "detail": event.detail,
    }
