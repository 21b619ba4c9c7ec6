"""Is what was split the same as before, in two? Sentence 42, judged on the lives of both jobs."""

from __future__ import annotations

from orchestrator.core.audit.history import History, Life
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id
from orchestrator.model.placement import Shape

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
        took = terms.divisible and yes.workers == split.workers and number == 0
        judge(took, life.job, seen.seq, f"{opened[1].provider} took no part of what was offered as divisible")
        whole = 0 < split.left == was.workers - split.workers == terms.workers - split.workers
        judge(whole, life.job, seen.seq, f"{split.workers} and {split.left} workers were made of {was.workers}")
        same = history.shape_of(split.shape) == was.sized(split.workers)
        judge(same, life.job, seen.seq, "what was accepted goes on as another job than was offered")
        other = history.lives.get(split.rest)
        came = next(other.of(ev.Submitted), None) if other is not None else None
        there = came is not None and came[1].rest is not None and came[1].rest.offer == offer_id(life.job, split.n)
        judge(there, life.job, seen.seq, f"what was left of it, {split.rest}, never came in")


@of_job(42)
def left_of_a_split(life: Life, history: History, judge: Judge) -> None:
    """A job that is called the rest of another is that of a split which just was, with all of its noes and no other."""
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
