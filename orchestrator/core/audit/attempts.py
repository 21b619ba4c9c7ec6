"""Did attempts follow one another as promised? Sentences 4, 7, 8, 9, 12, 15, 18 and 21, each on one job's life."""

from __future__ import annotations

from typing import TypeAlias

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import OFFER_ENDS, Life, Seen
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.model import event as ev

EVIDENCE = (ev.LateAnswer, ev.Charged)
"""What may follow an end."""
OFTEN_RUNNING = frozenset({"fenced", "released", "done"})
"""Ends of attempts that had claimed their epoch, so that a newcomer waits for them or is cleared."""
_OfEpoch: TypeAlias = (
    ev.LaunchConfirmed
    | ev.WentUnknown
    | ev.SeenAgain
    | ev.Started
    | ev.Ended
    | ev.Charged
    | ev.Accessed
    | ev.ReclaimNoticed
    | ev.Scaled
)
_OfOffer: TypeAlias = (
    ev.OfferDelivered
    | ev.DeliveryFailed
    | ev.OfferAnswered
    | ev.LateAnswer
    | ev.OfferLapsed
    | ev.OfferWithdrawn
    | ev.Split
)


def ends_job(event: ev.AnyEvent) -> bool:
    """Whether this event ends its job."""
    match event:
        case ev.Ended(how=how, fails=fails):
            return how == "done" or bool(fails)
        case ev.Cancelled() | ev.Failed():
            return True
    return False


@of_job(4, "Terminal states absorb.")
def terminal_states_absorb(life: Life, history: History, judge: Judge) -> None:
    """Nothing but evidence follows the end of a job, an offer or an attempt."""
    over: Seen | None = None
    closed: set[int] = set()
    ended: set[int] = set()
    for seen in life.seen:
        event = seen.event
        if over is not None:
            words = f"{ev.kind_of(event)} after the job's end"
            judge(isinstance(event, EVIDENCE), life.job, seen.seq, words, sure=True)
        if isinstance(event, ev.OfferDelivered | ev.DeliveryFailed | ev.OfferAnswered | ev.OfferLapsed):
            words = f"{ev.kind_of(event)} after offer {event.n} was closed"
            judge(event.n not in closed, life.job, seen.seq, words, sure=True)
        if isinstance(event, _OfEpoch) and not isinstance(event, ev.Charged):
            words = f"{ev.kind_of(event)} after epoch {event.epoch} ended"
            judge(event.epoch not in ended, life.job, seen.seq, words, sure=True)
        if isinstance(event, OFFER_ENDS):
            closed.add(event.n)
        if isinstance(event, ev.Ended):
            ended.add(event.epoch)
        over = seen if ends_job(event) else over


@of_job(7, "Epochs of a job strictly increase.")
def epochs_increase(life: Life, history: History, judge: Judge) -> None:
    """Each attempt's epoch is above every earlier one, and above what its run log held after a restore."""
    highest = 0
    for seen in life.seen:
        if isinstance(seen.event, ev.Held):
            highest = max(highest, seen.event.ahead)
        elif isinstance(seen.event, ev.Intended):
            epoch = seen.event.epoch
            judge(epoch > highest, life.job, seen.seq, f"epoch {epoch} after epoch {highest}", sure=True)
            highest = max(highest, epoch)


@of_job(8, "At most one active attempt per job.")
def one_active_attempt(life: Life, history: History, judge: Judge) -> None:
    """An attempt is intended only when every earlier one has ended."""
    active: set[int] = set()
    for seen in life.seen:
        if isinstance(seen.event, ev.Intended):
            words = f"epoch {seen.event.epoch} was intended while {sorted(active)} was active"
            judge(not active, life.job, seen.seq, words, sure=not history.hides(life.job, 0, seen.seq, "Ended"))
            active.add(seen.event.epoch)
        elif isinstance(seen.event, ev.Ended):
            active.discard(seen.event.epoch)


