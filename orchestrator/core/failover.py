"""Is an attempt alive, over, or unknown, and what follows for its job?

Called by the planner for launch replies, sightings, beats and run-log reads. The rule: unknown is a state, never a
failure; a job moves on only after a confirmed rejection or end, or behind a fence that its next attempt waits out.
"""

from __future__ import annotations

from orchestrator.core import facts as f
from orchestrator.core.standing import active, open_offer
from orchestrator.core.turn import Turn
from orchestrator.core.windows import (
    LOSS_MEMORY,
    cancel_overdue_at,
    missed_start_at,
    must_start_by,
    stop_overdue_at,
    unconfirmed_at,
)
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id
from orchestrator.model.job import AttemptRow, AttemptState, JobRow, JobState
from orchestrator.model.offer import KEPT, Confirmed, OutcomeUnknown, Reason, Rejected, Scope, SightingState

SAME_PLACE_WHYS = frozenset({"max_runtime", "user_failure", "stopped", "scaled"})
"""Ends that say nothing against the provider."""


def on_launch_reply(turn: Turn, row: JobRow, fact: f.Launched) -> None:
    """The provider's word on a launch."""
    attempt = active(row)
    if attempt is None or attempt.started_at is not None or row.fence > attempt.epoch:
        return  # behind an intended fence only the run log counts
    match fact.reply:
        case Confirmed() if attempt.state in (AttemptState.INTENDED, AttemptState.UNKNOWN):
            turn.emit(row.job, ev.LaunchConfirmed(attempt.epoch))
        case OutcomeUnknown() if attempt.state is AttemptState.INTENDED:
            turn.emit(row.job, ev.WentUnknown(attempt.epoch, "no_reply"))
        case Rejected() as no:
            _rejected(turn, row, attempt, no, fact.sent_at)


def _rejected(turn: Turn, row: JobRow, attempt: AttemptRow, no: Rejected, sent_at: int) -> None:
    offer = row.offer
    late = False
    if offer is not None and offer.ttl is not None and offer.answered_at is not None:
        late = sent_at > offer.answered_at + offer.ttl
    refused = turn.book.shape_of(row)  # as it was launched: when that is over it may be another
    row = turn.emit(row.job, ev.Ended(
        epoch=attempt.epoch, how="rejected", why=no.reason.value, charge=0, late=late,
        detail=no.detail[:KEPT], firm="" if late or offer is None else offer.firm,
    ))  # fmt: skip
    if no.reason is Reason.ERROR and not late:
        turn.book.providers[attempt.provider].memory.fail(row.job, turn.now)
    if no.reason is Reason.CAPACITY and not (offer and offer.clause):
        until = no.until or turn.now + 30_000_000
        turn.book.park(refused, attempt.provider, until)
    finish_stop(turn, row)


def on_sighting(turn: Turn, row: JobRow, epoch: int, fact: f.Sighted) -> None:
    """Machines were seen. Whatever they say of an end, the run log decides."""
    attempt = active(row)
    if attempt is None or attempt.epoch != epoch or attempt.provider != fact.provider:
        return
    state = fact.sighting.state
    alive = state in (SightingState.PROVISIONING, SightingState.RUNNING)
    if alive and attempt.state is AttemptState.INTENDED and row.fence <= epoch:
        row = turn.emit(row.job, ev.LaunchConfirmed(epoch))
    elif alive and attempt.state is AttemptState.UNKNOWN and attempt.why != "beat_silent" and row.fence <= epoch:
        row = turn.emit(row.job, ev.SeenAgain(epoch, "sighting"))
    if (state is SightingState.RUNNING and attempt.started_at is None) or not alive:
        turn.look.add(row.job)
    if state is SightingState.GONE and attempt.state is not AttemptState.INTENDED:
        _vanished(turn, row, attempt, fact.sighting.detail if attempt.started_at is None else "")


def _vanished(turn: Turn, row: JobRow, attempt: AttemptRow, detail: str) -> None:
    """Its machines are said to be gone: the fence reads the log first, so a done there wins."""
    current = active(row)
    if current is not None and current.state is not AttemptState.UNKNOWN:
        row = turn.emit(row.job, ev.WentUnknown(attempt.epoch, "machines_gone", detail[:KEPT]))
    fence(turn, row, "machines_gone")


