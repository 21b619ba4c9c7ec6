"""Which job fits into capacity that is owned already, and what do contracts and law say of it there?

Called by the rule book, the placement pass and the audit. Pure, but for `Taken`, which the book keeps in step with its
rows. A job in a block is decided as one whose trigger is `owned` (R1), with the block's accelerator in its region and
with no other: law, ceilings and exclusives hold, a first right only if it names `owned`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from orchestrator.core.standing import active, open_offer
from orchestrator.model.capacity import Block
from orchestrator.model.contract import ProviderFacts, Providers, Trigger
from orchestrator.model.job import JobRow, OfferState
from orchestrator.model.placement import Candidate, Gate, Rules, Shape, Terms, terms_hash

Offered = TypeVar("Offered", Candidate, Gate)


class Taken:
    """How many GPUs of each block are taken: by accepted offers, by open ones, by attempts that are not over."""

    def __init__(self) -> None:
        """Nothing is taken."""
        self._of: dict[str, dict[str, int]] = {}
        self._where: dict[str, str] = {}

    def holds(self, job: str) -> bool:
        """Whether something is taken for this job."""
        return job in self._where

    def note(self, row: JobRow, gpus: Callable[[], int]) -> None:
        """A job's row has changed; it is of so many GPUs (which nobody knows any more of one that is over)."""
        if (was := self._where.pop(row.job, "")) != "":
            self._of[was].pop(row.job, None)
        if (now := _takes(row)) != "":
            self._where[row.job] = now
            self._of.setdefault(now, {})[row.job] = gpus()

    def of(self, block: Block) -> int:
        """GPUs that are taken."""
        return sum(self._of.get(block.ref, {}).values())


def _takes(row: JobRow) -> str:
    if (attempt := active(row)) is not None:
        return attempt.block
    offer = row.offer
    waits = offer is not None and (open_offer(row) is not None or offer.state is OfferState.ACCEPTED)
    unused = waits and not any(offer is not None and a.offer == offer.n for a in row.attempts)
    return offer.inside if offer is not None and unused else ""


def gpus_of(row: JobRow, shape: Shape, terms: Mapping[str, Terms]) -> int:
    """How many GPUs the job takes where it is: those of its attempt, or the most that its offer is for."""
    if (attempt := active(row)) is not None:
        return shape.sized(attempt.workers).gpus
    offered = terms.get(row.offer.terms) if row.offer is not None else None
    return shape.gpus if offered is None else offered.gpus


def find(blocks: Iterable[Block], ref: str) -> Block | None:
    """The block of this name, if it is owned still."""
    return next((block for block in blocks if block.ref == ref), None)


def fitting(blocks: Iterable[Block], shape: Shape, left_ms: int, now_us: int) -> list[Block]:
    """The blocks that a job fits into, were they empty: those that end soonest come first."""
    return sorted((b for b in blocks if fits(b, shape, left_ms, now_us)), key=lambda block: block.until_us)


def fits(block: Block, shape: Shape, left_ms: int, now_us: int) -> bool:
    """Whether it is in force, of the job's kind, large enough for it or for a part of it, and lasts for all that the
    job may still run."""
    kind = not shape.accelerators or block.accelerator in shape.accelerators
    lasts = block.from_us <= now_us and now_us + left_ms * 1000 <= block.until_us
    return kind and lasts and 0 < least_gpus(shape) <= block.gpus


def least_gpus(shape: Shape) -> int:
    """How many GPUs there must be at the least: for all of a job or, of a divisible one, for the smallest part."""
    return shape.gpus_per_worker * (shape.fewest if shape.divisible else shape.workers)


def most_in(shape: Shape, gpus: int) -> int:
    """How many workers of a job with GPUs go into so many that are free: all of them or, of a divisible one, a part."""
    if shape.gpus <= gpus:
        return shape.workers
    return max(gpus, 0) // shape.gpus_per_worker if shape.divisible else 0


def left_ms(row: JobRow) -> int:
    """How long the job may still run."""
    return row.max_runtime_ms - row.ran_ms


def next_begin(blocks: Iterable[Block], now_us: int) -> int | None:
    """When the next block begins; None: none is to come."""
    return min((block.from_us for block in blocks if block.from_us > now_us), default=None)


def placed_in(shape: Shape, block: Block) -> Shape:
    """The job as it is decided for this block."""
    return replace(shape, trigger=Trigger.OWNED, accelerators=(block.accelerator,))


def narrowed(providers: Providers, block: Block) -> Providers:
    """The providers for such a job: at the block's own there is the block and nothing else, at the agreed price."""
    facts = (_only(p, block) if p.name == block.provider else p for p in providers.providers)
    return replace(providers, providers=tuple(facts))


def agreed(rules: Rules, block: Block) -> Rules:
    """The answer for a block, whose provider is offered the job at no more than the price that was agreed for it: who
    asks for more makes a counter."""
    if (price := block.price) is None:
        return rules

    def capped(terms: Terms) -> Terms:
        ceiling = price if terms.ceiling_microusd is None else min(price, terms.ceiling_microusd)
        return replace(terms, ceiling_microusd=ceiling)

    return _on_terms(rules, block, capped)


def least_of(*answers: Rules) -> int:
    """The fewest workers of a divisible job that anybody may take, wherever it goes: what a holder may not take of it
    is nobody's (R8)."""
    return max((c.terms.fewest for rules in answers for c in rules.candidates), default=1)


def in_part(rules: Rules, block: Block, most: int, least: int) -> Rules:
    """The answer for a block that has room for `most` workers of a divisible job, and takes no fewer than `least`."""
    return _on_terms(rules, block, lambda terms: terms.up_to(most, least))


def _on_terms(rules: Rules, block: Block, change: Callable[[Terms], Terms]) -> Rules:
    """The answer for a block, whose provider is offered the job on changed terms."""

    def changed(of: Offered) -> Offered:
        made = change(of.terms)
        return replace(of, terms=made, terms_hash=terms_hash(made))

    return replace(
        rules,
        candidates=tuple(changed(c) if c.provider == block.provider else c for c in rules.candidates),
        gates=tuple(changed(g) if g.holder == block.provider else g for g in rules.gates),
    )


def _only(facts: ProviderFacts, block: Block) -> ProviderFacts:
    here = tuple(region for region in facts.regions if region[0] == block.region)
    return replace(
        facts,
        regions=here or facts.regions,
        accelerators=tuple(a for a in facts.accelerators if here and a[0] == block.accelerator),
        prices=() if block.price is None else ((block.accelerator, block.price),),
    )
