"""How does a ledger get into a file and out of it again, whole, whatever database holds it?

Called by `orchestrator backup` and `restore`. The file is an SQLite ledger: one moment of the original, with its
identity and chain, which is checked before anybody relies on it. Neither overwrites anything.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, Engine, create_engine, exc, insert, select, text

from orchestrator.adapters.ledger.sql import schema, statements
from orchestrator.adapters.ledger.sql.database import Place, database
from orchestrator.adapters.ledger.sql.tables import bodies, counters, events, jobs_live, keys, meta, presence, specs
from orchestrator.core.chain import genesis, hash_body, link
from orchestrator.ports.ledger import LedgerError, LedgerLocked, LedgerUnavailable

TABLES = (events, bodies, specs, jobs_live, counters, keys, presence, meta)
"""What a ledger is. Who leads, and wishes on their way, are of one database's life."""
ROWS = 1000
"""Rows under way at a time."""
_VERSION = text("SELECT version_num FROM alembic_version")
_TERM = text("SELECT term FROM lead WHERE id = 1")
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
"""Where SQLite says so of a file that we have just made, it is the disk's or the folder's fault."""
_EMPTY = "SELECT 1 FROM meta WHERE name = 'ledger_id'"


def backup(place: Place, file: Path) -> int:
    """Write the ledger at `place`, as of now, to a new file; gives its last sequence number. The server may run on."""
    with _new(file) as made, _file(made) as target:
        schema.upgrade(target)
        source = database(place).moment()
        try:
            with source.begin() as there, target.begin() as here:
                _alike(there, here)
                _copy(there, here)
                _keep_term(there, here)
                return _whole(here)
        except exc.DBAPIError as broken:
            raise schema.unavailable("copying the ledger", broken) from broken
        finally:
            source.dispose()


@contextmanager
def opened(file: Path) -> Iterator[Path]:
    """A copy of a backup that may be written to, of this version and with its chain checked. `LedgerError`."""
    with TemporaryDirectory(prefix="orchestrator-restore-") as folder:
        copied = Path(folder) / "ledger.db"
        try:
            shutil.copyfile(file, copied)
        except OSError as lost:
            raise LedgerError(f"The backup cannot be read: {lost}. Name a file that `backup` wrote.") from lost
        try:
            with _file(copied) as engine:
                schema.upgrade(engine)
                with engine.begin() as connection:
                    _whole(connection)
        except LedgerUnavailable as broken:
            raise LedgerError(unopened(file, getattr(broken.__cause__, "orig", broken))) from broken
        except LedgerError as wrong:
            raise LedgerError(f"{file}: {wrong}") from wrong
        yield copied


def unopened(file: Path, cause: BaseException) -> str:
    """Why the copy of a backup could not be opened, and what to do."""
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _NO_ROOM:
        return f"{file} cannot be looked at: {cause}. Make room for a copy of it, or point TMPDIR at some; try again."
    return f"{file} is damaged, or no backup: {cause}. Take another; nothing was done."


def restore(copied: Path, place: Place) -> None:
    """Put what `opened` gave where no ledger is; `LedgerError` where one is, `LedgerLocked` while a server has it."""
    kept = database(place)
    try:
        let_go = kept.hold()
    except LedgerLocked as busy:
        raise LedgerLocked("A server keeps this ledger. Stop it first; nothing was done.") from busy
    try:
        target = kept.connect(writes=True)
        try:
            schema.upgrade(target)
            with _file(copied) as source, source.begin() as there, target.begin() as here:
                _take_room(here, place)
                _copy(there, here)
                term = there.execute(text("SELECT value FROM meta WHERE name = 'term'")).scalar() or 0
                last = "(SELECT coalesce(max(seq), 0) FROM events)"
                here.execute(text(f"UPDATE lead SET term = :term, seq = {last}, expires = 0"), {"term": int(term)})
        finally:
            target.dispose()
    except exc.DBAPIError as broken:
        raise schema.unavailable("putting the ledger back", broken) from broken
    finally:
        let_go()


def _take_room(connection: Connection, place: Place) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE lead, meta IN EXCLUSIVE MODE")
    if connection.exec_driver_sql(_EMPTY).first() is not None:
        where = place if isinstance(place, Path) else "this database"
        raise LedgerError(
            f"There is a ledger in {where} already. Move it away, or name another place; nothing was done."
        )


@contextmanager
def _new(file: Path) -> Iterator[Path]:
    """Where to write what becomes `file`, whole or not at all."""
    if file.exists():
        raise LedgerError(f"There is a file {file} already. Name another one.")
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # it holds what was submitted
        yield part
        part.rename(file)
        folder = os.open(file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as broken:
        raise LedgerError(f"The backup cannot be written: {broken}. Name another file.") from broken
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _file(path: Path) -> Iterator[Engine]:
    """A ledger's file without a log beside it, so that it can be moved."""
    engine = create_engine(f"sqlite+pysqlite:///{path}")
    try:
        yield engine
    except exc.DBAPIError as broken:
        raise schema.unavailable("reading or writing a backup", broken) from broken
    finally:
        engine.dispose()


def _alike(there: Connection, here: Connection) -> None:
    if there.execute(_VERSION).scalar() != here.execute(_VERSION).scalar():
        raise LedgerError("This ledger is of another version. Start its server with this version once, then again.")


def _copy(there: Connection, here: Connection) -> None:
    for table in TABLES:
        found = there.execution_options(stream_results=True, yield_per=ROWS).execute(select(table))
        for rows in found.mappings().partitions():
            here.execute(insert(table), [dict(row) for row in rows])


def _keep_term(there: Connection, here: Connection) -> None:
    """PostgreSQL counts terms in the lease, a file among its facts."""
    term = there.execute(_TERM).scalar() or 0
    if there.dialect.name == "postgresql":
        statements.put(here, statements.META, [("term", str(term))])


def _whole(connection: Connection) -> int:
    """The last sequence number, once every event was seen to follow the one before. `LedgerError`."""
    known = connection.execute(text("SELECT value FROM meta WHERE name = 'ledger_id'")).scalar()
    if known is None:
        raise LedgerError("This is no ledger's backup.")
    chain, last = genesis(str(known)), 0
    found = connection.execution_options(yield_per=ROWS).execute(
        select(events, bodies.c.salt, bodies.c.bytes).join(bodies, isouter=True, onclause=events.c.seq == bodies.c.seq)
        .order_by(events.c.seq)
    )  # fmt: skip
    for event in found:
        last += 1
        chain = link(chain, event.seq, event.at, (event.kind, event.project, event.job), event.body_hash)
        kept = event.bytes is None or hash_body(event.salt, event.bytes) == event.body_hash
        if event.seq != last or chain != event.chain or not kept:
            raise LedgerError(
                f"The ledger's chain breaks at event {last}: it was damaged or changed. Use another backup."
            )
    return last
