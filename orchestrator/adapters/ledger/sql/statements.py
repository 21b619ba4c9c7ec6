"""How do many rows enter a table with few calls? The raw statements of the hot path, written once.

Called by `writer` alone. One statement carries many rows: the driver gives up Python's lock several times a statement,
and each time a busy engine keeps it for a while; a statement a row would wait thousands of times. SQLite's come in few
sizes, so that the driver keeps them parsed: a text made to measure costs two microseconds a row to parse. PostgreSQL's
take one array a column, however many rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table

from orchestrator.adapters.ledger.sql import tables

SIZES = (256, 128, 64, 32)
"""Rows of one statement, and what is left over in one more: a small commit has one statement a table."""
_ARRAYS = {int: "bigint", str: "text", bytes: "bytea", bool: "boolean"}
"""What PostgreSQL calls the parts of an array; a narrower column takes them in."""


@dataclass(frozen=True, eq=False)
class Insert:
    """Rows into a table, and what becomes of one whose key is there already."""

    table: Table
    clash: str = ""
    """Both databases speak one ON CONFLICT; empty: it is an error, as every failure here is, and nothing is kept."""

    @property
    def columns(self) -> str:
        """Of the whole table, in its order."""
        return ", ".join(column.name for column in self.table.c)


def _or_replace(table: Table) -> Insert:
    keys = ", ".join(column.name for column in table.primary_key)
    new = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    return Insert(table, f"ON CONFLICT ({keys}) DO UPDATE SET {new}")


EVENTS = Insert(tables.events)
BODIES = Insert(tables.bodies)
SPECS = Insert(tables.specs, "ON CONFLICT DO NOTHING")
JOBS = _or_replace(tables.jobs_live)
COUNTERS = Insert(tables.counters, "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value")
KEYS = _or_replace(tables.keys)
PRESENCE = _or_replace(tables.presence)
META = _or_replace(tables.meta)


def put(connection: Connection, statement: Insert, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, each a tuple in the table's column order."""
    if connection.dialect.name == "postgresql":
        if rows:
            connection.exec_driver_sql(_of_arrays(statement), tuple(map(list, zip(*rows, strict=True))))
        return
    start = 0
    while (left := len(rows) - start) > 0:
        size = next((size for size in SIZES if size <= left), left)
        values = tuple(chain.from_iterable(rows[start : start + size]))
        connection.exec_driver_sql(_of_rows(statement, size), values)
        start += size


@cache
def _of_rows(statement: Insert, rows: int) -> str:
    """SQLite's text for so many rows.

    A statement of many rows that may fail alone keeps a copy of each page that it changes, to take back what it did.
    Where a clash ends the whole transaction anyhow, ROLLBACK says so beforehand, and no copies are made.
    """
    marks = f"({', '.join('?' * len(statement.table.c))})"
    verb = "INSERT" if statement.clash else "INSERT OR ROLLBACK"
    return (
        f"{verb} INTO {statement.table.name} ({statement.columns}) VALUES {', '.join([marks] * rows)} {statement.clash}"
    )


@cache
def _of_arrays(statement: Insert) -> str:
    """PostgreSQL's text: one array a column, sent as binary."""
    arrays = ", ".join(f"%b::{_ARRAYS[column.type.python_type]}[]" for column in statement.table.c)
    return f"INSERT INTO {statement.table.name} ({statement.columns}) SELECT * FROM unnest({arrays}) {statement.clash}"
