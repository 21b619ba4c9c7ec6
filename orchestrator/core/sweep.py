"""What is alive and nobody's business, and what is confirmed gone? Decided from listings alone.

Called by the engine after every listing of a provider. Only what carries our label and our ledger's id is ever in a
listing that reaches this file; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from orchestrator.model.offer import Sighting, SightingState

ALIVE = frozenset({SightingState.PROVISIONING, SightingState.RUNNING, SightingState.ENDED})
"""States in which machines may still cost money; STOPPING is on its way, GONE is gone."""


def strays(seen: Iterable[Sighting], ledger: str, owned: Collection[str]) -> list[Sighting]:
    """Launches that are alive under our ledger's id and belong to no attempt that may run."""
    return [s for s in seen if s.ledger == ledger and s.state in ALIVE and s.key not in owned]


def stopping(seen: Iterable[Sighting], ledger: str, owned: Collection[str]) -> set[str]:
    """Keys of launches on their way out: what is still so at the next listing is asked to end again."""
    return {s.key for s in seen if s.ledger == ledger and s.state is SightingState.STOPPING and s.key not in owned}


class Ending(Struct, frozen=True):
    """What is known of the end of one launch that must be gone."""

    provider: str
    acknowledged: bool = False
    """The provider acknowledged our stop."""
    sighted: bool = False
    """Its machines, or its claim, were seen: it existed."""
    absent_at: int | None = None
    """When a listing asked after the acknowledgement first lacked it; None: not yet."""
    gone: bool = False


def after_listing(ending: Ending, key: str, seen: Iterable[Sighting], as_of: int, list_lag_us: int) -> Ending:
    """The same ending after one more listing: gone when seen as gone, or absent twice `list_lag_us` apart."""
    mine = [s for s in seen if s.key == key]
    sighted = ending.sighted or bool(mine)
    if not ending.acknowledged:
        return Ending(ending.provider, False, sighted)
    if mine:
        gone = all(s.state is SightingState.GONE for s in mine)
        return Ending(ending.provider, True, sighted, None, gone)
    if not sighted:
        return ending
    if ending.absent_at is None:
        return Ending(ending.provider, True, sighted, as_of)
    return Ending(ending.provider, True, sighted, ending.absent_at, as_of - ending.absent_at >= list_lag_us)
