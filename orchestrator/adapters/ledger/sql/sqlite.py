"""A ledger in a file of its own: connections as durable as promised, and one server alone.

Called through `database`. The lock is a file beside the ledger, let go by the system when its server dies however it
dies, so nobody ever has to remove it by hand.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from orchestrator.adapters.ledger.sql.inbox import Asking
from orchestrator.adapters.ledger.sql.lead import Lead, Lock
from orchestrator.ports.ledger import LedgerError, LedgerLocked, LedgerUnavailable

_WRITER = (
    "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000", "cache_size=-65536", "temp_store=MEMORY"
)  # fmt: skip
"""4,000 pages (16 MiB) between checkpoints, which cost two more syncs each; 64 MiB keeps the live rows at hand. What a
statement needs to take itself back lies in memory: as a temporary file it was 4 of 10 bytes that a commit wrote, and
nothing ever reads it after a crash."""
_READER = ("query_only=ON",)
_DRIVER = {"timeout": 10.0, "isolation_level": None, "cached_statements": 256}
"""Transactions are ours (see `_begin`); the writer's statements, of some thirty sizes a table, are kept parsed."""


class Sqlite:
    """The ledger file at `path`."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet."""
        self.path = path

    def connect(self, *, writes: bool, checked: bool = True) -> Engine:
        """An engine on the file, which is never lost; readers cannot write, and wait for nobody."""
        engine = create_engine(f"sqlite+pysqlite:///{self.path}", connect_args=_DRIVER)
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

        @event.listens_for(engine, "connect")
        def _settings(connection: Any, _record: object) -> None:
            for pragma in _WRITER if writes else _READER:
                connection.execute(f"PRAGMA {pragma}").close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    def moment(self) -> Engine:
        """An engine for reading: in SQLite every transaction sees one moment."""
        if not self.path.exists():
            raise LedgerError(f"There is no ledger at {self.path}. Name the file that the server was started with.")
        return self.connect(writes=False)

    def hold(self) -> Callable[[], None]:
        """Lock the file beside the ledger.

        Where there is no ledger yet, make an empty one, which its owner alone can read; the mode of one that was there
        before is the operator's. SQLite's own files beside it get the same.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
            held = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as broken:
            raise LedgerUnavailable(
                f"The ledger's folder cannot be used: {broken}. Check {self.path.parent}."
            ) from broken
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as busy:
            os.close(held)
            raise LedgerLocked(
                f"Another server already keeps the ledger {self.path}. Stop that server first, or give this one a "
                f"ledger of its own; reading and `audit export` need no lock."
            ) from busy
        return partial(os.close, held)

    def lead(self, life_us: int) -> Lead:
        """Whoever holds the file leads, for as long as it lives."""
        return Lock()

    def inbox(self, ask: Asking, lead: Lead) -> None:
        """There is no other server."""

    def sever(self, engine: Engine | None = None) -> None:
        """A file always answers."""

    def durability(self, engine: Engine) -> dict[str, str]:
        """journal_mode and synchronous."""
        names = ("off", "normal", "full", "extra")
        with engine.connect() as connection:
            journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        return {"journal_mode": str(journal), "synchronous": names[synchronous]}
