"""What is remembered of a shape's queue, and of a provider?

Held by the book, which alone changes them together with the rows; the placement pass reads them.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from orchestrator.core.memory import Memory
from orchestrator.core.windows import NEVER
from orchestrator.model.capacity import Block
from orchestrator.model.contract import Trigger
from orchestrator.model.job import OfferRow
from orchestrator.model.offer import Capabilities
from orchestrator.model.placement import Placement, Rules, Shape

GATED_WIDTH = 256
"""Jobs of one shape that may wait for a holder at a time."""
DEFAULT_UNTIL = 30_000_000
"""How long a shape is parked at a provider that declined for capacity and named no end (microseconds)."""

ShapeKey = tuple[str, Trigger]
"""A shape's digest and why capacity is needed: a job that lost its machines is decided with trigger replace."""

Queue = list[tuple[int, str]]
"""Heap of (submitted_at, job); stale entries are dropped when met."""


class Moments:
    """When is each shape to be looked at although nothing happened? One moment a shape: an earlier one takes its place.

    A later one is not lost by that: whoever looks says anew until when what it found is good.
    """

    def __init__(self) -> None:
        """None yet."""
        self.heap: list[tuple[int, ShapeKey]] = []
        """Each entry once; those whose place was taken are dropped when met."""
        self._heaped: set[tuple[int, ShapeKey]] = set()
        self._next: dict[ShapeKey, int] = {}

    def note(self, shape: ShapeKey, moment: int) -> None:
        """It is to be looked at then, if not before."""
        if moment >= self._next.get(shape, NEVER):
            return
        self._next[shape] = moment
        if (entry := (moment, shape)) not in self._heaped:
            self._heaped.add(entry)
            heapq.heappush(self.heap, entry)

    def pop(self, now: int) -> list[ShapeKey]:
        """Those whose moment has come."""
        found = []
        while self.heap and self.heap[0][0] <= now:
            self._heaped.discard(entry := heapq.heappop(self.heap))
            moment, shape = entry
            if self._next.get(shape) == moment:
                del self._next[shape]
                found.append(shape)
        return found

    def first(self) -> int:
        """When `pop` will have something, or a little to drop; NEVER: not by itself."""
        return self.heap[0][0] if self.heap else NEVER


Variant = tuple[frozenset[str], tuple[tuple[str, str], ...]]
"""In what jobs of one shape may be decided differently: exemptions whose total is spent for it, and the (exclusive,
release) that its own offers have brought about."""


@dataclass(slots=True)
class Ruled:
    """One answer of contracts and law, and the placements that follow from it."""

    rules: Rules
    placements: dict[tuple[str, ...], Placement] = field(default_factory=dict)
    """For a job that still has to pass the gates of these clauses, at `prices`."""
    prices: int = -1


@dataclass(slots=True)
class ShapeBook:
    """One queue of jobs that are decided alike, and what is remembered for all of them."""

    key: ShapeKey
    shape: Shape
    queue: Queue = field(default_factory=list)
    """Jobs that may be decided now."""
    widths: dict[str, int] = field(default_factory=dict)
    """provider → jobs of this shape that may ask it in the open market at a time."""
    asking: dict[str, int] = field(default_factory=dict)
    """provider → jobs of this shape with an open offer there, behind no first right."""
    gated: dict[str, int] = field(default_factory=dict)
    """holder → jobs of this shape with an open offer there by its first right."""
    parked: dict[str, int] = field(default_factory=dict)
    """provider → when it may be asked again by this shape in the open market; `provider/block`: in that block.
    A release of capacity at the provider ends both."""
    waiting: set[str] = field(default_factory=set)
    """Jobs between two rounds."""
    aside: Queue = field(default_factory=list)
    """Jobs whose gates are passed while nobody may be asked: the first speaks for all of them."""
    held: dict[str, set[str]] = field(default_factory=dict)
    """reason → jobs that wait for a person or a change; no reason without a job."""
    settled: tuple[Rules, Placement, tuple[Block, ...], bool] | None = None
    """By what all those whom everybody declined were last decided; None: nobody is held, or not decided again yet."""
    ruled: dict[Variant, Ruled] = field(default_factory=dict)
    """What contracts and law say; nearly always the same for all of its jobs."""
    owned: dict[tuple[Block, frozenset[str]], Rules] = field(default_factory=dict)
    """The same for jobs that are about to be placed in a block of owned capacity."""
    limiting: tuple[str, ...] | None = None
    """Exemptions with a total that select it; None: not looked up yet."""

    def among(self, offer: OfferRow) -> dict[str, int]:
        """The jobs among which this open offer counts, by provider."""
        return self.gated if offer.clause else self.asking


@dataclass(slots=True)
class ProviderBook:
    """What is remembered of one provider."""

    name: str
    capabilities: Capabilities
    market_window: int
    stated: bool = True
    """False: it has not told its capabilities yet, these are guesses."""
    up: bool = True
    since: int = 0
    open_offers: int = 0
    asked: set[str] = field(default_factory=set)
    """Jobs whose open offer is here."""
    offered: int = 0
    """Offers ever opened here: the ordinal of the last one."""
    deadlines: list[tuple[int, str, int]] = field(default_factory=list)
    """Heap of (deadline, job, offer) of delivered offers; stale entries are dropped when met."""
    jobs: set[str] = field(default_factory=set)
    """Jobs with an active attempt here."""
    unknown: int = 0
    """How many of these attempts are in the state unknown."""
    waiters: set[ShapeKey] = field(default_factory=set)
    """Shapes that wait for room among its open offers."""
    memory: Memory = field(default_factory=Memory)
    parked: set[ShapeKey] = field(default_factory=set)
    """Shapes that a release of capacity here wakes: parked, refused, or passed over."""


def provider_of(place: str) -> str:
    """The provider of a `provider/block`, or of itself."""
    return place.partition("/")[0]


def urgency(shape: ShapeBook) -> tuple[int, int, ShapeKey]:
    """By priority, then age of the head; its key last, so that no two tie and a set of them has one order."""
    return -shape.shape.priority, min(heap[0][0] if heap else NEVER for heap in (shape.queue, shape.aside)), shape.key