@of_job(9, "Every start of an epoch above 1 was cleared or had waited.")
def later_starts_waited(life: Life, history: History, judge: Judge) -> None:
    """Where a lower epoch had claimed, the start was cleared, or its wait covers that epoch's limit and grace."""
    submitted = life.submitted
    for seen, started in life.of(ev.Started):
        if started.epoch == 1 or submitted is None:
            continue
        claimed = any(
            e.epoch < started.epoch and e.how in OFTEN_RUNNING and s.seq < seen.seq for s, e in life.of(ev.Ended)
        )
        wait = _least_wait_ms(submitted) if claimed else 0
        holds = started.cleared or (wait is not None and started.waited_ms >= wait)
        words = f"epoch {started.epoch} started after {started.waited_ms} ms, uncleared; it had to wait {wait} ms"
        judge(holds, life.job, seen.seq, words, sure=True)


def _least_wait_ms(submitted: ev.Submitted) -> int | None:
    """Limit and grace of the job's attempts, 1 % and 5 s; None: they never stop by themselves."""
    if submitted.limit_ms is None:
        return None
    alive = submitted.limit_ms + submitted.grace_ms
    return alive + alive // 100 + 5000


@of_job(12, "Intent precedes effect.")
def intent_precedes_effect(life: Life, history: History, judge: Judge) -> None:
    """Whatever names an offer, an epoch, a fence or a cancellation comes after the event that meant it; an attempt
    counts as fenced off only behind its fence."""
    meant: set[tuple[str, int]] = set()
    fenced = 0
    for seen in life.seen:
        if isinstance(seen.event, ev.Fenced):
            fenced = max(fenced, seen.event.epoch)
        if isinstance(seen.event, ev.Ended) and seen.event.how in ("fenced", "gone"):
            words = f"epoch {seen.event.epoch} ended {seen.event.how} without a fence above it"
            judge(
                fenced > seen.event.epoch,
                life.job,
                seen.seq,
                words,
                sure=not history.hides(life.job, 0, seen.seq, "Fenced"),
            )
        needs = _needs(seen.event)
        if needs is not None:
            words = f"{ev.kind_of(seen.event)} without an earlier {needs[0]}" + (f" {needs[1]}" if needs[1] else "")
            judge(needs in meant, life.job, seen.seq, words, sure=not history.hides(life.job, 0, seen.seq, needs[0]))
        match seen.event:
            case ev.OfferOpened(n=n):
                meant.add(("OfferOpened", n))
            case ev.Intended(epoch=epoch):
                meant.add(("Intended", epoch))
            case ev.Fencing(epoch=epoch):
                meant.add(("Fencing", epoch))
            case ev.Submitted() | ev.CancelAsked() | ev.Held():
                meant.add((ev.kind_of(seen.event), 0))


def _needs(event: ev.AnyEvent) -> tuple[str, int] | None:
    """The event that must come before this one."""
    match event:
        case ev.Submitted():
            return None
        case ev.Scaled(epoch=0):
            return "Submitted", 0
        case ev.Intended(offer=n):
            return "OfferOpened", n
        case ev.Fenced(epoch=epoch):
            return "Fencing", epoch
        case ev.Cancelled():
            return "CancelAsked", 0
        case ev.Resumed():
            return "Held", 0
    if isinstance(event, _OfOffer):
        return "OfferOpened", event.n
    if isinstance(event, _OfEpoch):
        return "Intended", event.epoch
    return "Submitted", 0


@of_job(12)
def nobody_is_fenced_on_suspicion(life: Life, history: History, judge: Judge) -> None:
    """Unreachable is not dead: a fence for it only where the job's policy says so, after its limit; one for silence
    only where the policy allows it, and not sooner after the last sign of life than the limit."""
    submitted = life.submitted
    if submitted is None or submitted.limit_ms is None:
        return
    for seen, fencing in life.of(ev.Fencing):
        alive = [s.at for s in life.seen if s.seq < seen.seq and _shows_life(s.event)]
        lost = [s.at for s, e in life.of(ev.WentUnknown) if s.seq < seen.seq and e.why == "unreachable"]
        if fencing.why == "unreachable":
            holds = submitted.on_unreachable == "stop" and lost[-1:] <= [seen.at - submitted.limit_ms * 1000]
        elif fencing.why == "beat_silent":
            silent = (submitted.limit_ms - 2 * submitted.check_ms) * 1000  # it was silent before we had read its last
            holds = submitted.on_unreachable != "confirmed_stop_only" and alive[-1:] <= [seen.at - silent]
        else:
            continue
        judge(holds, life.job, seen.seq, f"fence {fencing.epoch} was meant on suspicion: {fencing.why}")


