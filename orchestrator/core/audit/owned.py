"""Was what is called owned really owned? Sentence 40, counted from the events alone.

A block is in force by the newest `CapacityInForce` before an event, and between its own two moments; it is taken by
the attempts that were intended in it and are not over.
"""

from __future__ import annotations

from collections import defaultdict

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import Life, Seen
from orchestrator.core.audit.registry import Judge, of_ledger
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block, inside
from orchestrator.model.contract import Trigger
from orchestrator.model.placement import Terms


@of_ledger(40, "What is placed as owned lies in a block in force that has room and time for it, and costs no more.")
def owned_has_room(history: History, judge: Judge) -> None:
    """Judged for each offer that is called owned or names a block, and for each attempt in a block."""
    taken: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
    ran: dict[str, int] = defaultdict(int)
    for life, seen in _in_order(history):
        match seen.event:
            case ev.OfferOpened() as opened if opened.block or opened.trigger == Trigger.OWNED:
                words = _not_in_force(history, seen, opened)
                judge(words is None, life.job, seen.seq, f"offer {opened.n}: {words}")
            case ev.Intended(epoch=epoch, offer=n) as intended:
                found = life.opened(n)
                if found is None or not found[1].block or not inside(found[1].block, found[1].provider):
                    continue
                terms = history.terms(found[1].terms).sized(intended.workers)
                block, used = history.block(found[1].block, seen.seq), sum(taken[found[1].block].values())
                wrong = _no_room(block, seen.at, terms, used, ran[life.job])
                wrong = wrong or _too_dear(history.block(found[1].block, found[0].seq), intended.price)
                judge(wrong is None, life.job, seen.seq, f"epoch {epoch} in {found[1].block}: {wrong}")
                taken[found[1].block][life.job, epoch] = terms.gpus
            case ev.Ended(epoch=epoch, ran_ms=ran_ms):
                ran[life.job] += ran_ms
                for attempts in taken.values():
                    attempts.pop((life.job, epoch), None)


def _in_order(history: History) -> list[tuple[Life, Seen]]:
    """What happened to all jobs, in the ledger's order."""
    told = ((life, seen) for life in history.lives.values() for seen in life.seen)
    return sorted(told, key=lambda one: one[1].seq)


def _not_in_force(history: History, seen: Seen, opened: ev.OfferOpened) -> str | None:
    if not opened.block or opened.trigger != Trigger.OWNED:
        return "it names a block and is not called owned, or the other way round"
    block = history.block(opened.block, seen.seq)
    if block is None or not block.from_us <= seen.at < block.until_us:
        return f"{opened.block} is not owned"
    gpus = history.terms(opened.terms).gpus if inside(opened.block, opened.provider) else 0
    return f"it is for {gpus} GPUs of {block.gpus}" if gpus > block.gpus else None


def _too_dear(block: Block | None, price: int | None) -> str | None:
    """By the block as it was when the offer was made."""
    agreed = block.price if block is not None else None
    return f"{price}, where {agreed} was agreed" if agreed is not None and (price or 0) > agreed else None


def _no_room(block: Block | None, at: int, terms: Terms, taken: int, ran_ms: int) -> str | None:
    if block is None:
        return "it is not owned"
    if not block.from_us <= at <= block.until_us - (terms.max_runtime_ms - ran_ms) * 1000:
        return "it may end before the job does"
    if terms.accelerators != (block.accelerator,) or terms.regions != (block.region,):
        return "the job was offered on other terms"
    used = taken + terms.gpus
    return None if used <= block.gpus else f"{used} GPUs of {block.gpus}"
