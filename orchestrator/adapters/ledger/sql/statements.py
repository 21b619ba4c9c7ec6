"""How do many rows enter a table with few calls? The raw statements of the hot path, written once.

Called by `writer` alone. One statement carries all rows of a table: the driver gives up Python's lock several times
a statement, and each time a busy engine keeps it for milliseconds; a statement a row would wait thousands of times.
Parsing so long a statement costs about two microseconds a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.dml import Insert

from orchestrator.adapters.ledger.sql import tables

_MOST_VALUES = 32_000
"""SQLite takes 32,766 parameters a statement."""

EVENTS = insert(tables.events)
BODIES = insert(tables.bodies)
SPECS = insert(tables.specs).on_conflict_do_nothing()
_jobs = insert(tables.jobs_live)
JOBS = _jobs.on_conflict_do_update(
    index_elements=["job"],
    set_={c: _jobs.excluded[c] for c in ("project", "state", "live", "applied_seq", "body")},
)
_counters = insert(tables.counters)
COUNTERS = _counters.on_conflict_do_update(
    index_elements=["name"], set_={"value": tables.counters.c.value + _counters.excluded.value}
)
_keys = insert(tables.keys)
KEYS = _keys.on_conflict_do_update(
    index_elements=["project", "key"],
    set_={c: _keys.excluded[c] for c in ("body_digest", "job", "expires")},
)
_presence = insert(tables.presence)
PRESENCE = _presence.on_conflict_do_update(index_elements=["id"], set_={"at": _presence.excluded.at})
_meta = insert(tables.meta)
META = _meta.on_conflict_do_update(index_elements=["name"], set_={"value": _meta.excluded.value})


def put(connection: Connection, statement: Insert, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, each a tuple in the table's column order."""
    head, marks, tail = _parts(statement)
    most = _MOST_VALUES // len(statement.table.c)
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        connection.exec_driver_sql(f"{head}{', '.join([marks] * len(some))}{tail}", tuple(chain.from_iterable(some)))


@cache
def _parts(statement: Insert) -> tuple[str, str, str]:
    """The statement's text before one row's values, those, and the rest."""
    marks = f"({', '.join('?' * len(statement.table.c))})"
    head, _, tail = str(statement.compile(dialect=sqlite.dialect())).partition(marks)
    return head, marks, tail
