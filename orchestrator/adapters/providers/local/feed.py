"""How is the feed of this machine read from a cursor, also by a server that was restarted?

Called by the local provider. Kept in memory: a cursor of another server's feed reads from the beginning, and the state
of everything that is here is told anew.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from orchestrator.model.offer import Charge, Notice, Observation, Sighting

News: TypeAlias = Charge | Notice | Sighting
T = TypeVar("T", bound=News)


class Feed:
    """News in order. `name` tells this feed from any other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._items: list[News] = []

    def tell(self, item: News) -> None:
        """Add it."""
        self._items.append(item)

    def behind(self, cursor: str | None) -> bool:
        """Whether there is news since this cursor."""
        return self._position(cursor) < len(self._items)

    def since(self, cursor: str | None, now_us: int) -> Observation:
        """All news since this cursor."""
        news = self._items[self._position(cursor) :]

        def only(kind: type[T]) -> tuple[T, ...]:
            return tuple(item for item in news if isinstance(item, kind))

        return Observation(
            cursor=f"{self._name}:{len(self._items)}",
            as_of=now_us,
            sightings=only(Sighting),
            charges=only(Charge),
            notices=only(Notice),
        )

    def _position(self, cursor: str | None) -> int:
        name, _, position = (cursor or "").partition(":")
        return int(position) if name == self._name and position.isdigit() else 0
