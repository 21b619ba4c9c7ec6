"""The ledger of a running server: one writer thread, reads on threads of their own, nothing ever blocks the loop.

Made by the composition root; implements `ports.ledger.Ledger`. A read that starts after a commit returned sees it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, exc

from orchestrator.adapters.ledger.sql import rows as read
from orchestrator.adapters.ledger.sql import schema
from orchestrator.adapters.ledger.sql.database import Database, Place, database
from orchestrator.adapters.ledger.sql.linking import Head
from orchestrator.adapters.ledger.sql.writer import Writer, read_head
from orchestrator.ports.inbox import Inbox
from orchestrator.ports.ledger import (
    Batch,
    Committed,
    IdempotencyKey,
    LedgerError,
    LedgerUnavailable,
    LiveRow,
    StoredEvent,
)

T = TypeVar("T")
A = TypeVar("A")
_SWITCH_S = 0.0005
"""How long a busy loop keeps Python's lock from the writer. With the usual 5 ms a commit beside a loop whose turns are
shorter than that was seen to take 2 s; with this one 40 ms."""
LEASE_US = 5_000_000
"""How long a leader may be silent before another server leads."""
_RESIGN_S = 1.0
_READ_S = 60.0
"""How long PostgreSQL may take to answer a read: the live rows of a million jobs are one."""
_READERS = 4
"""Threads (and connections) for reading: a page, a restart, a timeline and one to spare."""


class SqlLedger:
    """A ledger as one server sees it, whether that leads or follows. Open with `SqlLedger.open`, end with `close`."""

    def __init__(self, kept: Database, let_go: Callable[[], None], lease_us: int) -> None:
        """Use `open`; blocks while the schema is brought up to date."""
        self._database, self._let_go = kept, let_go
        self._lead = kept.lead(lease_us)
        self.lease_us = self._lead.life_us
        self._writing: Engine = kept.connect(writes=True, checked=False)
        schema.upgrade(self._writing)
        self.ledger_id = schema.identity(self._writing)
        self._reading: Engine = kept.connect(writes=False)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="ledger-reader")
        self._renewer = ThreadPoolExecutor(1, thread_name_prefix="ledger-lease")
        self._renewing: Engine = kept.connect(writes=True)
        self._writer = Writer(self._writing, self.ledger_id, self._lead)
        self._writer.start()
        self._closed = False
        self.inbox: Inbox | None = None
        self._deaf: Callable[[], None] = lambda: None
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))

    @classmethod
    async def open(cls, place: Place, lease_us: int = LEASE_US) -> SqlLedger:
        """Open (and make, if need be) the ledger at a place.

        `LedgerLocked` while another server holds a file; of a PostgreSQL database there is a leader (`next_term`),
        whose lease lives for `lease_us` after each renewal.
        """
        ledger = await asyncio.to_thread(cls._open, place, lease_us)
        made = ledger._database.inbox(ledger._asked, ledger._lead)
        if made is not None:
            ledger.inbox, ledger._deaf = made
        return ledger

    @classmethod
    def _open(cls, place: Place, lease_us: int) -> SqlLedger:
        kept = database(place)
        let_go = kept.hold()
        with ExitStack() as otherwise:
            otherwise.callback(let_go)
            made = cls(kept, let_go, lease_us)
            otherwise.pop_all()
        return made

    async def commit(self, batch: Batch) -> Committed:
        """Append durably, together with whatever else waits."""
        done: Committed = await self._write(batch)
        return done

    async def touch(self, at: int) -> None:
        """Move the presence row alone."""
        await self._write(Batch(events=(), presence=at))

    async def next_term(self) -> int:
        """Lead, under a term higher than any before."""
        term: int = await self._write(None)
        return term

    async def renew(self) -> None:
        """Hold on to the lead, on a connection and thread that do nothing else."""
        if self._lead.life_us is not None:
            await self._led(self._lead.renew)

    async def resign(self) -> None:
        """Let another server lead, if the database still hears us; whoever waits for it is told that it is gone."""
        if self._lead.life_us is None:
            return
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(_RESIGN_S):
                await self._led(self._lead.resign)
        self._database.sever()

    async def _led(self, act: Callable[[Connection], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._renewer, self._do, act)

    async def _asked(self, act: Callable[[Connection], T]) -> T:
        return await self._patiently(self._do, act, self._renewing)

    def _do(self, act: Callable[[Connection], T]) -> T:
        """In a transaction of its own, beside the writer's."""
        try:
            with self._renewing.begin() as connection:
                return act(connection)
        except exc.DBAPIError as broken:
            raise schema.unavailable("asking for the lead or at the inbox", broken) from broken

    async def _patiently(self, work: Callable[[A], T], argument: A, through: Engine) -> T:
        """On a reading thread; where the database never answers, that engine's connections are let go of."""
        if self._closed:
            raise LedgerError("This server has closed its ledger; nothing was read. Open it again first.")
        there = asyncio.get_running_loop().run_in_executor(self._readers, work, argument)
        if self.lease_us is None:
            return await there
        try:
            async with asyncio.timeout(_READ_S):
                return await there
        except TimeoutError as silent:
            self._database.sever(through)
            raise LedgerUnavailable(f"The database gave no answer within {_READ_S:g} s. Try again.") from silent

    async def presence(self) -> int | None:
        """When a controller of this ledger was last present."""
        return await self._read(read.presence)

    async def live_rows(self) -> Sequence[LiveRow]:
        """Every live row and the ledger's own: 200,000 of them in about a second."""
        return await self._read(read.live_rows)

    async def row(self, job: str) -> LiveRow | None:
        """One job's row."""
        return await self._read(lambda connection: read.row(connection, job))

    async def rows(
        self, project: str | None, states: Iterable[str] | None, limit: int, before: str | None
    ) -> Sequence[LiveRow]:
        """Rows of jobs, newest first."""
        return await self._read(lambda connection: read.page(connection, project, states, limit, before))

    async def counters(self) -> Mapping[str, int]:
        """All counters."""
        return await self._read(read.counters)

    async def spec(self, digest: str) -> bytes | None:
        """A document by its digest."""
        return await self._read(lambda connection: read.spec(connection, digest))

    async def specs(self, digests: Iterable[str]) -> Mapping[str, bytes]:
        """Documents by their digests."""
        wanted = tuple(digests)
        return await self._read(lambda connection: read.specs(connection, wanted))

    async def find_key(self, project: str, key: str) -> IdempotencyKey | None:
        """The submission that used this key."""
        return await self._read(lambda connection: read.key(connection, project, key))

    async def events(self, after: int = 0, job: str | None = None) -> AsyncIterator[StoredEvent]:
        """Events in order, read page by page; those committed meanwhile are included."""
        while page := await self._read(partial(read.events, after=after, job=job)):
            for event in page:
                yield event
            after = page[-1].seq

    async def head(self) -> tuple[int, str]:
        """Last sequence number and chain head of what is durable."""
        head = await self._end_of_it()
        return head.seq, head.chain.hex()

    async def last_at(self) -> int:
        """Time of the last event, 0 in an empty ledger."""
        return (await self._end_of_it()).at

    async def _end_of_it(self) -> Head:
        """What we wrote last; where another server may lead, what is in the database."""
        if self.lease_us is None:
            return self._writer.head
        return await self._read(lambda connection: read_head(connection, self.ledger_id))

    async def durability(self) -> Mapping[str, str]:
        """What the database itself says of its durability."""
        return await asyncio.to_thread(self._database.durability, self._writing)

    async def close(self) -> None:
        """Write what was accepted, let go of connections and lock. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._deaf)
        await asyncio.to_thread(self._writer.stop)
        await self.resign()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._writer.join()
        for threads in (self._readers, self._renewer):
            threads.shutdown()
        for engine in (self._reading, self._writing, self._renewing):
            engine.dispose()
        self._let_go()

    def _write(self, batch: Batch | None) -> asyncio.Future[Any]:
        if self._closed:
            raise LedgerError("This server has closed its ledger; nothing was written. Open it again first.")
        return self._writer.submit(batch)

    async def _read(self, question: Callable[[Connection], T]) -> T:
        return await self._patiently(self._ask, question, self._reading)

    def _ask(self, question: Callable[[Connection], T]) -> T:
        try:
            with self._reading.connect() as connection:
                return question(connection)
        except exc.DBAPIError as broken:
            raise schema.unavailable("reading the ledger", broken) from broken
