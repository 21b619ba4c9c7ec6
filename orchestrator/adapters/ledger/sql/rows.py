"""What does the ledger say? Every read, as a plain function of one connection.

Called by `ledger` (on its reading threads) and by `snapshot` (inside one read transaction). Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from orchestrator.model.job import TERMINAL
from orchestrator.ports.ledger import IdempotencyKey, LiveRow, StoredEvent

_ROW = "SELECT job, project, state, body, live FROM jobs_live"
_EVENT = (
    "SELECT e.seq, e.at, e.kind, e.project, e.job, b.bytes, coalesce(b.salt, ?), e.body_hash, e.chain "
    "FROM events e LEFT JOIN bodies b ON b.seq = e.seq"
)
_PAGE = 1000


def _ask(connection: Connection, query: str, *values: object) -> Any:
    """Put a question, its values marked by `?`, the way the database's driver marks them."""
    if connection.dialect.paramstyle != "qmark":
        query = query.replace("?", "%s")
    return connection.exec_driver_sql(query, values)


def _row(found: Sequence[Any]) -> LiveRow:
    job, project, state, body, live = found
    return LiveRow(job, project, state, body, bool(live))


def live_rows(connection: Connection) -> list[LiveRow]:
    """Every live row and the ledger's own."""
    found = _ask(connection, f"{_ROW} WHERE live ORDER BY job")
    return [LiveRow(job, project, state, body) for job, project, state, body, _ in found]


def all_rows(connection: Connection) -> Iterator[LiveRow]:
    """Every row, live or not, by job."""
    return map(_row, _ask(connection, f"{_ROW} ORDER BY job"))


def row(connection: Connection, job: str) -> LiveRow | None:
    """One job's row."""
    found = _ask(connection, f"{_ROW} WHERE job = ?", job).first()
    return _row(found) if found else None


def page(
    connection: Connection, project: str | None, states: Iterable[str] | None, limit: int, before: str | None
) -> list[LiveRow]:
    """Rows of jobs, newest first. States that nobody leaves are the only ones a row that is not live can have."""
    asked = None if states is None else sorted(states)
    where, values = ["job > ''"], list[object]()
    if project is not None:
        where, values = [*where, "project = ?"], [*values, project]
    if asked is not None:
        where, values = [*where, f"state IN ({', '.join('?' * len(asked))})"], [*values, *asked]
        if not TERMINAL.intersection(asked):
            where = [*where, "live"]
    if before is not None:
        where, values = [*where, "job < ?"], [*values, before]
    query = f"{_ROW} WHERE {' AND '.join(where)} ORDER BY job DESC LIMIT ?"
    return [_row(found) for found in _ask(connection, query, *values, limit)]


def counters(connection: Connection) -> dict[str, int]:
    """All counters by key."""
    found = _ask(connection, "SELECT name, value FROM counters")
    return {row[0]: row[1] for row in found}


def spec(connection: Connection, digest: str) -> bytes | None:
    """A document by its digest."""
    found = _ask(connection, "SELECT bytes FROM specs WHERE digest = ?", digest).scalar()
    return None if found is None else bytes(found)


def specs(connection: Connection, digests: Sequence[str]) -> dict[str, bytes]:
    """Documents by their digests; those that are not there are left out."""
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), _PAGE):
        some = tuple(digests[start : start + _PAGE])
        query = f"SELECT digest, bytes FROM specs WHERE digest IN ({', '.join('?' * len(some))})"
        found.update((digest, bytes(body)) for digest, body in _ask(connection, query, *some))
    return found


def key(connection: Connection, project: str, name: str) -> IdempotencyKey | None:
    """A submission's key."""
    query = "SELECT project, key, body_digest, job, expires FROM keys WHERE project = ? AND key = ?"
    found = _ask(connection, query, project, name).first()
    return IdempotencyKey(*found) if found else None


def presence(connection: Connection) -> int | None:
    """The presence row's time."""
    found = _ask(connection, "SELECT at FROM presence").scalar()
    return None if found is None else int(found)


def events(connection: Connection, after: int, job: str | None, limit: int = _PAGE) -> list[StoredEvent]:
    """One page of events in order, of one job or of all."""
    if job is None:
        found = _ask(connection, f"{_EVENT} WHERE e.seq > ? ORDER BY e.seq LIMIT ?", b"", after, limit)
    else:
        query = f"{_EVENT} WHERE e.job = ? AND e.seq > ? ORDER BY e.seq LIMIT ?"
        found = _ask(connection, query, b"", job, after, limit)
    return [StoredEvent(*each) for each in found]
