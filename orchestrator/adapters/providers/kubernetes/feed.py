"""How is the feed of this cluster read from a cursor, also by a server that was restarted?

Called by the provider. Kept in memory: a cursor of another server's feed reads from the beginning, and the state of
everything that is there is told anew. Of sightings only the newest of each key is kept, so it does not grow with time.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from orchestrator.model.offer import Answer, Charge, Notice, Observation, Sighting

News: TypeAlias = Answer | Charge | Notice | Sighting
T = TypeVar("T", bound=News)
KEPT = 10_000
"""News remembered for a reader that has fallen behind; one that has read everything needs none."""


class Feed:
    """News in order. `name` tells this feed from any other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._items: dict[object, tuple[int, News]] = {}

    def tell(self, item: News) -> None:
        """Add it; of one launch, one answer, one bill or one kind of notice the newest stands for all."""
        self._count += 1
        match item:
            case Sighting():
                subject: object = ("sighting", item.key)
            case Answer():
                subject = ("answer", item.offer)
            case Charge():
                subject = ("charge", item.id)
            case Notice():
                subject = ("notice", item.kind, item.offer)
        self._items.pop(subject, None)
        self._items[subject] = (self._count, item)
        if len(self._items) > KEPT:
            del self._items[next(iter(self._items))]

    def behind(self, cursor: str | None) -> bool:
        """Whether there is news since this cursor."""
        return self._position(cursor) < self._count

    def since(self, cursor: str | None, as_of: int) -> Observation:
        """All news since this cursor."""
        position = self._position(cursor)
        news = []
        for at, item in reversed(self._items.values()):
            if at <= position:
                break
            news.append(item)
        news.reverse()

        def only(kind: type[T]) -> tuple[T, ...]:
            return tuple(item for item in news if isinstance(item, kind))

        return Observation(
            cursor=f"{self._name}:{self._count}",
            as_of=as_of,
            answers=only(Answer),
            sightings=only(Sighting),
            charges=only(Charge),
            notices=only(Notice),
        )

    def _position(self, cursor: str | None) -> int:
        name, _, position = (cursor or "").partition(":")
        return int(position) if name == self._name and position.isdigit() else 0
