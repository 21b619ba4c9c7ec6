"""Who writes the ledger, and in which order? One thread, one connection; batches that wait together share a commit.

Called by `ledger.SqlLedger`. A request's order is its arrival; a whole group is one transaction, so a full disk
keeps nothing of any of them. After a failure the head is read back, because a commit whose reply was lost may
stand all the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Engine, exc

from orchestrator.adapters.ledger.sql import statements
from orchestrator.adapters.ledger.sql.inbox import write_replies
from orchestrator.adapters.ledger.sql.lead import Lead
from orchestrator.adapters.ledger.sql.linking import Group, Head, add
from orchestrator.adapters.ledger.sql.schema import unavailable
from orchestrator.core.chain import genesis
from orchestrator.ports.ledger import Batch, Deposed, LedgerError, LedgerUnavailable

_MOST_EVENTS = 4096
"""Events of one transaction: beyond it waiting grows faster than the cost of an event falls."""

_FORGET = "DELETE FROM keys WHERE expires < (SELECT at FROM presence)"
"""By the ledger's own time: when a controller was last present."""
PATIENCE_S = 5.0
"""How long a server that stops waits for what it was writing."""


class Request(Struct, eq=False):
    """One caller that waits: for a batch, or (batch None) for the next term."""

    batch: Batch | None
    loop: asyncio.AbstractEventLoop
    reply: asyncio.Future[Any]
    result: Any = None


class Writer(threading.Thread):
    """The only one that writes. `submit` from the loop; `stop` finishes what was accepted."""

    def __init__(self, engine: Engine, ledger_id: str, lead: Lead) -> None:
        super().__init__(name="ledger-writer", daemon=True)
        self._engine, self._lead = engine, lead
        self._queue: SimpleQueue[Request | None] = SimpleQueue()
        self._ledger_id = ledger_id
        self.head = self._read_head()
        self._sure = True
        """False after a failure, until the head has been read back."""
        self._current: list[Request] = []
        self._over = False

    def submit(self, batch: Batch | None) -> asyncio.Future[Any]:
        """Queue a request of the running loop; the future ends when it is durable or has failed."""
        loop = asyncio.get_running_loop()
        request = Request(batch=batch, loop=loop, reply=loop.create_future())
        self._queue.put(request)
        if self._over:
            self._abandon()
        return request.reply

    def stop(self) -> None:
        """Write what was accepted, then end. Blocks, for at most PATIENCE_S: a database may never answer."""
        self._queue.put(None)
        self.join(PATIENCE_S)

    def run(self) -> None:
        """Serve groups until told to stop. Should it end by a fault of its own, nobody waits for it for ever."""
        try:
            going = True
            while going:
                self._current, going = self._gather()
                self._serve(self._current)
                _answer(self._current)
                self._current = []
        finally:
            self._over = True
            self._abandon()

    def _abandon(self) -> None:
        """Refuse whatever waits for a writer that is no more."""
        left, self._current = self._current, []
        while not self._queue.empty():
            request = self._queue.get()
            left += [request] if request is not None else []
        _fail(left, LedgerUnavailable("The ledger's writer has ended; see the log for why. Restart the server."))
        _answer(left)

    def _gather(self) -> tuple[list[Request], bool]:
        """All that waits now, up to a full group; whether to go on after it."""
        group: list[Request] = []
        size = 0
        request = self._queue.get()
        while request is not None:
            group.append(request)
            size += len(request.batch.events) if request.batch else 0
            if size >= _MOST_EVENTS:
                return group, True
            try:
                request = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _serve(self, group: Sequence[Request]) -> None:
        """One transaction; afterwards every request has its result or its error."""
        stale, group = _apart(group)
        _fail(stale, Deposed("It was decided under an earlier term: nothing of the batch was kept. Read the ledger."))
        if not group:
            return
        wanted = self.head
        try:
            if not self._sure:
                wanted = self.head = self._read_head()
                self._sure = True
            with self._engine.begin() as connection:
                if any(request.batch is None for request in group):
                    self._take(connection, group)
                wanted = self._write(connection, group)
            self.head = wanted
        except LedgerError as refused:
            self._sure = False
            _fail(group, refused)
        except (exc.DBAPIError, OverflowError) as broken:
            self._sure = False
            if not self._stands(wanted):
                _fail(group, unavailable("writing to the ledger", broken))

    def _stands(self, wanted: Head) -> bool:
        """Whether a commit that seemed to fail is in the database all the same."""
        if wanted.seq == self.head.seq:
            return False
        try:
            self.head = self._read_head()
        except exc.DBAPIError:
            return False
        self._sure = True
        return self.head == wanted

    def _read_head(self) -> Head:
        """The end of the ledger as it lies in the database, once nothing that we sent before is under way."""
        with self._engine.begin() as connection:
            self._lead.settle(connection)
            return read_head(connection, self._ledger_id)

    def _take(self, connection: Connection, group: Sequence[Request]) -> None:
        """Lead; what the leader before us wrote comes before anything of ours. Keys that had expired are forgotten."""
        for request in group:
            if request.batch is None:
                request.result = self._lead.take(connection)
        connection.exec_driver_sql(_FORGET)
        self.head = read_head(connection, self._ledger_id)

    def _write(self, connection: Connection, requests: Sequence[Request]) -> Head:
        group = Group(head=self.head)
        for request in requests:
            if request.batch is not None:
                request.result = add(group, request.batch)
        if any(request.batch is not None for request in requests):
            self._lead.claim(connection, self.head.seq, group.head.seq)
        statements.put(connection, statements.EVENTS, group.events)
        statements.put(connection, statements.BODIES, group.bodies)
        statements.put(connection, statements.SPECS, list(group.specs.items()))
        statements.put(connection, statements.JOBS, list(group.jobs.values()))
        statements.put(connection, statements.COUNTERS, list(group.counters.items()))
        statements.put(connection, statements.KEYS, list(group.keys.values()))
        if group.presence is not None:
            statements.put(connection, statements.PRESENCE, [(1, group.presence)])
        if group.replies:
            write_replies(connection, group.replies)
        return group.head


def read_head(connection: Connection, ledger_id: str) -> Head:
    """The end of the ledger as this connection sees it."""
    row = connection.exec_driver_sql("SELECT seq, at, chain FROM events ORDER BY seq DESC LIMIT 1").first()
    return Head(*row) if row else Head(0, 0, genesis(ledger_id))


def _apart(group: Sequence[Request]) -> tuple[list[Request], list[Request]]:
    """(Batches that wait before somebody takes the lead, the rest): what the new term reads, they did not know."""
    last = max((at for at, request in enumerate(group) if request.batch is None), default=0)
    stale = [request for request in group[:last] if request.batch is not None]
    return stale, [request for request in group if request not in stale]


def _fail(group: Sequence[Request], error: LedgerError) -> None:
    for request in group:
        if not isinstance(request.result, LedgerError):
            request.result = error


def _answer(group: Sequence[Request]) -> None:
    """Wake the callers, once a loop; a closed loop has nobody left to wake."""
    for loop in {request.loop for request in group}:
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, [request for request in group if request.loop is loop])


def _resolve(requests: list[Request]) -> None:
    for request in requests:
        if request.reply.done():
            continue
        if isinstance(request.result, LedgerError):
            request.reply.set_exception(request.result)
        else:
            request.reply.set_result(request.result)
