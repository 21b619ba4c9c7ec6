"""The lifecycle of a job, its offers and its attempts: the fold that obeys the table in `moves`.

Called for every event, in the engine before its commit and in the audit afterwards; never decides anything.
Two rules on top of the table: a terminal state absorbs (only evidence may follow it), and a move that the table
does not list is an `IllegalMove`, whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from orchestrator.core.moves import ATTEMPT_MOVES, EVIDENCE, JOB_MOVES, OFFER_MOVES, IllegalMove
from orchestrator.core.sizes import becomes, scaled, stops
from orchestrator.core.standing import active, last_epoch, next_epoch, open_offer
from orchestrator.model import event as ev
from orchestrator.model.job import (
    TERMINAL,
    AttemptRow,
    AttemptState,
    AvoidRow,
    JobRow,
    JobState,
    OfferRow,
    OfferState,
    RefusalRow,
)

J, F, A = JobState, OfferState, AttemptState


def fold_job(row: JobRow | None, job: str, project: str, at: int, event: ev.AnyEvent) -> JobRow:
    """The job's row after `event`, which happened at `at` (microseconds UTC). Raises `IllegalMove`."""
    kind = ev.kind_of(event)
    if row is None:
        if not isinstance(event, ev.Submitted):
            raise IllegalMove(f"{job}: {kind} before Submitted")
        return _submitted(job, project, at, event)
    if kind in EVIDENCE:
        return _evidence(row, at, event)
    if row.state in TERMINAL:
        raise IllegalMove(f"{job}: {kind} after {row.state}, which is final")
    targets = JOB_MOVES[row.state].get(kind)
    if targets is None:
        raise IllegalMove(f"{job}: {kind} is not a move of a job that is {row.state}")
    after = _FOLDS[kind](row, at, event)
    if after.state not in targets:
        raise IllegalMove(f"{job}: {kind} may not lead from {row.state} to {after.state}")
    return replace(after, applied_at=at)


MAX_LATE = 16
"""Only to note a late answer once when a provider's feed starts over, and none that came in time."""


# ---- folds: one small function per kind ------------------------------------------------------------------------------


def _submitted(job: str, project: str, at: int, e: ev.Submitted) -> JobRow:
    return JobRow(
        job=job, project=project, name=e.name, spec=e.spec, shape=e.shape, limit_ms=e.limit_ms, grace_ms=e.grace_ms,
        max_runtime_ms=e.max_runtime_ms, start_by_ms=e.start_by_ms, check_ms=e.check_ms, max_attempts=e.max_attempts,
        on_unreachable=e.on_unreachable,
        store=e.store, submitted_at=at, applied_at=at, **_origin(e.rest, at),
    )  # fmt: skip


def _origin(rest: ev.Rest | None, at: int) -> dict[str, Any]:
    """What is left of a split job begins where that stood: whom it asked in its round, what they said, since when."""
    if rest is None:
        return {"episode_at": at}
    return {
        "rest_of": rest.offer, "part": rest.workers, "piece": rest.piece, "root": rest.root or rest.job,
        "episode_at": rest.since, "asked": rest.asked, "refusals": rest.refused,
    }  # fmt: skip


def _evidence(row: JobRow, at: int, e: Any) -> JobRow:
    if not isinstance(e, ev.Charged):
        return replace(row, late=(*row.late, e.n)[-MAX_LATE:], applied_at=at)
    attempts = tuple(replace(a, charge=e.charge) if a.epoch == e.epoch else a for a in row.attempts)
    return replace(row, attempts=attempts, applied_at=at)


def _opened(row: JobRow, at: int, e: ev.OfferOpened) -> JobRow:
    expected = (row.offer.n if row.offer else 0) + e.unused + 1
    if e.n != expected or e.episode != row.episode or e.round != row.round:
        raise IllegalMove(f"{row.job}: offer {e.n} of episode {e.episode} round {e.round} does not follow")
    offer = OfferRow(
        n=e.n, provider=e.provider, clause=e.clause, terms=e.terms, contract=e.contract, window=e.window,
        undeliverable=e.undeliverable, hold=e.hold, opened_at=at, ordinal=e.ordinal, head=e.head,
        freed=tuple(f.key for f in e.freed if f.exemption and f.holder != e.provider), free_until=e.free_until,
        block=e.block, in_part=e.most is not None,
    )  # fmt: skip
    return replace(row, state=J.OFFERING, offer=offer, asked=(*row.asked, offer.inside or e.provider), wait_until=None)


