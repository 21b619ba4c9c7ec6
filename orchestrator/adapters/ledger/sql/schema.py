"""How is a ledger file opened: connections as durable as promised, the schema brought up to date, one server alone?

Called by `ledger` and `snapshot`. Never touches events. The lock is a file beside the ledger, let go by the system
when its server dies however it dies, so nobody ever has to remove it by hand.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, exc, text

from orchestrator.ports.ledger import LedgerError, LedgerLocked, LedgerUnavailable

_MIGRATIONS = Path(__file__).parent / "migrations"
_WRITER = (
    "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000", "cache_size=-65536", "temp_store=MEMORY"
)  # fmt: skip
"""4,000 pages (16 MiB) between checkpoints, which cost two more syncs each; 64 MiB keeps the live rows at hand. What a
statement needs to take itself back lies in memory: as a temporary file it was 4 of 10 bytes that a commit wrote, and
nothing ever reads it after a crash."""
_READER = ("query_only=ON",)
_DRIVER = {"timeout": 10.0, "isolation_level": None, "cached_statements": 256}
"""Transactions are ours (see `_begin`); the writer's statements, of some thirty sizes a table, are kept parsed."""


def connect(path: Path, *, writes: bool) -> Engine:
    """An engine on the ledger file; readers cannot write, and wait for nobody."""
    url = f"sqlite+pysqlite:///{path}"
    engine = create_engine(url, connect_args=_DRIVER)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: object) -> None:
        for pragma in _WRITER if writes else _READER:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def lock(path: Path) -> int:
    """Take the ledger for this server, or `LedgerLocked` at once; closing the returned descriptor lets it go."""
    try:
        held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as broken:
        raise LedgerUnavailable(f"The ledger's folder cannot be used: {broken}. Check {path.parent}.") from broken
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as busy:
        os.close(held)
        raise LedgerLocked(
            f"Another server already keeps the ledger {path}. Stop that server first, or give this one a ledger "
            f"of its own; reading and `audit export` need no lock."
        ) from busy
    return held


def upgrade(engine: Engine) -> None:
    """Bring the schema up to date in one transaction; `LedgerError` for a ledger from a newer version."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as unknown:
        raise LedgerError(
            f"This ledger was written by a newer version ({unknown}). Start that version, or restore the ledger "
            f"from before its first start."
        ) from unknown
    except exc.DBAPIError as broken:
        raise unavailable("opening the ledger", broken) from broken


def identity(engine: Engine) -> str:
    """The ledger's id (32 hexadecimal digits), drawn once when it is made."""
    with engine.begin() as connection:
        known = connection.execute(text("SELECT value FROM meta WHERE name = 'ledger_id'")).scalar()
        if known is not None:
            return str(known)
        drawn = os.urandom(16).hex()
        connection.execute(text("INSERT INTO meta (name, value) VALUES ('ledger_id', :id)"), {"id": drawn})
        return drawn


def unavailable(doing: str, broken: exc.DBAPIError | OverflowError) -> LedgerUnavailable:
    """What the database says, as an error that names the remedy."""
    what = broken.orig if isinstance(broken, exc.DBAPIError) else broken
    remedy = "Free disk space or repair the disk that holds the ledger; it may simply be tried again."
    if "not a database" in str(what) or "unable to open" in str(what):
        remedy = "Name the ledger's own file, in a folder that can be written."
    return LedgerUnavailable(f"The database failed while {doing}: {what}. Nothing of it was kept. {remedy}")
