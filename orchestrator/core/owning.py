"""Is there room for this job in capacity that is owned already? It is used before anybody else is asked.

Called by the placement pass and for accepted offers, only where blocks are owned. Decides, and emits what follows from
another set of blocks; offers are opened by `offering`, like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.core.book import Book
from orchestrator.core.capacity import find, fits, fitting, in_part, least_gpus, least_of, left_ms, most_in
from orchestrator.core.shapebook import ShapeBook
from orchestrator.core.standing import avoided
from orchestrator.core.turn import Turn
from orchestrator.core.windows import backoff
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.job import JobRow
from orchestrator.model.placement import Gate, Rules


class Owned(Struct, frozen=True):
    """The job may be placed in this block: by these rules, once this gate is passed, if there is one."""

    block: Block
    rules: Rules
    gate: Gate | None

    @property
    def provider(self) -> str:
        """Who is to be asked."""
        return self.gate.holder if self.gate is not None else self.block.provider

    @property
    def asked(self) -> str:
        """As what it is remembered that they were asked."""
        return self.block.ref if self.provider == self.block.provider else self.provider


def on_owned(turn: Turn, blocks: tuple[Block, ...], by: str) -> None:
    """From now on these blocks are owned, and no others: every shape is looked at anew. What runs in one runs on.

    Nothing of it, where somebody else has a right to what one of them is prolonged by (R1)."""
    book = turn.book
    if blocks == book.ledger.blocks or book.rulebook.unrenewed(blocks, turn.now, book.ledger):
        return
    turn.emit_ledger(ev.CapacityInForce(blocks, by))
    for shape in list(turn.book.shapes.values()):
        turn.book.reconsider(shape)


def owned_place(book: Book, shape: ShapeBook, row: JobRow, now: int, *, again: bool = False) -> Owned | None:
    """Where the job goes before anywhere else; None: into no block now. `again`: or where it goes because nobody else
    may take it, although the no of its provider is good for now (R10)."""
    rooms = _by_room(book, shape, row, now)
    lost = _lost(book, row, rooms, now)
    for block, most in rooms:
        if most < shape.shape.workers:
            book.listen(shape, [block.provider])
        if block.ref in row.asked or shape.parked.get(block.ref, 0) > now or block.provider not in book.providers:
            continue
        rules = _rules(book, row, block, most, now) if most else None
        found = _lawful(book, row, block, rules, now, again=again) if rules is not None else None
        if found is not None and found.asked not in row.asked and _answers(book, found.provider, lost, now):
            return found
    return None


def again_at(book: Book, shape: ShapeBook, row: JobRow, now: int) -> int | None:
    """When a job that nobody else may take is put to a block again, where somebody said no or is not to be asked for a
    while; None: not before a change. The shape hears of whoever comes back."""
    moments = []
    lost = _lost(book, row, _by_room(book, shape, row, now), now)
    for block in fitting(book.ledger.blocks, shape.shape, left_ms(row), now):
        rules = _rules(book, row, block, most_in(shape.shape, block.gpus), now)
        found = _lawful(book, row, block, rules, now, again=True) if rules is not None else None
        if found is not None and {block.provider, found.provider} <= book.providers.keys():
            book.listen(shape, [block.provider, found.provider])
            moments.append(max(_not_before(book, shape, row, found, now), lost.get(found.provider, 0)))
    return min((moment for moment in moments if moment > now), default=None)


def _not_before(book: Book, shape: ShapeBook, row: JobRow, found: Owned, now: int) -> int:
    """Until when it makes no sense to put it there; not later than now: until something changes."""
    if {found.block.ref, found.asked} & {*row.asked}:
        return now + backoff(row.round)
    return max(shape.parked.get(found.block.ref, 0), book.providers[found.provider].memory.rest_until)


def may_fit(book: Book, row: JobRow, now: int) -> bool:
    """Whether it would go, empty as they may be, into a block that is in force or yet to come."""
    shape, left = book.shape_of(row).shape, left_ms(row)
    blocks = (block for block in book.ledger.blocks if fits(block, shape, left, max(now, block.from_us)))
    return any(_rules(book, row, block, most_in(shape, block.gpus), now) is not None for block in blocks)


def places(book: Book, shape: ShapeBook, now: int) -> list[tuple[Block, int]]:
    """Every block that is large enough and of the kind for jobs of this shape, and how many of them there is room for;
    it need not last for all that a job may still run."""
    blocks, least = fitting(book.ledger.blocks, shape.shape, 0, now), least_gpus(shape.shape)
    return [(block, max(block.gpus - book.taken.of(block), 0) // least) for block in blocks]


def _by_room(book: Book, shape: ShapeBook, row: JobRow, now: int) -> list[tuple[Block, int]]:
    """Every block that it fits into, and for how many of its workers there is room: the most first, then the one that
    ends soonest."""
    blocks = fitting(book.ledger.blocks, shape.shape, left_ms(row), now)
    room = [(block, most_in(shape.shape, block.gpus - book.taken.of(block))) for block in blocks]
    return sorted(room, key=lambda one: -one[1])


def _rules(book: Book, row: JobRow, block: Block, most: int, now: int) -> Rules | None:
    """What holds for so many of its workers in this block. None: of a divisible job nobody may take as few."""
    shape = book.shape_of(row)
    rules = book.rulebook.in_block(shape, row, block, now, book.ledger)
    if not shape.shape.divisible:
        return rules
    outside, _ = book.placement(row, now)
    least = least_of(rules, outside)
    return book.rulebook.keep(in_part(rules, block, most, least)) if least <= most else None


def _lawful(book: Book, row: JobRow, block: Block, rules: Rules, now: int, *, again: bool) -> Owned | None:
    """By contracts and law: the block itself, or the holder of a first right that names what is owned."""
    ceilings = [c for c in (rules.ceiling_microusd, rules.hold_above_microusd) if c is not None]
    dear = block.price is not None and any(block.price > ceiling for ceiling in ceilings)
    if dear or rules.unsettled or not any(c.provider == block.provider for c in rules.candidates):
        return None
    gates = book.rulebook.open_gates(row, rules, now)
    if not again and not gates and any(gate.holder == block.provider for gate in rules.gates):
        return None  # its own no is good for now
    return Owned(block, rules, gates[0] if gates else None)


def _answers(book: Book, provider: str, lost: Mapping[str, int], now: int) -> bool:
    """Whether it makes sense to ask there: it is up, and neither lost this job just now nor fails one after another."""
    state = book.providers.get(provider)
    return state is not None and state.up and state.memory.rest_until <= now and provider not in lost


def _lost(book: Book, row: JobRow, rooms: list[tuple[Block, int]], now: int) -> dict[str, int]:
    """Who has just lost this job, where anybody else may take it, in what is owned or outside."""
    if not row.avoid:
        return {}
    _, placement = book.placement(row, now)
    outside = (*placement.market, *placement.refused, *(gate.holder for gate in placement.gates))
    return avoided(row, {*outside, *(block.provider for block, most in rooms if most)}, now)


def rules_of_offer(book: Book, row: JobRow, now: int) -> Rules | None:
    """What holds now for the job in the block that its offer is about; None: about none, or it is owned no more."""
    offer = row.offer
    block = find(book.ledger.blocks, offer.block) if offer is not None and offer.block else None
    return book.rulebook.in_block(book.shape_of(row), row, block, now, book.ledger) if block is not None else None


def gone(book: Book, row: JobRow, workers: int | None, now: int) -> bool:
    """Whether the block of an accepted offer has no room or no time any more for so many workers; None: for all."""
    offer = row.offer
    if offer is None or not offer.inside:
        return False
    block = find(book.ledger.blocks, offer.inside)
    if block is None or not fits(block, taken := book.shape_of(row).shape.sized(workers), left_ms(row), now):
        return True
    others = book.taken.of(block) - book.terms[offer.terms].gpus
    return others + taken.gpus > block.gpus
