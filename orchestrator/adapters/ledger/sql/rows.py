"""What does the ledger say? Every read, as a plain function of one connection.

Called by `ledger` (on its reading threads) and by `snapshot` (inside one read transaction). Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text

from orchestrator.model.job import TERMINAL
from orchestrator.ports.ledger import IdempotencyKey, LiveRow, StoredEvent

_ROW = "SELECT job, project, state, body, live FROM jobs_live"
_EVENT = (
    "SELECT e.seq, e.at, e.kind, e.project, e.job, b.bytes, coalesce(b.salt, :none), e.body_hash, e.chain "
    "FROM events e LEFT JOIN bodies b ON b.seq = e.seq"
)
_PAGE = 1000
_ONLY = {"project": "project = :project", "states": "state IN :states", "before": "job < :before"}
"""What a page of rows may be narrowed to."""


def _ask(connection: Connection, query: str, **values: object) -> Any:
    """Put a question, its values by name; a list stands for as many as it has."""
    lists = tuple(name for name, value in values.items() if isinstance(value, list))
    return connection.execute(_read(query, lists), values)


@cache
def _read(query: str, lists: tuple[str, ...]) -> TextClause:
    return text(query).bindparams(*(bindparam(name, expanding=True) for name in lists))


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
    found = _ask(connection, f"{_ROW} WHERE job = :job", job=job).first()
    return _row(found) if found else None


def page(
    connection: Connection, project: str | None, states: Iterable[str] | None, limit: int, before: str | None
) -> list[LiveRow]:
    """Rows of jobs, newest first. States that nobody leaves are the only ones a row that is not live can have."""
    asked = None if states is None else sorted(states)
    given = {"project": project, "states": asked, "before": before}
    where = ["job > ''", *(_ONLY[name] for name, value in given.items() if value is not None)]
    if asked is not None and not TERMINAL.intersection(asked):
        where.append("live")
    query = f"{_ROW} WHERE {' AND '.join(where)} ORDER BY job DESC LIMIT :limit"
    values = {name: value for name, value in given.items() if value is not None}
    return [_row(found) for found in _ask(connection, query, limit=limit, **values)]


def counters(connection: Connection) -> dict[str, int]:
    """All counters by key."""
    found = _ask(connection, "SELECT name, value FROM counters")
    return {row[0]: row[1] for row in found}


def spec(connection: Connection, digest: str) -> bytes | None:
    """A document by its digest."""
    found = _ask(connection, "SELECT bytes FROM specs WHERE digest = :digest", digest=digest).scalar()
    return None if found is None else bytes(found)


def specs(connection: Connection, digests: Sequence[str]) -> dict[str, bytes]:
    """Documents by their digests; those that are not there are left out."""
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), _PAGE):
        some = list(digests[start : start + _PAGE])
        query = "SELECT digest, bytes FROM specs WHERE digest IN :digests"
        found.update((digest, bytes(body)) for digest, body in _ask(connection, query, digests=some))
    return found


def key(connection: Connection, project: str, name: str) -> IdempotencyKey | None:
    """A submission's key."""
    query = "SELECT project, key, body_digest, job, expires FROM keys WHERE project = :project AND key = :key"
    found = _ask(connection, query, project=project, key=name).first()
    return IdempotencyKey(*found) if found else None


def presence(connection: Connection) -> int | None:
    """The presence row's time."""
    found = _ask(connection, "SELECT at FROM presence").scalar()
    return None if found is None else int(found)


def events(connection: Connection, after: int, job: str | None, limit: int = _PAGE) -> list[StoredEvent]:
    """One page of events in order, of one job or of all."""
    of = {} if job is None else {"job": job}
    query = f"{_EVENT} WHERE {'e.job = :job AND ' if of else ''}e.seq > :after ORDER BY e.seq LIMIT :limit"
    found = _ask(connection, query, none=b"", after=after, limit=limit, **of)
    return [StoredEvent(*each) for each in found]