def _shows_life(event: ev.AnyEvent) -> bool:
    return isinstance(event, ev.Started) or (isinstance(event, ev.SeenAgain) and event.how == "beat")


@of_job(15, "After cancel nothing is offered or launched.")
def cancel_is_final(life: Life, history: History, judge: Judge) -> None:
    """From the request on no offer is opened, no yes is taken, no attempt is intended."""
    asked = next((s.seq for s, _ in life.of(ev.CancelAsked)), None)
    if asked is None:
        return
    for seen in (s for s in life.seen if s.seq > asked):
        accepts = isinstance(seen.event, ev.OfferAnswered) and seen.event.accepted
        starts = isinstance(seen.event, ev.OfferOpened | ev.Intended)
        judge(
            not (accepts or starts), life.job, seen.seq, f"{ev.kind_of(seen.event)} after the cancellation", sure=True
        )


@of_job(18, "A job completes at most once.")
def completes_once(life: Life, history: History, judge: Judge) -> None:
    """There is no second end of a job."""
    ends = [s for s in life.seen if ends_job(s.event)]
    for number, seen in enumerate(ends):
        judge(number == 0, life.job, seen.seq, f"{ev.kind_of(seen.event)} ends a job that had ended", sure=True)


@of_job(21, "Price charged ≤ price accepted.")
def charged_as_accepted(life: Life, history: History, judge: Judge) -> None:
    """An attempt costs no more than its GPU time at the accepted price, and that price is the one of the yes.

    Nor is it billed for more GPU time than passed between its order and its bill: that would be time billed twice.
    """
    for seen, intended in life.of(ev.Intended):
        said = next((e.price for _, e in life.of_offer(intended.offer, ev.OfferAnswered) if e.accepted), None)
        if said is not None and intended.price is not None:
            words = f"epoch {intended.epoch} is to cost {intended.price}, {said} was accepted"
            judge(intended.price <= said, life.job, seen.seq, words, sure=True)
    for seen in life.seen:
        bill = seen.event
        if not isinstance(bill, ev.Ended | ev.Charged):
            continue
        found = life.intended(bill.epoch)
        price = found[1].price if found else None
        if price is None or bill.charge is None or (bill.gpu_seconds is None and bill.charge):
            continue
        most = -(-price * (bill.gpu_seconds or 0) // 3600)
        words = f"epoch {bill.epoch} was charged {bill.charge}, {most} at the accepted price"
        judge(bill.charge <= most, life.job, seen.seq, words, sure=True)
        _time_billed_once(life, history, seen, judge)


BILL_SLACK_S = 60
"""Per GPU: what a provider's rounding and another clock's drift may add."""


def _time_billed_once(life: Life, history: History, seen: Seen, judge: Judge) -> None:
    bill = seen.event
    assert isinstance(bill, ev.Ended | ev.Charged)
    found = life.intended(bill.epoch)
    opened = life.opened(found[1].offer) if found else None
    if found is None or opened is None or not bill.gpu_seconds:
        return
    gpus = history.terms(opened[1].terms).sized(found[1].workers).gpus
    most = gpus * ((seen.at - found[0].at) // 1_000_000 + BILL_SLACK_S)
    words = f"epoch {bill.epoch} was billed for {bill.gpu_seconds} GPU-seconds, and only {most} can have passed"
    judge(bill.gpu_seconds <= most, life.job, seen.seq, words, sure=True)