def on_provider_down(turn: Turn, provider: str) -> None:
    """We cannot reach it: what runs there is unknown, and left alone."""
    for job in sorted(turn.book.providers[provider].jobs):
        row = turn.book.jobs[job]
        attempt = active(row)
        if attempt is not None and attempt.state in (AttemptState.CONFIRMED, AttemptState.RUNNING):
            row = turn.emit(job, ev.WentUnknown(attempt.epoch, "unreachable"))
        turn.touch(job)


def on_start(turn: Turn, row: JobRow, fact: f.StartSeen) -> None:
    """User code began."""
    attempt = active(row)
    if attempt is None or attempt.epoch != fact.epoch or attempt.started_at is not None:
        return
    if attempt.state is AttemptState.INTENDED:
        turn.emit(row.job, ev.LaunchConfirmed(fact.epoch))
    turn.emit(row.job, ev.Started(
        fact.epoch, fact.waited_ms, fact.cleared, fact.resumed_epoch, fact.resumed_step
    ))  # fmt: skip
    turn.book.providers[attempt.provider].memory.start()


def on_done(turn: Turn, row: JobRow, fact: f.DoneSeen) -> None:
    """The one way to be complete: user code ended by itself. After a restore from before a split the log may hold the
    end of a part, and the job would be the whole: that is no success."""
    attempt = active(row)
    if attempt is None or attempt.epoch != fact.epoch:
        return
    in_part = fact.workers is not None and attempt.workers is not None and fact.workers < attempt.workers
    failed = "done_in_part" if in_part else "" if fact.exit == 0 else "user_failure" if fact.began else "bad_package"
    charge, gpu_seconds = fact.billed if fact.billed else (None, None)
    turn.emit(row.job, ev.Ended(
        epoch=fact.epoch, how="done", exit=fact.exit, charge=charge, gpu_seconds=gpu_seconds, ran_ms=fact.ran_ms,
        why=failed, fails=failed,
    ))  # fmt: skip


def on_reclaim(turn: Turn, row: JobRow, fact: f.ReclaimSeen) -> None:
    """Its machines are taken back: it is asked, at its run log, to save and stop before they are."""
    attempt = active(row)
    if attempt is None or (attempt.epoch, attempt.provider) != (fact.epoch, fact.provider):
        return
    if row.fence > attempt.epoch or row.state is JobState.STOPPING or attempt.reclaim_at is not None:
        return
    if attempt.state is AttemptState.INTENDED:
        row = turn.emit(row.job, ev.LaunchConfirmed(attempt.epoch))
    turn.emit(row.job, ev.ReclaimNoticed(attempt.epoch, fact.until))


def on_release(turn: Turn, row: JobRow, fact: f.ReleaseSeen) -> None:
    """The attempt says that it is over and the job is not."""
    attempt = active(row)
    if attempt is None or attempt.epoch != fact.epoch:
        return
    stopping = row.state is JobState.STOPPING
    fails = ""
    if fact.why == "max_runtime":
        fails = "max_runtime"
    elif fact.crash_loop:
        fails = "crash_loop"
    why = _why_released(attempt, fact)
    fails = fails or _used_up(row, why)
    lost = why not in SAME_PLACE_WHYS
    row = turn.emit(row.job, ev.Ended(
        epoch=fact.epoch, how="released", why=why, ran_ms=fact.ran_ms, fails="" if stopping else fails,
        avoid_scope=Scope.PROVIDER.value if lost else "", avoid_until=turn.now + LOSS_MEMORY if lost else 0,
    ))  # fmt: skip
    if row.state is JobState.RECOVERING:
        fence(turn, row, why)
    finish_stop(turn, row)


def _why_released(attempt: AttemptRow, fact: f.ReleaseSeen) -> str:
    """What it was stopped for, where it says that it was: its log knows, a ledger that was put back may not."""
    if fact.why != "stopped":
        return fact.why
    if attempt.reclaim_at is not None:
        return "reclaimed"
    return "scaled" if fact.stopped_for == "scale" else fact.why


