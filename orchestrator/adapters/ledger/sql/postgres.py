"""A ledger in a PostgreSQL database: connections that give up in time, and one server alone.

Called through `database`. The driver is an extra (`first-refusal[postgresql]`) and is imported only here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, exc, inspect, make_url
from sqlalchemy.pool import NullPool

from orchestrator.adapters.ledger.sql.schema import unavailable
from orchestrator.ports.ledger import LedgerError, LedgerLocked

_LOCK = 0x4F524348
"""The advisory lock of whoever keeps the ledger of a database ("ORCH")."""
_DRIVER = {
    "application_name": "orchestrator", "connect_timeout": "5",
    "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3", "tcp_user_timeout": "10000",
}  # fmt: skip
"""Seconds, the last one milliseconds: a database that is cut off is noticed within about ten of them."""
_WRITER = ("synchronous_commit = on", "idle_in_transaction_session_timeout = '3s'", "lock_timeout = '10s'")
"""Durable whatever the server's default is. A writer that freezes midway holds its locks for 3 s at most."""


class Postgres:
    """The database behind a URL."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet; `LedgerError` for a URL that is none, or without the driver."""
        self._url = _parsed(url)
        try:
            import psycopg  # noqa: F401
        except ImportError as missing:
            raise LedgerError(
                "A ledger on PostgreSQL needs its driver: pip install 'first-refusal[postgresql]'."
            ) from missing

    def connect(self, *, writes: bool) -> Engine:
        """An engine; the writer has one connection, readers cannot write and each statement stands alone."""
        engine = self._engine("READ COMMITTED" if writes else "AUTOCOMMIT", pool_pre_ping=not writes)
        _settings(engine, _WRITER if writes else ("default_transaction_read_only = on",))
        return engine

    def moment(self) -> Engine:
        """An engine whose every transaction reads one moment."""
        engine = self._engine("REPEATABLE READ", pool_pre_ping=False)
        _settings(engine, ("default_transaction_read_only = on",))
        try:
            there = inspect(engine).has_table("events")
        except exc.DBAPIError as broken:
            raise unavailable("reading the ledger", broken) from broken
        if not there:
            raise LedgerError("There is no ledger in this database. Name the one that the server was started with.")
        return engine

    def hold(self) -> Callable[[], None]:
        """The advisory lock of the database, for as long as one connection of its own lives."""
        engine = create_engine(self._url, connect_args=_DRIVER, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        try:
            connection = engine.connect()
            held = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})").scalar_one()
        except exc.DBAPIError as broken:
            raise unavailable("opening the ledger", broken) from broken
        if held:
            return connection.close
        connection.close()
        raise LedgerLocked(
            "Another server already keeps the ledger of this database. Stop that server first, or give this one a "
            "database of its own; reading and `audit export` need no lock."
        )

    def durability(self, engine: Engine) -> dict[str, str]:
        """synchronous_commit and fsync."""
        with engine.connect() as connection:
            names = ("synchronous_commit", "fsync")
            return {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in names}

    def _engine(self, isolation: Any, *, pool_pre_ping: bool) -> Engine:
        return create_engine(
            self._url, connect_args=_DRIVER, isolation_level=isolation, pool_pre_ping=pool_pre_ping, pool_timeout=5
        )


def _parsed(url: str) -> URL:
    remedy = "Write postgresql://user:password@host:5432/name."
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as wrong:
        raise LedgerError(f"The ledger's URL cannot be read. {remedy}") from wrong
    if parsed.drivername not in ("postgresql", "postgres") or not parsed.database:
        raise LedgerError(f"The ledger's URL names no PostgreSQL database. {remedy}")
    return parsed.set(drivername="postgresql+psycopg")


def _settings(engine: Engine, settings: tuple[str, ...]) -> None:
    @event.listens_for(engine, "connect")
    def _set(connection: Any, _record: object) -> None:
        before, connection.autocommit = connection.autocommit, True
        for setting in settings:
            connection.execute(f"SET {setting}")
        connection.autocommit = before
