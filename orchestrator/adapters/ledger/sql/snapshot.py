"""How does one look at a ledger without disturbing its server? A read transaction: one moment, whole, without a lock.

Called by `audit export`. Never writes, never upgrades, waits for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, exc, text

from orchestrator.adapters.ledger.sql import rows as read
from orchestrator.adapters.ledger.sql import schema
from orchestrator.adapters.ledger.sql.database import Place, database
from orchestrator.ports.ledger import LiveRow, StoredEvent


class Snapshot:
    """A ledger as of one moment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        found = connection.execute(text("SELECT value FROM meta WHERE name = 'ledger_id'")).scalar()
        self.ledger_id = str(found)

    def events(self) -> Iterator[StoredEvent]:
        """All events in order."""
        after = 0
        while page := read.events(self._connection, after, None):
            yield from page
            after = page[-1].seq

    def rows(self) -> Iterator[LiveRow]:
        """All rows, live or not, by job."""
        return read.all_rows(self._connection)

    def counters(self) -> Mapping[str, int]:
        """All counters."""
        return read.counters(self._connection)

    def spec(self, digest: str) -> bytes | None:
        """A document by its digest."""
        return read.spec(self._connection, digest)


@contextmanager
def reading(place: Place) -> Iterator[Snapshot]:
    """The ledger at `place` as of now; `LedgerError` if there is none."""
    engine = database(place).moment()
    try:
        with engine.begin() as connection:
            yield Snapshot(connection)
    except exc.DBAPIError as broken:
        raise schema.unavailable("reading the ledger", broken) from broken
    finally:
        engine.dispose()