def _used_up(row: JobRow, why: str) -> str:
    """That no attempt is left to a job whose last one ends because of `why`; empty: there is. What was stopped for
    another size, then or before, is none of those that it may have."""
    used = sum(attempt.started_at is not None and attempt.why != "scaled" for attempt in row.attempts)
    return "max_attempts" if why != "scaled" and used >= row.max_attempts else ""


def on_beat(turn: Turn, row: JobRow, fact: f.BeatSeen) -> None:
    """It lives, whatever its provider says."""
    attempt = active(row)
    if attempt is None or attempt.epoch != fact.epoch or attempt.state is not AttemptState.UNKNOWN:
        return
    if turn.book.providers[attempt.provider].up and row.fence <= attempt.epoch:
        turn.emit(row.job, ev.SeenAgain(fact.epoch, "beat"))


def on_silence(turn: Turn, row: JobRow, fact: f.BeatSilent) -> None:
    """No beat for `limit` of our own readable time: take over, behind a fence."""
    attempt = active(row)
    if attempt is None or attempt.epoch != fact.epoch or row.on_unreachable == "confirmed_stop_only":
        return
    if row.fence > attempt.epoch:
        return
    if attempt.state is not AttemptState.UNKNOWN:
        row = turn.emit(row.job, ev.WentUnknown(attempt.epoch, "beat_silent"))
    fence(turn, row, "beat_silent")


def on_unstarted(turn: Turn, row: JobRow, fact: f.Unstarted) -> None:
    """A start is overdue and the run log holds none: leave it behind a fence."""
    attempt = active(row)
    if attempt is None or attempt.epoch != fact.epoch or attempt.started_at is not None or row.fence > attempt.epoch:
        return
    if attempt.state is not AttemptState.UNKNOWN:
        row = turn.emit(row.job, ev.WentUnknown(attempt.epoch, "never_started", fact.detail[:KEPT]))
    fence(turn, row, "start_by_passed" if turn.now >= missed_start_at(row) else "never_started")


def fence(turn: Turn, row: JobRow, why: str) -> JobRow:
    """Mean to fence everything so far; the loop then puts the fence, which reads the log first."""
    epoch = row.attempts[-1].epoch + 1
    return row if row.fence >= epoch else turn.emit(row.job, ev.Fencing(epoch, why))


def on_fence(turn: Turn, row: JobRow, fact: f.FencePlaced) -> None:
    """The fence stands: what is below can append nothing any more."""
    if row.ended_at is not None or row.fence != fact.epoch or row.fenced >= fact.epoch:
        return
    row = turn.emit(row.job, ev.Fenced(fact.epoch))
    attempt = active(row)
    if attempt is not None and attempt.epoch < fact.epoch:
        told = fact.stopped_for == "scale"  # behind which it might not start
        why = "scaled" if told and (fact.unclaimed or not attempt.why) else attempt.why or _why_fenced(row, attempt)
        refused = not told and _failed_its_acceptance(row, attempt)
        if refused and row.state is not JobState.STOPPING:
            turn.book.providers[attempt.provider].memory.fail(row.job, turn.now)
        row = turn.emit(row.job, ev.Ended(
            epoch=attempt.epoch, how="gone" if fact.unclaimed else "fenced",
            why=why, ran_ms=fact.ran_ms, avoid_scope="" if why == "scaled" else Scope.PROVIDER.value,
            avoid_until=0 if why == "scaled" else turn.now + LOSS_MEMORY,
            fails=_fails_behind_fence(row, attempt, why, turn.now), refused=refused,
            firm=row.offer.firm if refused and row.offer is not None else "",
        ))  # fmt: skip
        if attempt.confirmed_at is None and row.offer is not None:  # it may never have had its launch, and keeps room
            turn.released.append((attempt.provider, offer_id(row.job, row.offer.n)))
    finish_stop(turn, row)


