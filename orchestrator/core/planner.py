"""What follows from a fact? The one door between the loop and the decisions.

Called by the engine: `on_fact` for each fact of a turn, then `finish` once. It emits events into the turn; it never
waits, never asks a clock, never calls anybody outside core. A fact about something long over changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core import facts as f
from orchestrator.core import failover, restoring
from orchestrator.core.moves import may_enter
from orchestrator.core.offering import on_answer
from orchestrator.core.owning import on_owned
from orchestrator.core.placing import place
from orchestrator.core.recording import on_amended, on_reachability, on_record, somebody_answers, take_back_if_freed
from orchestrator.core.scaling import on_scale
from orchestrator.core.standing import open_offer
from orchestrator.core.turn import Turn
from orchestrator.core.windows import undeliverable_at
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id, parse_launch_key, parse_offer_id
from orchestrator.model.job import JobRow, JobState
from orchestrator.model.offer import KEPT, Receipt


def on_fact(turn: Turn, fact: f.Fact) -> None:
    """Let one fact take effect."""
    match fact:
        case f.Wish():
            turn.book.known_shapes.setdefault(fact.event.shape, fact.shape)
            turn.emit(fact.job, fact.event, fact.project)
        case f.Polled():
            _polled(turn, fact)
        case f.PollFailed():
            _poll_failed(turn, fact)
        case f.ProviderDown(provider):
            turn.book.mark(provider, up=False, now=turn.now)
            failover.on_provider_down(turn, provider)
            on_reachability(turn)
        case f.ProviderUp(provider):
            turn.book.mark(provider, up=True, now=turn.now)
            turn.book.wake(provider, probes=None)
            on_reachability(turn)
        case f.CapacityReleased(provider):
            turn.book.wake(provider)
        case f.Launched():
            _launched(turn, fact)
        case f.Sighted():
            _sighted(turn, fact)
        case f.Delivery():
            _delivery(turn, fact)
        case f.Priced():
            _priced(turn, fact)
        case f.Stray():
            _stray(turn, fact)
        case _:
            _on_job_fact(turn, fact)


def _on_job_fact(turn: Turn, fact: f.Fact) -> None:
    match fact:
        case f.RecordWish(record):
            on_record(turn, record)
            return
        case f.Amended():
            on_amended(turn, fact)
            return
        case f.OwnedWish(blocks, by):
            on_owned(turn, blocks, by)
            return
        case f.LogEnd():
            restoring.found(turn, fact)
            restoring.all_read(turn)
            return
    job: str = fact.job  # type: ignore[union-attr]
    row = _decided(turn, job)
    if row is not None:
        _ON_JOB[type(fact)](turn, row, fact)


def _decided(turn: Turn, job: str) -> JobRow | None:
    """The row of a job that we may decide about."""
    return turn.book.jobs.get(job) if job not in turn.book.unread else None


def _due(turn: Turn, row: JobRow, fact: f.Due) -> None:
    failover.on_due(turn, row)


def _resume(turn: Turn, row: JobRow, fact: f.ResumeWish) -> None:
    if row.state is JobState.HELD:
        turn.emit(row.job, ev.Resumed(fact.by))


def _cancel(turn: Turn, row: JobRow, fact: f.CancelWish) -> None:
    failover.on_cancel(turn, row, fact.by)


def _told(turn: Turn, row: JobRow, fact: f.AnswerWish) -> None:
    on_answer(turn, row, parse_offer_id(fact.answer.offer)[1], fact.answer, fact.provider, sent=fact.sent)


def _visit(turn: Turn, row: JobRow, fact: f.VisitWish) -> None:
    if may_enter(row, fact.event.epoch):
        turn.emit(row.job, fact.event)


def finish(turn: Turn) -> None:
    """End the turn: timers that have come, then the heads of woken shapes."""
    for job in turn.book.pop_due(turn.now):
        on_fact(turn, f.Due(job))
    place(turn)


def _launched(turn: Turn, fact: f.Launched) -> None:
    job, epoch = parse_launch_key(fact.reply.key)
    row = _decided(turn, job)
    if row is not None and row.attempts and row.attempts[-1].epoch == epoch:
        failover.on_launch_reply(turn, row, fact)


def _sighted(turn: Turn, fact: f.Sighted) -> None:
    job, epoch = parse_launch_key(fact.sighting.key)
    row = _decided(turn, job)
    if row is not None:
        failover.on_sighting(turn, row, epoch, fact)


def _delivery(turn: Turn, fact: f.Delivery) -> None:
    job, n = parse_offer_id(fact.reply.offer)
    row = turn.book.jobs.get(job)
    offer = open_offer(row) if row is not None else None
    if row is None or offer is None or offer.n != n:
        return
    if not isinstance(fact.reply, Receipt):
        _undelivered(turn, row, fact.reply.why, fact.others_answer)
        return
    if offer.delivered_at is None:
        echo = fact.reply.ordinal, fact.reply.ledger_head
        exact = echo == (offer.ordinal, offer.head)
        row = turn.emit(job, ev.OfferDelivered(n, fact.reply.ref, fact.sent, None if exact else echo))
    if fact.reply.answer is not None:
        on_answer(turn, row, n, fact.reply.answer, fact.provider)


def _undelivered(turn: Turn, row: JobRow, why: str, others_answer: bool) -> None:
    """One more try failed. While others answer us it is not our network: the first starts a clock, the one after its
    end is a refusal. Where there is no such end, the offer stays open for as long as its clause holds. While nobody
    answers the clock stands at its beginning."""
    offer = open_offer(row)
    if offer is None:
        return
    limit = undeliverable_at(offer, turn.book.ledger.absences)
    if not others_answer:
        if offer.failed_at is not None and not somebody_answers(turn.book):
            turn.emit(row.job, ev.DeliveryFailed(offer.n, why[:KEPT], unheard=True))
    elif offer.failed_at is None:
        turn.emit(row.job, ev.DeliveryFailed(offer.n, why[:KEPT]))
    elif turn.now >= limit:
        turn.emit(row.job, ev.OfferLapsed(offer.n, "undeliverable", limit, turn.now))
        turn.released.append((offer.provider, offer_id(row.job, offer.n)))
    else:
        take_back_if_freed(turn, row)


def _polled(turn: Turn, fact: f.Polled) -> None:
    """Answers first; then what the same reply does not answer although its deadline had passed when it was asked."""
    for answer in fact.answers:
        job, n = parse_offer_id(answer.offer)
        row = turn.book.jobs.get(job)
        if row is not None:
            on_answer(turn, row, n, answer, fact.provider)
        elif answer.accepted:
            turn.released.append((fact.provider, answer.offer))
    for job, n, deadline in turn.book.pop_overdue(fact.provider, fact.sent_at):
        turn.emit(job, ev.OfferLapsed(n, "silence", deadline, fact.sent_at))
        turn.released.append((fact.provider, offer_id(job, n)))


def _poll_failed(turn: Turn, fact: f.PollFailed) -> None:
    """A closing poll without a reply: the offers it should have closed are now undeliverable, if others answer us."""
    for _, job, _ in turn.book.peek_overdue(fact.provider, fact.sent_at):
        row = turn.book.jobs[job]
        _undelivered(turn, row, "closing_poll_failed", fact.others_answer)


def _billed(turn: Turn, row: JobRow, fact: f.Billed) -> None:
    for attempt in row.attempts:
        if attempt.epoch == fact.epoch and attempt.ended_at is not None and attempt.charge != fact.microdollars:
            turn.emit(row.job, ev.Charged(fact.epoch, fact.microdollars, fact.gpu_seconds))


def _priced(turn: Turn, fact: f.Priced) -> None:
    turn.book.set_prices(fact.provider, {(row.accelerator, row.region): row.price for row in fact.rows})


def _stray(turn: Turn, fact: f.Stray) -> None:
    if fact.key not in turn.book.ledger.swept:
        turn.emit_ledger(ev.Swept(fact.provider, fact.key, fact.gpus))


_ON_JOB: dict[type, Callable[[Turn, JobRow, Any], None]] = {
    f.Due: _due, f.CancelWish: _cancel, f.ResumeWish: _resume, f.StartSeen: failover.on_start,
    f.DoneSeen: failover.on_done, f.ReleaseSeen: failover.on_release, f.BeatSeen: failover.on_beat,
    f.BeatSilent: failover.on_silence, f.FencePlaced: failover.on_fence, f.StopPlaced: failover.on_stop_placed,
    f.VisitWish: _visit, f.ScaleWish: on_scale, f.AnswerWish: _told,
    f.Unstarted: failover.on_unstarted, f.GoneSeen: failover.on_gone, f.ReclaimSeen: failover.on_reclaim,
    f.Billed: _billed,
}  # fmt: skip
