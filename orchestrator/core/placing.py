"""Which jobs are decided in this turn, and what comes of it? The turn's placement pass.

Called by the planner at the end of a turn. It looks at the heads of woken shapes and at their held jobs; whom to ask is
decided by `offering` and `owning`. A job that everybody has declined for good is held rather than asked about for ever:
a convenience, which must never keep one from running that could. So it is held by spoken words alone, and only where no
agreement, ceiling or owned capacity has a say in who runs it.
"""

from __future__ import annotations

import heapq

from orchestrator.core.book import Book
from orchestrator.core.offering import Ask, EndRound, Hold, Step, WaitFor, has_room, next_step, open_for
from orchestrator.core.owning import Owned, again_at, may_fit, owned_place, places
from orchestrator.core.shapebook import Queue, ShapeBook, urgency
from orchestrator.core.turn import Turn
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow
from orchestrator.model.offer import Reason
from orchestrator.model.placement import Held, Rules

LOOKS = 256
"""Held jobs of one shape that are looked at in vain in one turn, while what is owned has room for some: each is kept
out of it by something of its own, beside an answer that it had there."""


def place(turn: Turn) -> None:
    """Look at every woken shape: the heads of their queues are put to whom the order says."""
    book = turn.book
    woken = sorted((book.shapes[k] for k in book.woken), key=urgency)
    book.woken.clear()
    for shape in woken:
        if shape.held:
            _lift(turn, shape)
        for queue in (shape.queue, shape.aside):
            while (row := _head(book, shape, queue, turn.now)) is not None and _place_one(turn, shape, queue, row):
                pass


# ---- held jobs -------------------------------------------------------------------------------------------------------


def _lift(turn: Turn, shape: ShapeBook) -> None:
    """Let held jobs go on whose reason is gone: prices have changed, their size, or what contracts and law say. Where
    there is another reason by now, they are held for that at once."""
    for reason in sorted(frozenset(Held) & shape.held.keys()):
        if reason == Held.DECLINED_BY_ALL:
            _lift_declined(turn, shape)
            continue
        jobs = iter(sorted(shape.held[reason]))
        for job in jobs:
            if _stays(turn, shape, turn.book.jobs[job]):
                _lift_into_owned(turn, shape, [job, *jobs])  # all others stay too: decided alike, but for what is owned
                break
            turn.emit(job, ev.Resumed("change"))


def _lift_into_owned(turn: Turn, shape: ShapeBook, jobs: list[str]) -> None:
    """The oldest go on, as many as there is room for in what is owned; whom that does not take keeps no other back."""
    book, looks = turn.book, LOOKS
    if not book.ledger.blocks:
        return
    found = places(book, shape, turn.now)
    roomy, room = {block.ref for block, most in found if most}, sum(most for _, most in found)
    for job in jobs if room else ():
        row = book.jobs[job]
        if roomy.issubset(row.asked):
            continue
        if owned_place(book, shape, row, turn.now, again=True) is None:
            looks -= 1
        else:
            turn.emit(job, ev.Resumed("change"))
            room -= 1
        if not (room and looks):
            break
    book.listen(shape, [block.provider for block, most in found if not (room and most)])


def _lift_declined(turn: Turn, shape: ShapeBook) -> None:
    """Each by what it was told itself, which is not alike; but not again before something has changed."""
    jobs, book = sorted(shape.held[Held.DECLINED_BY_ALL]), turn.book
    first = book.jobs[jobs[0]]
    by = (*book.placement(first, turn.now), book.ledger.blocks, may_fit(book, first, turn.now))
    if shape.settled == by:
        return
    shape.settled = by
    for job in jobs:
        if not _stays(turn, shape, book.jobs[job]):
            turn.emit(job, ev.Resumed("change"))


def _stays(turn: Turn, shape: ShapeBook, row: JobRow) -> bool:
    """Whether a held job that goes into no block would be held now, for the reason that it tells; what all have
    declined for good stays so, whatever else is in its way."""
    rules, step = _decided(turn.book, shape, row, turn.now)
    if not isinstance(step, Hold):
        return False
    declined = row.reason == Held.DECLINED_BY_ALL and _nobody_ever(turn.book, row, rules, turn.now)
    return step.reason == row.reason or declined