def _fails_behind_fence(row: JobRow, attempt: AttemptRow, why: str, now: int) -> str:
    """Why the loss of this attempt is the end of the job; empty: it is not."""
    if row.state is JobState.STOPPING:
        return ""
    if attempt.started_at is None and now >= must_start_by(row):
        return "start_by_passed"
    return _used_up(row, why)


def _why_fenced(row: JobRow, attempt: AttemptRow) -> str:
    """Why an attempt is over behind a fence, where nothing had been said against it: its start was never seen, its job
    was cancelled, or it was given up (`left`)."""
    if attempt.started_at is None:
        return "never_started"
    return "cancel" if row.state is JobState.STOPPING else "left"


def _failed_its_acceptance(row: JobRow, attempt: AttemptRow) -> bool:
    """Whether a launch that the provider held inside its TTL never started: a refusal by deed."""
    offer = row.offer
    if attempt.started_at is not None or attempt.confirmed_at is None or offer is None or offer.answered_at is None:
        return False
    return offer.ttl is None or attempt.confirmed_at <= offer.answered_at + offer.ttl


def on_stop_placed(turn: Turn, row: JobRow, fact: f.StopPlaced) -> None:
    """Behind the stop nothing starts any more; an attempt that never claimed is fenced at once, and so is gone."""
    attempt = active(row)
    if attempt is None or attempt.epoch != fact.epoch or not fact.unclaimed:
        return
    if row.state is JobState.STOPPING:
        fence(turn, row, "cancel")
    elif attempt.reclaim_at is not None:
        fence(turn, row, "reclaimed")
    elif fact.stopped_for == "scale":
        fence(turn, row, "scaled")


# ---- wishes and timers -----------------------------------------------------------------------------------------------


def on_cancel(turn: Turn, row: JobRow, by: str) -> None:
    """Somebody wants the end: nothing is offered from here on; what runs is asked to stop."""
    if row.ended_at is not None or row.cancel_asked:
        return
    row = turn.emit(row.job, ev.CancelAsked(by))
    offer = open_offer(row)
    if offer is not None:
        row = turn.emit(row.job, ev.OfferWithdrawn(offer.n, "cancelled"))
        turn.released.append((offer.provider, offer_id(row.job, offer.n)))
    finish_stop(turn, row)


def finish_stop(turn: Turn, row: JobRow, *, gone: bool = False) -> None:
    """A stopping job is cancelled once its last attempt cannot run any more; `gone`: it is confirmed gone."""
    if row.state is not JobState.STOPPING or active(row) is not None:
        return
    last = row.attempts[-1] if row.attempts else None
    if last is not None and last.how == "fenced" and not gone and turn.now < cancel_overdue_at(row):
        return
    turn.emit(row.job, ev.Cancelled())


def on_gone(turn: Turn, row: JobRow, fact: f.GoneSeen) -> None:
    """What a fence left behind is gone: a cancelled job need not wait for its limit."""
    if row.attempts and row.attempts[-1].epoch == fact.epoch:
        finish_stop(turn, row, gone=True)


def on_due(turn: Turn, row: JobRow) -> None:
    """A timer of the job has come."""
    now = turn.now
    if active(row) is None and now >= missed_start_at(row):
        _missed_start(turn, row)
    elif row.state is JobState.QUEUED and row.wait_until is not None and now >= row.wait_until:
        turn.book.next_round(row, now)
    elif now >= unconfirmed_at(row):
        turn.emit(row.job, ev.WentUnknown(row.attempts[-1].epoch, "never_started"))
    elif now >= stop_overdue_at(row):
        fence(turn, row, "unreachable")
    elif row.state is JobState.STOPPING and now >= cancel_overdue_at(row):
        if active(row) is not None:
            fence(turn, row, "cancel")
        else:
            finish_stop(turn, row)


def _missed_start(turn: Turn, row: JobRow) -> None:
    offer = open_offer(row)
    if offer is not None:
        row = turn.emit(row.job, ev.OfferWithdrawn(offer.n, "start_by_passed"))
        turn.released.append((offer.provider, offer_id(row.job, offer.n)))
    turn.emit(row.job, ev.Failed("start_by_passed"))
