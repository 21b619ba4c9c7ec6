"""Is what was split the same as before, in two? Sentence 42, judged on the lives of both jobs."""

from __future__ import annotations

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import Life
from orchestrator.core.audit.refusals import No, noes
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.model import event as ev
from orchestrator.model.capacity import inside
from orchestrator.model.ids import offer_id
from orchestrator.model.job import RefusalRow
from orchestrator.model.placement import Shape, terms_hash

SPLIT = "A split leaves neither more nor less than there was, in one other job that is alike but for its size."


@of_job(42, SPLIT)
def split_of_an_accepted_part(life: Life, history: History, judge: Judge) -> None:
    """Only what was offered as divisible is split, by an acceptance of a part, into exactly that and what it leaves."""
    for number, (seen, split) in enumerate(life.of(ev.Split)):
        opened = life.opened(split.n)
        yes = next((e for s, e in life.of_offer(split.n, ev.OfferAnswered) if e.accepted and s.seq < seen.seq), None)
        if opened is None or yes is None:
            judge(False, life.job, seen.seq, f"nobody had accepted offer {split.n}, by which it was split")
            continue
        terms, was = history.terms(opened[1].terms), _shape(life, history, seen.seq)
        first = number == 0 and opened[1].episode == 1
        took = terms.divisible and yes.workers == split.workers and first
        judge(took, life.job, seen.seq, f"{opened[1].provider} took no part of what was offered as divisible")
        offered = opened[1].most or was.workers
        whole = 0 < split.left == was.workers - split.workers and terms.workers == offered <= was.workers
        judge(whole, life.job, seen.seq, f"{split.workers} and {split.left} workers were made of {was.workers}")
        same = history.shape_of(split.shape) == was.sized(split.workers)
        judge(same, life.job, seen.seq, "what was accepted goes on as another job than was offered")
        if split.rest in history.hidden:
            judge.withhold()
            continue
        other = history.lives.get(split.rest)
        came = next(other.of(ev.Submitted), None) if other is not None else None
        there = came is not None and came[1].rest is not None and came[1].rest.offer == offer_id(life.job, split.n)
        judge(there, life.job, seen.seq, f"what was left of it, {split.rest}, never came in")


@of_job(42)
def nothing_is_dropped(life: Life, history: History, judge: Judge) -> None:
    """Of what is divisible is launched as much as the job then has: it was split before, if that is a part."""
    for seen, intended in life.of(ev.Intended):
        opened = life.opened(intended.offer)
        if opened is not None and history.terms(opened[1].terms).divisible:
            has = _shape(life, history, seen.seq).workers
            words = f"{intended.workers} workers are launched of {has}, and the others are nobody's"
            judge(intended.workers == has, life.job, seen.seq, words)


@of_job(42)
def left_of_a_split(life: Life, history: History, judge: Judge) -> None:
    """A job that is called the rest of another is that of a split which just was, of the same document and policy."""
    for seen, came in life.of(ev.Submitted):
        if came.rest is None:
            continue
        other = history.lives.get(came.rest.job)
        found = [(s, e) for s, e in other.of(ev.Split) if e.rest == life.job and s.at == seen.at] if other else []
        if other is None or not found or found[0][0].seq > seen.seq:
            judge(False, life.job, seen.seq, f"offer {came.rest.offer}, of which it is said to be left, was not split")
            continue
        was = _shape(other, history, found[0][0].seq)
        alike = (
            history.shape_of(came.shape) == was.left_by(found[0][1].workers) and came.rest.workers == found[0][1].left
        )
        judge(alike, life.job, seen.seq, "it is another job than what was left")
        theirs = other.submitted
        same = theirs is not None and _policy(came) == _policy(theirs) and life.project == other.project
        judge(same, life.job, seen.seq, "it has another document, or another policy, than what it was left of")
        before = theirs.rest.piece if theirs is not None and theirs.rest is not None else 0
        piece = came.rest.piece == before + found[0][1].workers
        judge(piece, life.job, seen.seq, f"its pieces begin with {came.rest.piece}, which is another one's")


@of_job(42)
def stands_where_the_whole_stood(life: Life, history: History, judge: Judge) -> None:
    """What is left is placed since the same moment, was put to the same providers, and has all noes to the whole."""
    past = history.past(life)
    if len(past) == 1:
        return  # left of nothing, which is judged above
    (seen, came), whole = next(life.of(ev.Submitted)), past[-1][0]
    rest = came.rest
    assert rest is not None, "its past is another job's too"
    begun = next((s.at for s, _ in whole.of(ev.Submitted)), None)
    origin = begun, whole.job if len(past) > 2 else ""
    judge((rest.since, rest.root) == origin, life.job, seen.seq, "it began at another moment, or with another job")
    asked = _asked(past[1][0], seen.seq)
    judge(list(rest.asked) == asked, life.job, seen.seq, f"{', '.join(asked)} had been asked, and it says otherwise")
    heard = (no for no in noes(past) if no.job != life.job and no.to_the_job)
    latest = {(no.offer.provider, no.offer.clause): no for no in heard}
    same = {_told(no, history) for no in latest.values()} == {_noted(no) for no in rest.refused}
    judge(same, life.job, seen.seq, "it has other noes than what it was left of")


def _told(no: No, history: History) -> tuple[object, ...]:
    """A no as the events tell it."""
    terms = terms_hash(no.refused(history.terms))
    return no.job, no.offer.n, no.offer.provider, no.offer.clause, terms, no.how, no.reason or "", no.at


def _noted(no: RefusalRow) -> tuple[object, ...]:
    """The same as what is left has it."""
    return no.job, no.n, no.provider, no.clause, no.terms, no.how, no.reason, no.at


def _asked(life: Life, until: int) -> list[str]:
    """Whom, and into which blocks, the job had been offered in its round before an event."""
    came = life.submitted
    asked = [*came.rest.asked] if came is not None and came.rest is not None else []
    for seen in life.seen:
        match seen.event:
            case ev.OfferOpened(provider=provider, block=block) if seen.seq < until:
                asked.append(block if inside(block, provider) else provider)
            case ev.Split(n=n) if seen.seq < until and life.in_part(n):
                del asked[-1:]  # its block was not offered what is left
            case ev.RoundEnded() | ev.Resumed() if seen.seq < until:
                asked.clear()
    return asked


def _shape(life: Life, history: History, seq: int) -> Shape:
    """As what the job was decided just before an event."""
    kinds = ev.Submitted | ev.Reshaped | ev.Split  # what is divisible never has another size
    said = [seen.event.shape for seen in life.seen if seen.seq < seq and isinstance(seen.event, kinds)]
    return history.shape_of(said[-1] if said else "")


def _policy(came: ev.Submitted) -> tuple[object, ...]:
    return (
        came.spec, came.name, came.limit_ms, came.grace_ms, came.check_ms, came.max_runtime_ms, came.start_by_ms,
        came.max_attempts, came.on_unreachable, came.store,
    )  # fmt: skip