def _offer(row: JobRow, kind: str, n: int) -> OfferRow:
    offer = row.offer
    if offer is None or offer.n != n:
        raise IllegalMove(f"{row.job}: {kind} names offer {n}, which is not its last")
    if offer.state not in OFFER_MOVES[kind][0]:
        raise IllegalMove(f"{row.job}: {kind} on offer {n}, which is {offer.state}")
    return offer


def _delivered(row: JobRow, at: int, e: ev.OfferDelivered) -> JobRow:
    offer = _offer(row, "OfferDelivered", e.n)
    return replace(row, offer=replace(offer, state=F.DELIVERED, delivered_at=at, failed_at=None))


def _delivery_failed(row: JobRow, at: int, e: ev.DeliveryFailed) -> JobRow:
    offer = _offer(row, "DeliveryFailed", e.n)
    return replace(row, offer=replace(offer, failed_at=None if e.unheard else offer.failed_at or at))


def _answered(row: JobRow, at: int, e: ev.OfferAnswered) -> JobRow:
    offer = _offer(row, "OfferAnswered", e.n)
    row = replace(row, answered=(*row.answered, e.n)[-MAX_LATE:])
    if e.accepted:
        return replace(row, offer=replace(offer, state=F.ACCEPTED, answered_at=at, ttl=e.ttl, firm=e.firm))
    refusals = refuse(row, offer, at, "declined", scope=e.scope, until=e.until, reason=e.reason)
    return replace(row, state=J.QUEUED, offer=replace(offer, state=F.DECLINED, answered_at=at), refusals=refusals)


def refuse(row: JobRow, offer: OfferRow, at: int, how: str, **more: Any) -> tuple[RefusalRow, ...]:
    """The job's refusals with this one, which replaces an earlier one of the same provider under the same clause.

    That it does not fit into what is owned, behind no gate, says nothing of what its provider sells. Nor has anybody
    refused a job of which no more was offered than a block has room for.
    """
    if offer.in_part or (offer.inside and not offer.clause):
        return row.refusals
    new = RefusalRow(
        n=offer.n, provider=offer.provider, clause=offer.clause, terms=offer.terms, how=how, at=at,
        episode=row.episode, **more,
    )  # fmt: skip
    kept = (r for r in row.refusals if (r.provider, r.clause) != (new.provider, new.clause))
    return (*kept, new)


def _lapsed(row: JobRow, at: int, e: ev.OfferLapsed) -> JobRow:
    offer = _offer(row, "OfferLapsed", e.n)
    how = "lapsed" if e.how == "silence" else e.how
    refusals = refuse(row, offer, at, how)
    return replace(row, state=J.QUEUED, offer=replace(offer, state=F.LAPSED), refusals=refusals)


def _withdrawn(row: JobRow, at: int, e: ev.OfferWithdrawn) -> JobRow:
    offer = replace(_offer(row, "OfferWithdrawn", e.n), state=F.WITHDRAWN)
    return replace(row, state=row.state if row.state is J.STOPPING else J.QUEUED, offer=offer)


def _round_ended(row: JobRow, at: int, e: ev.RoundEnded) -> JobRow:
    if e.round != row.round:
        raise IllegalMove(f"{row.job}: round {e.round} ends in round {row.round}")
    return replace(row, round=row.round + 1, asked=(), wait_until=e.until)


def _split(row: JobRow, at: int, e: ev.Split) -> JobRow:
    _offer(row, "Split", e.n)
    if row.rest:
        raise IllegalMove(f"{row.job}: split twice, and what is left of it is {row.rest}")
    return replace(row, shape=e.shape, part=e.workers, rest=e.rest)


