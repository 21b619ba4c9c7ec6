"""How do many rows enter a table with few calls? The raw statements of the hot path, written once.

Called by `writer` alone. One statement carries many rows: the driver gives up Python's lock several times a statement,
and each time a busy engine keeps it for a while; a statement a row would wait thousands of times. Statements come in
few sizes, so that the driver keeps them parsed: a text made to measure costs two microseconds a row to parse.
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

SIZES = (256, 128, 64, 32)
"""Rows of one statement, and what is left over in one more: a small commit has one statement a table."""
_ARRAYS = {int: "bigint", str: "text", bytes: "bytea", bool: "boolean"}
"""What PostgreSQL calls the parts of an array; a narrower column takes them in."""

# A statement of many rows that may fail alone keeps a copy of each page that it changes, to take back what it did.
# These two need none: a number that is there already ends the whole transaction, as every failure here does.
EVENTS = insert(tables.events).prefix_with("OR ROLLBACK")
BODIES = insert(tables.bodies).prefix_with("OR ROLLBACK")
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
    if connection.dialect.name == "postgresql":
        if rows:
            connection.exec_driver_sql(_array_text(statement), tuple(map(list, zip(*rows, strict=True))))
        return
    start = 0
    while (left := len(rows) - start) > 0:
        size = next((size for size in SIZES if size <= left), left)
        values = tuple(chain.from_iterable(rows[start : start + size]))
        connection.exec_driver_sql(_text(statement, size), values)
        start += size


@cache
def _text(statement: Insert, rows: int) -> str:
    """The statement's text for so many rows."""
    head, marks, tail = _parts(statement)
    return f"{head}{', '.join([marks] * rows)}{tail}"


@cache
def _parts(statement: Insert) -> tuple[str, str, str]:
    """What comes before, for, and after the rows."""
    marks = f"({', '.join('?' * len(statement.table.c))})"
    return str(statement.compile(dialect=sqlite.dialect())).partition(marks)


@cache
def _array_text(statement: Insert) -> str:
    """The statement's text for PostgreSQL: one array a column, however many rows; both speak one ON CONFLICT."""
    head, _, tail = _text(statement, 1).partition("VALUES (")
    arrays = ", ".join(f"%b::{_ARRAYS[column.type.python_type]}[]" for column in statement.table.c)
    return f"{head.replace(' OR ROLLBACK', '')}SELECT * FROM unnest({arrays}){tail.partition(')')[2]}"
