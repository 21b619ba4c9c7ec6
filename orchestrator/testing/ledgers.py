"""A ledger for stories: the port's every promise on dictionaries, without threads, so that virtual time works.

Used by stories, the simulator and tests of strangers. `MemoryDisk` is what survives a crash; `MemoryLedger` is one
server's hold on it. `on_commit` is called after every durable commit and may raise: the story's server dies there,
its events stay. Never used by a server.
"""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.chain import SALT_SIZE, genesis, hash_body, link
from orchestrator.ports.inbox import Inbox
from orchestrator.ports.ledger import (
    Batch,
    Committed,
    IdempotencyKey,
    LedgerError,
    LedgerLocked,
    LedgerUnavailable,
    LiveRow,
    StoredEvent,
)


class MemoryDisk(Struct, kw_only=True, eq=False):
    """What a ledger leaves behind: hand it to the next `MemoryLedger` to restart from it."""

    seed: int = 0
    events: list[StoredEvent] = field(default_factory=list)
    rows: dict[str, LiveRow] = field(default_factory=dict)
    specs: dict[str, bytes] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, str], IdempotencyKey] = field(default_factory=dict)
    presence: int | None = None
    term: int = 0
    commits: int = 0
    full: bool = False
    """True: every write fails as on a full disk, until it is False again."""
    holder: MemoryLedger | None = None

    def backup(self) -> MemoryDisk:
        """A disk with the ledger as it is now."""
        named = {name: getattr(self, name) for name in ("events", "rows", "specs", "counters", "keys")}
        return replace(self, holder=None, **{name: copy(value) for name, value in named.items()})


class MemorySnapshot:
    """A disk as `audit export` reads it."""

    def __init__(self, disk: MemoryDisk, ledger_id: str) -> None:
        self._disk = disk
        self.ledger_id = ledger_id

    def events(self) -> Iterator[StoredEvent]:
        """All events in order."""
        return iter(tuple(self._disk.events))

    def rows(self) -> Iterator[LiveRow]:
        """All rows, live or not, by job."""
        return iter(sorted(self._disk.rows.values(), key=lambda row: row.job))

    def counters(self) -> Mapping[str, int]:
        """All counters."""
        return dict(self._disk.counters)

    def spec(self, digest: str) -> bytes | None:
        """A document by its digest."""
        return self._disk.specs.get(digest)