def _intended(row: JobRow, at: int, e: ev.Intended) -> JobRow:
    offer = _offer(row, "Intended", e.offer)
    if e.epoch < next_epoch(row) or e.provider != offer.provider or active(row) is not None:
        raise IllegalMove(f"{row.job}: epoch {e.epoch} at {e.provider} does not follow")
    attempt = AttemptRow(
        epoch=e.epoch, offer=e.offer, provider=e.provider, region=e.region, accelerator=e.accelerator,
        price=e.price, hold=e.hold, intended_at=at, freed=offer.freed, block=offer.inside, workers=e.workers,
    )  # fmt: skip
    return replace(row, state=J.LAUNCHING, attempts=(*row.attempts, attempt))


def _attempt(row: JobRow, kind: str, epoch: int) -> AttemptRow:
    attempt = row.attempts[-1] if row.attempts else None
    if attempt is None or attempt.epoch != epoch:
        raise IllegalMove(f"{row.job}: {kind} names epoch {epoch}, which is not its last")
    if attempt.state not in ATTEMPT_MOVES[kind][0]:
        raise IllegalMove(f"{row.job}: {kind} on epoch {epoch}, which is {attempt.state}")
    return attempt


def _put(row: JobRow, attempt: AttemptRow, **more: Any) -> JobRow:
    return replace(row, attempts=(*row.attempts[:-1], attempt), **more)


def _confirmed(row: JobRow, at: int, e: ev.LaunchConfirmed) -> JobRow:
    attempt = _attempt(row, "Confirmed", e.epoch)
    return _put(row, replace(attempt, state=A.CONFIRMED, unknown_at=None, confirmed_at=attempt.confirmed_at or at))


def _unknown(row: JobRow, at: int, e: ev.WentUnknown) -> JobRow:
    attempt = _attempt(row, "WentUnknown", e.epoch)
    return _put(row, replace(attempt, state=A.UNKNOWN, unknown_at=at, why=e.why))


def _seen(row: JobRow, at: int, e: ev.SeenAgain) -> JobRow:
    attempt = _attempt(row, "SeenAgain", e.epoch)
    state = A.CONFIRMED if attempt.started_at is None else A.RUNNING
    return _put(row, replace(attempt, state=state, unknown_at=None, why=""))


def _started(row: JobRow, at: int, e: ev.Started) -> JobRow:
    attempt = _attempt(row, "Started", e.epoch)
    if attempt.started_at is not None:
        raise IllegalMove(f"{row.job}: epoch {e.epoch} started twice")
    attempt = replace(attempt, state=A.RUNNING, started_at=at, unknown_at=None, why="")
    state = J.RUNNING if row.state is J.LAUNCHING else row.state
    return _put(row, attempt, state=state, started=row.started + 1)


def _fencing(row: JobRow, at: int, e: ev.Fencing) -> JobRow:
    if e.epoch <= row.fence:
        raise IllegalMove(f"{row.job}: fence {e.epoch} after fence {row.fence}")
    takes_over = e.epoch > last_epoch(row) and row.state is not J.STOPPING
    return replace(row, fence=e.epoch, state=J.RECOVERING if takes_over else row.state)


def _fenced(row: JobRow, at: int, e: ev.Fenced) -> JobRow:
    if e.epoch != row.fence or e.epoch <= row.fenced:
        raise IllegalMove(f"{row.job}: fence {e.epoch} stands, but {row.fence} was intended")
    free = row.state is J.RECOVERING and active(row) is None
    return replace(row, fenced=e.epoch, state=J.QUEUED if free else row.state)


def _ended(row: JobRow, at: int, e: ev.Ended) -> JobRow:
    attempt = _attempt(row, "Ended", e.epoch)
    ran = attempt.started_at is not None
    over = replace(
        attempt, state=A.ENDED, ended_at=at, how=e.how, why=e.why, charge=e.charge, ran_ms=e.ran_ms, unknown_at=None
    )
    after = _put(row, over, ran_ms=row.ran_ms + e.ran_ms, exit=e.exit if e.how == "done" else row.exit)
    if e.avoid_scope:
        after = replace(after, avoid=(*after.avoid, AvoidRow(attempt.provider, e.avoid_scope, e.avoid_until, e.why)))
    if e.how == "done" and not e.fails:
        return replace(after, state=J.SUCCEEDED, ended_at=at, next=None)
    if e.fails:
        return replace(after, state=J.FAILED, reason=e.fails, ended_at=at, next=None)
    return _goes_on(after, at, e, ran)


