"""A ledger in a PostgreSQL database: connections that give up in time, and can be cut.

Called through `database`. The driver is an extra (`first-refusal[postgresql]`) and is imported only here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Engine, create_engine, event, exc, inspect, make_url

from orchestrator.adapters.ledger.sql.inbox import CHANNEL, Asking, SqlInbox
from orchestrator.adapters.ledger.sql.lead import Lead, Lease
from orchestrator.adapters.ledger.sql.schema import unavailable
from orchestrator.ports.inbox import Inbox
from orchestrator.ports.ledger import LedgerError

_DRIVER = {
    "application_name": "orchestrator", "connect_timeout": "5",
    "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3", "tcp_user_timeout": "10000",
}  # fmt: skip
"""Seconds, the last one milliseconds: a database that is cut off is noticed within about ten of them."""
_WRITER = ("synchronous_commit = on", "idle_in_transaction_session_timeout = '3s'", "lock_timeout = '10s'")
"""Durable whatever the server's default is. A writer that freezes midway holds its locks for 3 s at most."""

_READER = ("default_transaction_read_only = on",)


class Postgres:
    """The database behind a URL."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet; `LedgerError` for a URL that is none, or without the driver."""
        self._url = _parsed(url)
        try:
            import psycopg
        except ImportError as missing:
            raise LedgerError(
                "A ledger on PostgreSQL needs its driver: pip install 'first-refusal[postgresql]'."
            ) from missing
        self._error = psycopg.Error
        self._open: WeakKeyDictionary[Any, Engine] = WeakKeyDictionary()

    def connect(self, *, writes: bool, checked: bool = True) -> Engine:
        """An engine; the writer has one connection, readers cannot write and each statement stands alone."""
        engine = self._engine("READ COMMITTED" if writes else "AUTOCOMMIT", pool_pre_ping=checked)
        self._settings(engine, _WRITER if writes else _READER)
        return engine

    def moment(self) -> Engine:
        """An engine whose every transaction reads one moment."""
        engine = self._engine("REPEATABLE READ", pool_pre_ping=False)
        self._settings(engine, _READER)
        try:
            there = inspect(engine).has_table("events")
        except exc.DBAPIError as broken:
            raise unavailable("reading the ledger", broken) from broken
        if not there:
            raise LedgerError("There is no ledger in this database. Name the one that the server was started with.")
        return engine

    def hold(self) -> Callable[[], None]:
        """Any number of servers may have it open; the lease says who leads."""
        return lambda: None

    def lead(self, life_us: int) -> Lead:
        """Whoever holds the lease leads."""
        return Lease(life_us)

    def inbox(self, ask: Asking, lead: Lead) -> tuple[Inbox, Callable[[], None]]:
        """Beside the ledger, with a bell."""
        from orchestrator.adapters.ledger.sql.bell import Bell

        listening = self._engine("AUTOCOMMIT", pool_pre_ping=False)
        self._settings(listening, ())

        def connect() -> Any:
            try:
                made = listening.raw_connection()
            except exc.DBAPIError as broken:
                raise broken.orig or broken from broken
            driver: Any = made.driver_connection
            made.detach()
            driver.autocommit = True
            return driver

        bell = Bell(connect, CHANNEL)
        bell.start()
        return SqlInbox(ask, bell, lambda: lead.term if isinstance(lead, Lease) else 0), bell.stop

    def sever(self, engine: Engine | None = None) -> None:
        """Shut the connections' sockets: whoever waits at one is told that it is gone, and nobody is given one."""
        cut = [(c, made_by) for c, made_by in list(self._open.items()) if engine in (None, made_by)]
        for connection, _ in cut:
            with suppress(OSError, self._error), socket.socket(fileno=os.dup(connection.fileno())) as shut:
                shut.shutdown(socket.SHUT_RDWR)
        for made_by in {made_by for _, made_by in cut}:
            made_by.dispose()

    def durability(self, engine: Engine) -> dict[str, str]:
        """synchronous_commit and fsync."""
        with engine.connect() as connection:
            names = ("synchronous_commit", "fsync")
            return {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in names}

    def _engine(self, isolation: Any, *, pool_pre_ping: bool) -> Engine:
        return create_engine(
            self._url, connect_args=_DRIVER, isolation_level=isolation, pool_pre_ping=pool_pre_ping, pool_timeout=5
        )

    def _settings(self, engine: Engine, settings: tuple[str, ...]) -> None:
        @event.listens_for(engine, "connect")
        def _set(connection: Any, _record: object) -> None:
            self._open[connection] = engine
            before, connection.autocommit = connection.autocommit, True
            for setting in settings:
                connection.execute(f"SET {setting}")
            connection.autocommit = before


def _parsed(url: str) -> URL:
    remedy = "Write postgresql://user:password@host:5432/name."
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as wrong:
        raise LedgerError(f"The ledger's URL cannot be read. {remedy}") from wrong
    if parsed.drivername not in ("postgresql", "postgres") or not parsed.database:
        raise LedgerError(f"The ledger's URL names no PostgreSQL database. {remedy}")
    return parsed.set(drivername="postgresql+psycopg")
