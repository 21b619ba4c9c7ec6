"""The ledger port: what happened, in order, for ever. Written by the engine only; read by API, audit and restart.

One writer, which leads: by a lock that lasts as long as its process, or by a lease. A batch is committed whole or not
at all, and is durable when `commit` returns: events with their salted body hashes and chain, the rows they changed,
documents they cite, counters, idempotency keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from orchestrator.ports.inbox import Inbox, Reply


class NewEvent(Struct, frozen=True, gc=False):
    """One event to append: canonical body bytes as encoded once by `model.event.encode`."""

    at: int
    kind: str
    project: str
    job: str
    """Job id, or "" for events of the whole ledger."""
    body: bytes


class LiveRow(Struct, frozen=True, gc=False):
    """Where one job stands after this batch; `live` False once nothing will ever happen to it again."""

    job: str
    project: str
    state: str
    body: bytes
    live: bool = True


class IdempotencyKey(Struct, frozen=True):
    """A submission's key; the same (project, key) with another body digest is a conflict until `expires`."""

    project: str
    key: str
    body_digest: str
    job: str
    expires: int


class Batch(Struct, frozen=True):
    """Everything of one turn. Rows carry the state after the last event of the batch."""

    events: Sequence[NewEvent]
    rows: Sequence[LiveRow] = ()
    specs: Mapping[str, bytes] = field(default_factory=dict)
    """digest → document bytes; already known digests are ignored."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """counter key → amount to add (see core.counters)."""
    keys: Sequence[IdempotencyKey] = ()
    presence: int | None = None
    """The presence row's new time, if the batch should touch it."""
    replies: Sequence[Reply] = ()
    """To wishes of the inbox that this batch grants, or whose refusal it is."""


class Committed(Struct, frozen=True):
    """The first sequence number of the batch and the chain's head after it."""

    first_seq: int
    head: str


class StoredEvent(Struct, frozen=True):
    """One event as it lies in the ledger."""

    seq: int
    at: int
    kind: str
    project: str
    job: str
    body: bytes | None
    """None where the body was redacted."""
    salt: bytes
    body_hash: bytes
    chain: bytes


class LedgerError(Exception):
    """The ledger cannot do what was asked; says whose fault and what to do next."""


class LedgerLocked(LedgerError):
    """Another server holds this ledger."""


class Deposed(LedgerError):
    """Another server leads, or may: nothing of the batch was kept, and nothing may follow from what we believed."""


class LedgerUnavailable(LedgerError):
    """Disk full, connection lost: it may be tried again. Of a batch nothing was kept; where the connection went while
    it was being written, nobody knows, and the ledger must be read again before anything else is done."""


class Ledger(Protocol):
    """Append-only truth with a read model beside it."""

    ledger_id: str
    lease_us: int | None
    """How long a lead lasts after `next_term` or a `renew` was sent; None: as long as the process."""
    inbox: Inbox | None
    """Where wishes come from servers that do not lead; None: there are no such servers."""

    async def commit(self, batch: Batch) -> Committed:
        """Append durably. Crash before or during: nothing of it. After: all of it. `Deposed` if another leads."""
        ...

    async def touch(self, at: int) -> None:
        """Move the presence row alone (no event)."""
        ...

    async def presence(self) -> int | None:
        """When this ledger's controller was last present; None before the first time."""
        ...

    async def next_term(self) -> int:
        """Take the lead: a number higher than any before, durable. `LedgerLocked` while another server leads."""
        ...

    async def renew(self) -> None:
        """Hold on to the lead for another life; `Deposed` if it is another's by now."""
        ...

    async def resign(self) -> None:
        """Lead no more: another server may at once, and what is still being written ends. Never fails."""
        ...

    async def live_rows(self) -> Sequence[LiveRow]:
        """Every live row, and the ledger's own row (job "")."""
        ...

    async def row(self, job: str) -> LiveRow | None:
        """One job's row, live or not."""
        ...

    async def rows(
        self, project: str | None, states: Iterable[str] | None, limit: int, before: str | None
    ) -> Sequence[LiveRow]:
        """Rows by job id, newest first, live or not; `before` pages on."""
        ...

    async def counters(self) -> Mapping[str, int]:
        """All counters as of the last commit."""
        ...

    async def spec(self, digest: str) -> bytes | None:
        """A document by its digest."""
        ...

    async def specs(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """Documents by their digests, in one read; those that are not there are left out."""
        ...

    async def find_key(self, project: str, key: str) -> IdempotencyKey | None:
        """The submission that used this key, if it has not expired by the caller's clock (the caller compares)."""
        ...

    def events(self, after: int = 0, job: str | None = None) -> AsyncIterator[StoredEvent]:
        """Events in order from `after` (exclusive), of one job or of all."""
        ...

    async def head(self) -> tuple[int, str]:
        """Last sequence number and chain head (hex)."""
        ...

    async def last_at(self) -> int:
        """Time of the last event (microseconds UTC), 0 in an empty ledger: no later event may be older."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, release the lock."""
        ...
