"""Which database holds a ledger, and how is it opened? SQLite by a path, PostgreSQL by a URL; the rest of us asks here.

Called by `ledger` and `snapshot`. What the two databases do differently is in `sqlite` and `postgres`, and nowhere else
but in the texts of `statements`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from sqlalchemy import Engine

from orchestrator.adapters.ledger.sql.inbox import Asking
from orchestrator.adapters.ledger.sql.lead import Lead
from orchestrator.ports.inbox import Inbox

Place: TypeAlias = Path | str
"""Where a ledger lies: an SQLite file, or `postgresql://user@host/name`."""


class Database(Protocol):
    """One place at which a ledger is kept."""

    def connect(self, *, writes: bool, checked: bool = True) -> Engine:
        """An engine; connections of one that does not write cannot write. `LedgerError` if there can be none.

        `checked`: one that was lost while nobody used it is made anew unnoticed, for a round trip at each use.
        """
        ...

    def moment(self) -> Engine:
        """An engine whose every transaction sees one moment and writes nothing; `LedgerError` if there is no ledger."""
        ...

    def hold(self) -> Callable[[], None]:
        """Open it for this server, where one alone may: `LedgerLocked` at once; what is returned lets it go."""
        ...

    def lead(self, life_us: int) -> Lead:
        """How this server is the only one that writes."""
        ...

    def inbox(self, ask: Asking, lead: Lead) -> tuple[Inbox, Callable[[], None]] | None:
        """Wishes of servers that do not lead, and how to stop listening; None where one server is alone."""
        ...

    def sever(self, engine: Engine | None = None) -> None:
        """Cut every connection that may wait for an answer that never comes; later ones are made anew.

        `engine`: only its own, so that whatever hangs there ends nothing else.
        """
        ...

    def durability(self, engine: Engine) -> dict[str, str]:
        """What the database itself says of how durable a commit is."""
        ...


def database(place: Place) -> Database:
    """The database at a place."""
    if isinstance(place, Path):
        from orchestrator.adapters.ledger.sql.sqlite import Sqlite

        return Sqlite(place)
    from orchestrator.adapters.ledger.sql.postgres import Postgres

    return Postgres(place)
