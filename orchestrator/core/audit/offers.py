"""Were offers made, answered and closed as promised? Sentences 2, 3, 5, 6, 31 and 38, each judged on one job's life."""

from __future__ import annotations

import hashlib

import msgspec

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import OFFER_ENDS, Life, Seen
from orchestrator.core.audit.proof import bytes_out
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.model import event as ev
from orchestrator.model.placement import Terms

CLOSING_POLL = 60_000_000
"""A closing poll is sent at the deadline and its yes counts: so long (microseconds) may it be on its way."""
ENDS = tuple(kind.__name__ for kind in OFFER_ENDS)
_ALLOWED_TERMS = frozenset(field.encode_name for field in msgspec.structs.fields(Terms))


@of_job(2, "Nothing lapses early.")
def nothing_lapses_early(life: Life, history: History, judge: Judge) -> None:
    """Silence: our presence since delivery fills the window before the closing poll. Undeliverable: its time is up."""
    for seen, lapse in life.of(ev.OfferLapsed):
        found = life.opened(lapse.n)
        if found is None:
            continue  # sentence 12 says so
        early = (
            _silence(life, history, seen, lapse)
            if lapse.how == "silence"
            else _undeliverable(life, history, seen, lapse)
        )
        sure = not history.hides(life.job, found[0].seq, seen.seq, "OfferDelivered", "DeliveryFailed")
        judge(early is None, life.job, seen.seq, f"offer {lapse.n} to {found[1].provider}: {early}", sure=sure)


def _silence(life: Life, history: History, seen: Seen, lapse: ev.OfferLapsed) -> str | None:
    found = life.opened(lapse.n)
    delivered = next((s.at for s, _ in life.of_offer(lapse.n, ev.OfferDelivered) if s.seq < seen.seq), None)
    if found is None or delivered is None:
        return "silence before any delivery"
    if not lapse.deadline <= lapse.polled_at <= seen.at:
        return "it lapsed before the closing poll, or that was sent before the deadline"
    present = lapse.deadline - delivered - history.absent(seen.seq, delivered, lapse.deadline)
    window = found[1].window
    return None if present >= window else f"we were present for {present} µs of a window of {window} µs"


def _undeliverable(life: Life, history: History, seen: Seen, lapse: ev.OfferLapsed) -> str | None:
    found = life.opened(lapse.n)
    limit = found[1].undeliverable if found else None
    if limit is None:
        return "its clause lets no undeliverable offer lapse"
    told = [s for s, _ in life.of_offer(lapse.n, ev.OfferDelivered) if s.seq < seen.seq]
    failures = [(s, e) for s, e in life.of_offer(lapse.n, ev.DeliveryFailed) if s.seq < seen.seq]
    begin = max([0, *(s.seq for s in told), *(s.seq for s, e in failures if e.unheard)])
    failed = next((s for s, _ in failures if s.seq > begin), None)
    if found is None or failed is None:
        return "no delivery of it had failed"
    for delivered in told[-1:]:  # then what failed is a closing poll, which is sent when the window is over
        present = failed.at - delivered.at - history.absent(failed.seq, delivered.at, failed.at)
        if present < found[1].window:
            return f"it was delivered, and called undeliverable after {present} µs of a window of {found[1].window} µs"
    tried = seen.at - failed.at - history.absent(seen.seq, failed.at, seen.at)
    return None if tried >= limit else f"undeliverable for {tried} µs of {limit} µs"


@of_job(3, "At most one open offer per job, beside one that a bridge leaves open.")
def one_open_offer(life: Life, history: History, judge: Judge) -> None:
    """When an offer is opened, every earlier one is closed."""
    waiting: dict[int, int] = {}
    for seen in life.seen:
        if isinstance(seen.event, ev.OfferOpened):
            sure = not history.hides(life.job, min(waiting.values(), default=0), seen.seq, *ENDS)
            words = f"offer {seen.event.n} was opened while {sorted(waiting)} was open"
            judge(not waiting, life.job, seen.seq, words, sure=sure)
            waiting[seen.event.n] = seen.seq
        elif isinstance(seen.event, OFFER_ENDS):
            waiting.pop(seen.event.n, None)