class MemoryLedger:
    """One server's hold on a `MemoryDisk`; `LedgerLocked` while another one has it."""

    lease_us: int | None = None
    inbox: Inbox | None = None

    def __init__(self, disk: MemoryDisk | None = None, on_commit: Callable[[Committed], None] | None = None) -> None:
        self.disk = disk or MemoryDisk()
        if self.disk.holder is not None:
            raise LedgerLocked("Another server of this story keeps the ledger. Let it crash or close first.")
        self.disk.holder = self
        self.on_commit = on_commit
        self._random = random.Random(self.disk.seed)
        self.ledger_id = self._random.randbytes(16).hex()
        self._random.seed(f"{self.disk.seed} after {len(self.disk.events)}")

    def crash(self) -> None:
        """The server is gone: the disk may be held by the next one, this one can do nothing any more."""
        if self.disk.holder is self:
            self.disk.holder = None

    async def commit(self, batch: Batch) -> Committed:
        """Append durably; then `on_commit`, which may raise."""
        disk = self._writable()
        first = len(disk.events) + 1
        disk.events.extend(self._link(batch))
        disk.rows.update((row.job, row) for row in batch.rows)
        disk.specs.update((digest, data) for digest, data in batch.specs.items() if digest not in disk.specs)
        for name, amount in batch.counters.items():
            disk.counters[name] = disk.counters.get(name, 0) + amount
        disk.keys.update(((key.project, key.key), key) for key in batch.keys)
        disk.presence = disk.presence if batch.presence is None else batch.presence
        disk.commits += 1
        committed = Committed(first_seq=first, head=self._end()[2].hex())
        if self.on_commit is not None:
            self.on_commit(committed)
        return committed

    def _link(self, batch: Batch) -> list[StoredEvent]:
        seq, at, chain = self._end()
        linked: list[StoredEvent] = []
        for r in batch.events:
            if r.at < at:
                raise LedgerError(f"The engine's batch cannot be written: {r.kind} at {r.at} µs is before {at} µs.")
            seq, at, salt = seq + 1, r.at, self._random.randbytes(SALT_SIZE)
            hashed = hash_body(salt, r.body)
            try:
                chain = link(chain, seq, at, (r.kind, r.project, r.job), hashed)
            except (ValueError, struct.error) as wrong:
                raise LedgerError(f"The engine's batch cannot be written: {wrong}.") from wrong
            linked.append(StoredEvent(seq, at, r.kind, r.project, r.job, r.body, salt, hashed, chain))
        return linked

    def _end(self) -> tuple[int, int, bytes]:
        last = self.disk.events[-1] if self.disk.events else None
        return (last.seq, last.at, last.chain) if last else (0, 0, genesis(self.ledger_id))

    def _readable(self) -> MemoryDisk:
        if self.disk.holder is not self:
            raise LedgerError("This server has closed its ledger (or crashed). Open it again first.")
        return self.disk

    def _writable(self) -> MemoryDisk:
        if self._readable().full:
            raise LedgerUnavailable("The story's disk is full; nothing was kept. Set `full` to False.")
        return self.disk

    async def touch(self, at: int) -> None:
        """Move the presence row alone."""
        self._writable().presence = at

    async def presence(self) -> int | None:
        """When a controller was last present."""
        return self._readable().presence

    async def next_term(self) -> int:
        """A term higher than any before."""
        self._writable().term += 1
        return self.disk.term

    async def renew(self) -> None:
        """Lasts as long as this server."""

    async def resign(self) -> None:
        """Let go with `close`."""

    async def live_rows(self) -> Sequence[LiveRow]:
        """Every live row and the ledger's own."""
        return [row for _, row in sorted(self._readable().rows.items()) if row.live]

    async def row(self, job: str) -> LiveRow | None:
        """One job's row."""
        return self._readable().rows.get(job)

    async def rows(
        self, project: str | None, states: Iterable[str] | None, limit: int, before: str | None
    ) -> Sequence[LiveRow]:
        """Rows of jobs, newest first."""
        asked = None if states is None else set(states)
        found = (
            row
            for job, row in sorted(self._readable().rows.items(), reverse=True)
            if job
            and (project is None or row.project == project)
            and (asked is None or row.state in asked)
            and (before is None or job < before)
        )
        return [row for row, _ in zip(found, range(limit), strict=False)]

    async def counters(self) -> Mapping[str, int]:
        """All counters."""
        return dict(self._readable().counters)

    async def spec(self, digest: str) -> bytes | None:
        """A document by its digest."""
        return self._readable().specs.get(digest)

    async def specs(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """Documents by their digests."""
        held = self._readable().specs
        return {digest: held[digest] for digest in digests if digest in held}

    async def find_key(self, project: str, key: str) -> IdempotencyKey | None:
        """The submission that used this key."""
        return self._readable().keys.get((project, key))

    async def events(self, after: int = 0, job: str | None = None) -> AsyncIterator[StoredEvent]:
        """Events in order; those committed meanwhile are included."""
        at = after
        while at < len(self._readable().events):
            event = self.disk.events[at]
            at += 1
            if job is None or event.job == job:
                yield event

    async def head(self) -> tuple[int, str]:
        """Last sequence number and chain head."""
        return self._end()[0], self._end()[2].hex()

    async def last_at(self) -> int:
        """Time of the last event."""
        return self._end()[1]

    def snapshot(self) -> MemorySnapshot:
        """The ledger as of now, for `core.audit.lines.export`."""
        return MemorySnapshot(self.disk, self.ledger_id)

    async def close(self) -> None:
        """Let go of the disk."""
        self.crash()
