"""Has a job another size only as somebody wished, and is it the same job otherwise? Sentence 43, judged on its life."""

from __future__ import annotations

from msgspec import UNSET

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import Life, Seen
from orchestrator.core.audit.registry import Judge, of_job
from orchestrator.model import event as ev
from orchestrator.model.capacity import inside
from orchestrator.model.contract import Trigger
from orchestrator.model.placement import Shape, Terms

SCALED = "A job has another size only as somebody wished, and is alike but for that; it is offered as what it is."


@of_job(43, SCALED)
def alike_but_for_its_size(life: Life, history: History, judge: Judge) -> None:
    """What it is to be is what it was, or was to be, with the workers of the wish; what it had is told truly."""
    for seen, wish in life.of(ev.Scaled):
        before = _to_be(life, history, seen.seq)
        same = history.shape_of(wish.shape) == before.ranged(wish.workers, wish.least)
        judge(same, life.job, seen.seq, "it goes on as another job than it was")
        running = life.under_way(seen.seq)
        had = _had(life, history, running) if running is not None else before.workers
        judge(wish.was == had, life.job, seen.seq, f"it is said to have had {wish.was} workers, and had {had}")
        runs = had if running is None or running.workers is None else running.workers
        fits = running is None or (wish.least or wish.workers) <= runs <= wish.workers
        stopped = 0 if fits or running is None else running.epoch
        judge(wish.epoch == stopped, life.job, seen.seq, f"attempt {wish.epoch} is to stop for it, not {stopped}")


@of_job(43)
def offered_as_what_was_wished(life: Life, history: History, judge: Judge) -> None:
    """Every offer is for as many workers as were submitted, if nobody wished otherwise, and for the reason that follows
    from what had run."""
    for seen, opened in life.of(ev.OfferOpened):
        shape = life.with_its_size(history.shape(life), seen.seq)
        terms = history.terms(opened.terms)
        least = shape.fewest if shape.pieces is UNSET else _least(life, history, seen, opened)
        offered, has = (terms.fewest, terms.workers), (least, _most(opened, terms, shape))
        judge(offered == has, life.job, seen.seq, f"{opened.provider} is offered {offered} workers, and not {has}")
        why = Trigger.OWNED if opened.block else life.trigger_of(opened, seen.seq) or shape.trigger
        words = f"{opened.provider} is offered it as {opened.trigger}, and it is {why.value}"
        judge(opened.trigger == why, life.job, seen.seq, words)


def _least(life: Life, history: History, seen: Seen, opened: ev.OfferOpened) -> int:
    """How many workers of what is divisible must be taken, as clauses say; of a stranger's, whom law forbids, any."""
    told = (c.terms for c in history.rules(life, opened, seen).candidates if c.provider == opened.provider)
    return next(told, history.terms(opened.terms)).fewest


def _most(opened: ev.OfferOpened, terms: Terms, shape: Shape) -> int:
    """How many workers an offer is for at most: all, or for as many of a divisible job as its block is said to have
    room. 0: it says so, and may not."""
    if opened.most is None:
        return shape.workers
    in_part = terms.divisible and inside(opened.block, opened.provider) and opened.most < shape.workers
    return opened.most if in_part else 0


def _to_be(life: Life, history: History, seq: int) -> Shape:
    """As what the job was decided, or would be after its attempt, just before an event."""
    said = [shape for seen in life.seen if seen.seq < seq and (shape := _said(seen))]
    return history.shape_of(said[-1] if said else "")


def _said(seen: Seen) -> str:
    match seen.event:
        case ev.Reshaped(shape=shape, next=later):
            return later or shape
        case ev.Submitted(shape=shape) | ev.Split(shape=shape) | ev.Scaled(shape=shape):
            return shape
    return ""


def _had(life: Life, history: History, running: ev.Intended) -> int:
    """The most workers that an attempt's offer was for."""
    opened = life.opened(running.offer)
    return history.terms(opened[1].terms).workers if opened is not None else 0
