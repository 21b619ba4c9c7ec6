"""Which sentences notice a broken rule? One row: the rule, the world, who noticed, in how many worlds it was tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from orchestrator.cli.audit import audit
from orchestrator.simulate.witness import witnesses
from orchestrator.simulate.world import World
from orchestrator.testing.ledgers import MemoryLedger
from tests.mutants.swap import Swap, broken
from tests.stories.words import on_virtual_time

Masks = tuple[Swap, ...]


@dataclass(frozen=True)
class Lived:
    """A named world: how it is made, and what happens in it."""

    name: str
    make: Callable[[], World]
    live: Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Mutant:
    """A rule, how it is broken, and the worlds in which it should be noticed; `masks`: other defences that are off."""

    rule: str
    breaks: Masks
    worlds: Sequence[Lived]
    masks: Masks = ()


@dataclass(frozen=True)
class Row:
    """What came of a mutant. `noticed`: (world, the sentences that the masks alone do not set off there)."""

    rule: str
    noticed: tuple[tuple[str, tuple[int, ...]], ...]
    tried: int

    @property
    def words(self) -> str:
        """The row as text."""
        first = next(iter(self.noticed), ("nobody noticed", ()))
        said = ", ".join(map(str, first[1])) or "-"
        return f"{self.rule:<60} {first[0]:<52} {said:<12} {len(self.noticed)} of {self.tried}"


HEADING = f"{'rule broken':<60} {'world':<52} {'sentences':<12} worlds that noticed, of those tried"


@cache
def sentences(world: Lived, swaps: Masks) -> frozenset[int]:
    """The sentences violated by a life with these rules broken. The story may fail; what counts is what it left."""
    with broken(*swaps):
        made = world.make()
        with suppress(Exception):
            on_virtual_time(world.live(made))
    made.disk.holder = None  # whoever led when the story failed
    report = audit(MemoryLedger(made.disk).snapshot(), witnesses(made))
    return frozenset(f.sentence for f in report.findings)


def row(mutant: Mutant) -> Row:
    """Live through its worlds."""
    found = []
    for world in mutant.worlds:
        mine = sentences(world, (*mutant.breaks, *mutant.masks)) - sentences(world, mutant.masks)
        if mine:
            found.append((world.name, tuple(sorted(mine))))
    return Row(mutant.rule, tuple(found), len(mutant.worlds))