def _nobody_ever(book: Book, row: JobRow, rules: Rules, now: int) -> bool:
    """Whether all who may run it have said in this round, of these very terms, that they never can: a `spec` without an
    end. Where an agreement names who is asked, rounds go on, for rights revive; and nobody speaks for whoever was not
    asked, its price being over the ceiling, nor for a block that it may fit into."""
    if rules.gates or rules.only or rules.freed or row.offer is None or not rules.candidates:
        return False
    before = row.offer.n - len(row.asked)
    spoken = (no for no in row.refusals if no.n > before and no.reason == Reason.SPEC and no.until is None)
    never = {(no.provider, no.terms) for no in spoken}
    return all((c.provider, c.terms_hash) in never for c in rules.candidates) and not may_fit(book, row, now)


# ---- heads of queues -------------------------------------------------------------------------------------------------


def _head(book: Book, shape: ShapeBook, queue: Queue, now: int) -> JobRow | None:
    """The oldest job in this queue of the shape that may be decided now; stale entries go."""
    while queue:
        row = book.jobs.get(queue[0][1])
        if row is not None and book.may_decide(row, now) and book.shape_of(row) is shape:
            return row
        heapq.heappop(queue)
    return None


def _owned(book: Book, shape: ShapeBook, row: JobRow, now: int, *, again: bool = False) -> Owned | None:
    return owned_place(book, shape, row, now, again=again) if book.ledger.blocks else None


def _decided(book: Book, shape: ShapeBook, row: JobRow, now: int) -> tuple[Rules, Step]:
    """The next step for a job that goes into no block now, and by which rules."""
    rules, placement = book.placement(row, now)
    step = next_step(row, placement, shape, book, now)
    if isinstance(step, EndRound) and _nobody_ever(book, row, rules, now):
        return rules, Hold(Held.DECLINED_BY_ALL.value, step.skipped)
    if isinstance(step, Hold) and book.ledger.blocks:
        until, alike = again_at(book, shape, row, now), not (row.asked or row.avoid)
        return rules, step if until is None else EndRound(until, step.skipped, quiet=alike)
    return rules, step


def _place_one(turn: Turn, shape: ShapeBook, queue: Queue, row: JobRow) -> bool:
    """Take one step for the head; False: all in this queue have to wait."""
    if (owned := _owned(turn.book, shape, row, turn.now)) is None:
        rules, step = _decided(turn.book, shape, row, turn.now)
        owned = _owned(turn.book, shape, row, turn.now, again=True) if isinstance(step, Hold) else None
    if owned is not None:
        if not has_room(turn.book, owned.provider):
            turn.book.providers[owned.provider].waiters.add(shape.key)
            return False
        open_for(turn, row, Ask(owned.provider, owned.gate, (), owned.block.ref), owned.rules)
        return True
    match step:
        case Ask() as ask:
            open_for(turn, row, ask, rules)
            return True
        case Hold(reason, skipped):
            turn.emit(row.job, ev.Held(reason, skipped))
            return True
        case EndRound(until, skipped, quiet=True, passed=passed):
            _wait(turn.book, shape, row, skipped)
            turn.book.sleep(shape, until)
            if not passed or queue is shape.aside:
                return False
            turn.book.set_aside(shape, heapq.heappop(queue))
            return True
        case EndRound(until, skipped):
            _wait(turn.book, shape, row, skipped)
            turn.emit(row.job, ev.RoundEnded(row.round, until, skipped))
            return True
        case WaitFor(provider):
            state = turn.book.providers.get(provider)
            if state is not None:
                state.waiters.add(shape.key)
            return False


def _wait(book: Book, shape: ShapeBook, row: JobRow, skipped: tuple[ev.Skip, ...]) -> None:
    """The shape hears of capacity that comes free where it is not parked, and yet that would change the answer; and of
    room among open offers."""
    full = {r.provider for r in row.refusals if r.clause and r.reason == Reason.CAPACITY}
    book.listen(shape, full | {skip.provider for skip in skipped if skip.reason in ("unreachable", "refused_alike")})
    for skip in skipped:
        if skip.reason == "busy":
            book.providers[skip.provider].waiters.add(shape.key)