@of_job(5, "An acceptance names the terms hash; a gated holder is used only through an accepted offer.")
def acceptance_is_exact(life: Life, history: History, judge: Judge) -> None:
    """Every yes repeats the terms hash of its offer; every attempt uses an offer that its provider accepted."""
    for seen, answer in life.of(ev.OfferAnswered):
        found = life.opened(answer.n)
        if answer.accepted and found is not None:
            exact = answer.terms == found[1].terms
            judge(
                exact, life.job, seen.seq, f"the yes to offer {answer.n} names other terms than were offered", sure=True
            )
            terms = history.terms(found[1].terms)
            _in_range(terms, answer.workers, seen, life, judge)
            words = f"the yes to offer {answer.n} is on spot machines, which were not asked for"
            judge(terms.spot or not answer.spot, life.job, seen.seq, words, sure=True)
    for seen, intended in life.of(ev.Intended):
        found = life.opened(intended.offer)
        ends = [s.event for s in life.ends_of(intended.offer) if s.seq < seen.seq]
        yes = next((e for e in ends if isinstance(e, ev.OfferAnswered) and e.accepted), None)
        theirs = found is not None and found[1].provider == intended.provider
        words = f"epoch {intended.epoch} at {intended.provider} uses offer {intended.offer}, which it did not accept"
        sure = not history.hides(life.job, 0, seen.seq, "OfferOpened", *ENDS)
        judge(len(ends) == 1 and yes is not None and theirs, life.job, seen.seq, words, sure=sure)
        if yes is not None:
            words = f"epoch {intended.epoch} has {intended.workers} workers, accepted were {yes.workers}"
            judge(intended.workers == yes.workers, life.job, seen.seq, words, sure=True)


def _in_range(terms: Terms, workers: int | None, seen: Seen, life: Life, judge: Judge) -> None:
    """The quantity of a yes: one out of the range of elastic terms, none where they have one size."""
    fits = workers is not None and terms.fewest <= workers <= terms.workers
    words = f"the yes takes {workers} workers of {terms.fewest} to {terms.workers}"
    judge(fits if terms.elastic else workers is None, life.job, seen.seq, words, sure=True)


@of_job(6, "No acceptance after the deadline; none of a withdrawn offer.")
def acceptance_in_time(life: Life, history: History, judge: Judge) -> None:
    """A yes comes while the offer is open, inside the window or in the reply to the closing poll."""
    for seen, answer in life.of(ev.OfferAnswered):
        found = life.opened(answer.n)
        if not answer.accepted or found is None:
            continue
        closed = any(s.seq < seen.seq for s in life.ends_of(answer.n))
        late = _lateness(life, history, seen, answer, found[1].window)
        words = f"offer {answer.n} was closed" if closed else f"offer {answer.n}: the yes came {late} µs too late"
        sure = closed or not history.hides(life.job, found[0].seq, seen.seq, "OfferDelivered", "DeliveryFailed")
        judge(not closed and late <= 0, life.job, seen.seq, words, sure=sure)


def _lateness(life: Life, history: History, seen: Seen, answer: ev.OfferAnswered, window: int) -> int:
    delivered = next((s.at for s, _ in life.of_offer(answer.n, ev.OfferDelivered) if s.seq < seen.seq), seen.at)
    present = seen.at - delivered - history.absent(seen.seq, delivered, seen.at)
    late = present - window - CLOSING_POLL
    if late <= 0 or any(True for _ in life.of_offer(answer.n, ev.DeliveryFailed)):
        return 0  # a closing poll that failed is repeated, and the yes in its reply counts
    if answer.provider_at is not None:  # an outage of our own network delays the reply, not the answer
        return min(late, answer.provider_at - delivered - window - CLOSING_POLL)
    return late


@of_job(
    31,
    "An offer that leaves us holds its allow-list and no more: offer id, clause, contract version, offer version, "
    "class, trigger, terms, terms hash, window, ledger head, holder's ordinal.",
)
def offer_holds_its_allow_list(life: Life, history: History, judge: Judge) -> None:
    """The hash of the bytes that left us is the hash of exactly these fields, made anew from the ledger."""
    for seen, delivered in life.of(ev.OfferDelivered):
        found = life.opened(delivered.n)
        if found is None or not delivered.sent or not found[1].head:
            continue  # an answer that came before its receipt, or an offer of before they took the head along
        job_class, terms_out = history.job_class(life, delivered.n), history.document(found[1].terms)
        sent = hashlib.sha256(bytes_out(life.job, job_class, terms_out, found[1])).hexdigest()
        judge(sent == delivered.sent, life.job, seen.seq, f"offer {delivered.n} left us with other bytes than these")
        terms = msgspec.json.decode(terms_out)
        foreign = sorted(set(terms) - _ALLOWED_TERMS)
        judge(not foreign, life.job, seen.seq, f"the terms of offer {delivered.n} also hold {', '.join(foreign)}")


@of_job(38, "Late answers change nothing but evidence.")
def late_answers_change_nothing(life: Life, history: History, judge: Judge) -> None:
    """A late answer is to an offer that was closed before it, and is never used afterwards."""
    for seen, late in life.of(ev.LateAnswer):
        closed = any(s.seq < seen.seq for s in life.ends_of(late.n))
        sure = not history.hides(life.job, 0, seen.seq, *ENDS)
        judge(
            closed,
            life.job,
            seen.seq,
            f"the answer to offer {late.n} is called late, but the offer was open",
            sure=sure,
        )
        after = any(e.offer == late.n and s.seq > seen.seq for s, e in life.of(ev.Intended))
        judge(not after, life.job, seen.seq, f"offer {late.n} was used after its late answer", sure=True)
