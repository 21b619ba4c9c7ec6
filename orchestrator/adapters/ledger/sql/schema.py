"""Is a ledger's schema up to date, which ledger is it, and what does the database's error mean?

Called by `ledger` and `snapshot` when a ledger is opened, and wherever a statement fails. Never touches events.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Engine, exc, text

from orchestrator.ports.ledger import LedgerError, LedgerUnavailable

_MIGRATIONS = Path(__file__).parent / "migrations"
_UPGRADING = "SELECT pg_advisory_xact_lock(1329939784)"
"""Servers that open a new database together take turns."""


def upgrade(engine: Engine) -> None:
    """Bring the schema up to date in one transaction; `LedgerError` for a ledger from a newer version."""
    from alembic import command  # 0.3 s, which those who only read do not wait for
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(_UPGRADING)
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
        drawn = {"id": os.urandom(16).hex()}
        make = "INSERT INTO meta (name, value) VALUES ('ledger_id', :id) ON CONFLICT DO NOTHING"
        connection.execute(text(make), drawn)
        return str(connection.execute(text("SELECT value FROM meta WHERE name = 'ledger_id'")).scalar_one())


def unavailable(doing: str, broken: exc.DBAPIError | OverflowError) -> LedgerUnavailable:
    """What the database says, as an error that names the remedy."""
    what = broken.orig if isinstance(broken, exc.DBAPIError) else broken
    kept, remedy = "Nothing of it was kept.", _remedy(what)
    if getattr(what, "sqlstate", "") is None:  # no word from PostgreSQL: the connection went
        kept = "Whether it was kept is read back before anything else is done."
    return LedgerUnavailable(f"The database failed while {doing}: {str(what).strip()}. {kept} {remedy}")


_OF_STATE = {
    "28": "Check user and password in the ledger's URL.",
    "3D": "Make the database that the ledger's URL names, or name another.",
    "42": "Give the ledger's URL a user who owns the tables, and a database that holds nothing else.",
    "53": "Free disk space, memory or connections at the database server; it may simply be tried again.",
}
"""The first two letters of PostgreSQL's error codes that somebody can mend."""


def _remedy(what: BaseException | None) -> str:
    state = getattr(what, "sqlstate", "")
    if state is None:
        return "Check that the database runs and can be reached from here; it may simply be tried again."
    if state:
        return _OF_STATE.get(state[:2], "It may simply be tried again.")
    if "not a database" in str(what) or "unable to open" in str(what):
        return "Name the ledger's own file, in a folder that can be written."
    return "Free disk space or repair the disk that holds the ledger; it may simply be tried again."