def _goes_on(row: JobRow, at: int, e: ev.Ended, ran: bool) -> JobRow:
    """After an end that is not the job's: the same episode if user code never ran, a new one if it did.

    A launch that they failed is a refusal by deed; where we were late it is our fault, and the next round asks them.
    """
    if row.offer is not None and (e.refused or (e.how == "rejected" and not e.late)):
        row = replace(row, refusals=refuse(row, row.offer, at, "accept_failed"))
    if row.state is J.STOPPING:
        return row
    if ran:
        row = replace(row, episode=row.episode + 1, episode_at=at, round=1, asked=(), wait_until=None, grown=False)
    row = becomes(row)
    free = e.how == "rejected" or row.fenced > e.epoch
    return replace(row, state=J.QUEUED if free else J.RECOVERING)


def _accessed(row: JobRow, at: int, e: ev.Accessed) -> JobRow:
    _attempt(row, "Accessed", e.epoch)
    return replace(row, accesses=row.accesses + 1)


def _reclaim_noticed(row: JobRow, at: int, e: ev.ReclaimNoticed) -> JobRow:
    return _put(row, replace(_attempt(row, "ReclaimNoticed", e.epoch), reclaim_at=e.until))


def _cancel_asked(row: JobRow, at: int, e: ev.CancelAsked) -> JobRow:
    return replace(row, state=J.STOPPING, cancel_asked=True, wait_until=None, next=None)


def _cancelled(row: JobRow, at: int, e: ev.Cancelled) -> JobRow:
    if active(row) is not None or open_offer(row) is not None:
        raise IllegalMove(f"{row.job}: cancelled with something still open")
    return replace(row, state=J.CANCELLED, ended_at=at)


def _failed(row: JobRow, at: int, e: ev.Failed) -> JobRow:
    return replace(row, state=J.FAILED, reason=e.reason, ended_at=at)


def _held(row: JobRow, at: int, e: ev.Held) -> JobRow:
    return replace(row, state=J.HELD, reason=e.reason, ahead=max(row.ahead, e.ahead))


def _resumed(row: JobRow, at: int, e: ev.Resumed) -> JobRow:
    return replace(row, state=J.QUEUED, reason="", asked=(), wait_until=None)


def _reshaped(row: JobRow, at: int, e: ev.Reshaped) -> JobRow:
    return replace(row, shape=e.shape, next=replace(row.next, shape=e.next) if row.next else None)


def _scaled(row: JobRow, at: int, e: ev.Scaled) -> JobRow:
    after = scaled(row, e)
    if e.epoch != (last_epoch(after) if stops(after) else 0):
        raise IllegalMove(f"{row.job}: another size stops epoch {e.epoch}, which is not what has to stop for it")
    return after


_FOLDS: dict[str, Callable[[JobRow, int, Any], JobRow]] = {
    "OfferOpened": _opened, "OfferDelivered": _delivered, "DeliveryFailed": _delivery_failed,
    "OfferAnswered": _answered, "OfferLapsed": _lapsed, "OfferWithdrawn": _withdrawn, "RoundEnded": _round_ended,
    "Split": _split, "Intended": _intended, "Confirmed": _confirmed, "WentUnknown": _unknown, "SeenAgain": _seen,
    "Started": _started, "Fencing": _fencing, "Fenced": _fenced, "Ended": _ended, "CancelAsked": _cancel_asked,
    "Cancelled": _cancelled, "Failed": _failed, "Held": _held, "Resumed": _resumed,
    "Reshaped": _reshaped, "Scaled": _scaled, "Accessed": _accessed, "ReclaimNoticed": _reclaim_noticed,
}  # fmt: skip
