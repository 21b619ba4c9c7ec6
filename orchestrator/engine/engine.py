"""The loop: observe → plan → commit → execute. Who decides, what is written first, what is done then?

Built by `bootstrap` and by stories. Facts arrive from lanes, feeds, keeper and sweepers; one turn folds all that have
come, decides, commits once, and only then lets the effects go. Nothing in a turn waits for anything but that commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from orchestrator.core.effects import Act, Effect, effects_of
from orchestrator.core.facts import Amended, Billed, Delivery, Due, Fact
from orchestrator.core.planner import finish, on_fact
from orchestrator.core.standing import active
from orchestrator.core.turn import Turn
from orchestrator.engine.batching import Batcher, Carried
from orchestrator.engine.core import Core, log
from orchestrator.engine.feed import Feed
from orchestrator.engine.keeper import Keeper
from orchestrator.engine.lanes import Loop, ProviderLanes
from orchestrator.engine.lead import Lead
from orchestrator.engine.leaving import ended_lately
from orchestrator.engine.restart import first_turn, in_force, load_book, own_file, relabelled
from orchestrator.engine.restored import after_restore, read_all, read_on
from orchestrator.engine.sweeper import Sweeper
from orchestrator.engine.wiring import Agreed, Wiring
from orchestrator.model import event as ev
from orchestrator.model.ids import launch_key
from orchestrator.model.job import TERMINAL, JobRow, JobState, LedgerRow
from orchestrator.ports.desk import Busy
from orchestrator.ports.ledger import LedgerError

TURN_MOST = 2000
"""Facts in one turn: a batch large enough for the disk, small enough that nobody waits long."""
INBOX_MOST = 50_000
"""Facts waiting; beyond it submissions are told to come back."""
RECENT_MOST = 10_000
"""Jobs that are over but stay in the book, for bills and late answers."""


class Engine:
    """One controller over one ledger."""

    def __init__(self, wiring: Wiring) -> None:
        """Nothing is read or started yet."""
        self.wiring = wiring
        self.core: Core
        self.agreed: Agreed
        """The contract set that decides, and how jobs are read under it."""
        self._amending = asyncio.Lock()
        self._batcher = Batcher()
        self._tasks: list[asyncio.Task[None]] = []
        self.lanes: dict[str, ProviderLanes] = {}
        """What is asked of each provider, by its name."""
        self._feeds: dict[str, Feed] = {}
        self._sweepers: dict[str, Sweeper] = {}
        self.counters: dict[str, int] = {}
        """The ledger's counters, as of the last commit."""
        self._over: deque[str] = deque()
        self._presence = 0
        self._writing: Turn | None = None
        """The turn whose commit is under way, or failed."""
        self._stopping = asyncio.Event()
        self.failed: BaseException | None = None
        self.committed = asyncio.Condition()
        """Notified after every commit: readers that follow wait here."""

    # ---- life ----

    async def start(self, *, takes_over: bool = False) -> None:
        """Lead: read the ledger, say so, find what was left undone, go on.

        `takes_over`: the process runs already, so a capacity file that may not be applied any more keeps nobody from
        leading. Without it raises `DocumentError` for one."""
        wiring, lead = self.wiring, Lead(self.wiring.ledger, self.wiring.clock)
        await lead.take()  # before anything is read: nobody else writes from here on
        if lead.can_end:
            self._tasks.append(asyncio.ensure_future(self._guard(lead.run)))
        presence = await wiring.ledger.presence()
        self.counters.update(await wiring.ledger.counters())
        self.agreed = await in_force(wiring)
        book = await load_book(wiring, self.agreed.contracts, self.counters)
        ends = await read_all(wiring, book.jobs.values()) if book.ledger.restored is not None else None
        self.core = core = Core(wiring, book, lead, await wiring.ledger.last_at())
        self.lanes = {n: ProviderLanes(core, p) for n, p in wiring.providers.items()}
        self._feeds = {n: Feed(core, p) for n, p in wiring.providers.items()}
        self.keeper = Keeper(core, self._bill)
        self._sweepers = {n: Sweeper(core, p, self.lanes[n], self.keeper) for n, p in wiring.providers.items()}
        turn = Turn(book, core.now)
        labels = await relabelled(wiring, book, self.agreed.contracts)
        first_turn(turn, wiring, self.agreed, term=core.term, presence=presence, labels=labels)
        own_file(turn, wiring, takes_over=takes_over)
        if ends is not None:
            after_restore(turn, *ends)
        finish(turn)
        await self._commit(turn)
        for row in list(book.jobs.values()):
            self._execute(row)
        for loop in self._loops():
            self._tasks.append(asyncio.ensure_future(self._guard(loop)))

    def _loops(self) -> list[Loop]:
        """What must run, not begun: whoever stops at once leaves nothing behind that was never awaited."""
        loops: list[Loop] = [self._turns, self.keeper.run, lambda: asyncio.shield(self.keeper.broken)]
        loops.append(lambda: read_on(self.core))
        for name, lanes in self.lanes.items():
            loops += [*lanes.loops(), self._feeds[name].run, self._sweepers[name].run]
        return loops

    async def _guard(self, loop: Loop) -> None:
        """The one place that survives nothing: what nobody foresaw ends the engine, and the ledger is the way back."""
        try:
            await loop()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self.failed is None:
                self.failed = error
                if not isinstance(error, LedgerError):  # those were foreseen: whoever runs us tells their own words
                    log.error("the engine stops", why=f"{type(error).__name__}: {error}", exc_info=error)
            self._stopping.set()
            await self._let_go()  # the book may be ahead of the ledger: nothing may follow from it
            async with self.committed:
                self.committed.notify_all()
            raise

    async def _let_go(self) -> None:
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if hasattr(self, "keeper"):
            await self.keeper.close()

    def durable(self, job: str) -> JobRow | None:
        """Where a live job stands by the ledger: the book is ahead of it while a commit is under way."""
        return self._writing.before(job) if self._writing is not None else self.core.book.jobs.get(job)

    @property
    def durable_ledger(self) -> LedgerRow:
        """The ledger's own row, likewise."""
        return self._writing.ledger_before if self._writing is not None else self.core.book.ledger

    @property
    def durable_at(self) -> int:
        """When the ledger last took in that we are here, microseconds UTC; every commit that is due says so."""
        return self._presence

    @property
    def leads(self) -> bool:
        """Whether wishes are taken in."""
        return bool(self._tasks) and self.failed is None and not self._stopping.is_set()

    async def run(self) -> None:
        """Until `stop` is called or something fails; raises what failed."""
        await self._stopping.wait()
        if self.failed is not None:
            raise self.failed

    async def stop(self) -> None:
        """Let go: nothing of the jobs is touched, what is decided is in the ledger."""
        self._stopping.set()
        await self._let_go()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- turns ----

    async def _turns(self) -> None:
        while not self._stopping.is_set():
            await self._wait()
            await self._turn()

    async def _wait(self) -> None:
        core = self.core
        if core.inbox or core.book.woken:
            await asyncio.sleep(0)
            return
        core.arrived.clear()
        next_at = min(core.book.next_timer(), self._presence + self.wiring.pace.presence)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, next_at - core.now) / 1e6):
                await core.arrived.wait()

    async def _turn(self) -> None:
        core = self.core
        began = core.now
        turn = Turn(core.book, began)
        self._note_absence(turn)
        waiting: list[asyncio.Future[None]] = []
        nudged: set[str] = set()
        for _ in range(min(len(core.inbox), TURN_MOST)):
            fact, future, carried = core.inbox.popleft()
            on_fact(turn, fact)
            if carried is not None:
                self._batcher.carry(carried)
            if isinstance(fact, Delivery):
                nudged.add(fact.provider)
            if future is not None:
                waiting.append(future)
        finish(turn)
        await self._commit(turn)
        for future in waiting:
            if not future.done():
                future.set_result(None)
        for name in sorted(nudged):
            self._feeds[name].nudge()
        self.wiring.telemetry.turn((core.now - began) / 1e6)

    def _note_absence(self, turn: Turn) -> None:
        """We were away (suspended, swapped out): windows must not have run meanwhile."""
        if turn.now - self._presence > self.wiring.pace.absent_after:
            turn.emit_ledger(ev.ControllerAbsent(self._presence, turn.now))

    async def _commit(self, turn: Turn) -> None:
        due = turn.now - self._presence >= self.wiring.pace.presence
        if not turn.events and not self._batcher.waiting:
            if due:
                self._presence = turn.now
                await self.wiring.ledger.touch(turn.now)
            self._after(turn)
            return
        batch = self._batcher.batch(turn, turn.now if due else None)
        began = self.core.now
        self._writing = turn
        self.core.book.head = (await self.wiring.ledger.commit(batch)).head
        self._writing = None  # where the commit failed, what it would have made is never shown
        for name, amount in batch.counters.items():
            self.counters[name] = self.counters.get(name, 0) + amount
        if due:
            self._presence = turn.now
        self.wiring.telemetry.commit((self.core.now - began) / 1e6, len(batch.events))
        self._after(turn)
        async with self.committed:
            self.committed.notify_all()

    # ---- effects ----

    def _after(self, turn: Turn) -> None:
        for job in sorted(turn.changed):
            row = self.core.book.jobs.get(job)
            if row is not None:
                self._execute(row)
        for provider, offer in turn.released:
            if provider in self.lanes:
                self.lanes[provider].release(offer)
        for job in sorted(turn.look):
            self.keeper.look(job)

    def _execute(self, row: JobRow) -> None:
        if row.job in self.core.book.unread:
            return
        for effect in effects_of(row):
            if effect not in self.core.pending:
                self.core.pending.add(effect)
                self._route(effect)
        self.keeper.follow(row)
        if row.attempts:
            self._confirm(row)
            self._settle(row)
        if row.state in TERMINAL:
            self._retire(row)

    def _route(self, effect: Effect) -> None:
        if effect.act in (Act.FENCE, Act.STOP):
            self.keeper.want(effect)
        elif effect.provider in self.lanes:
            self.lanes[effect.provider].want(effect)
        else:
            log.error("no such provider any more", provider=effect.provider, job=effect.job, act=effect.act.value)

    def _confirm(self, row: JobRow) -> None:
        """Whoever waits for an end that only listings can confirm: a newcomer, or a cancelled job behind its fence."""
        attempt, ended = active(row), row.attempts
        if row.state is JobState.STOPPING and attempt is None and ended[-1].how == "fenced":
            self.keeper.confirm_last(row)
        elif attempt is not None and attempt.epoch > 1 and attempt.started_at is None and row.fenced >= attempt.epoch:
            self.keeper.confirm_below(row)
            ended = row.attempts[:-1]
        else:
            return
        for earlier in ended:
            if earlier.provider in self._sweepers:
                self._sweepers[earlier.provider].soon()

    def _settle(self, row: JobRow) -> None:
        """The final bill may have come before the end was known."""
        last = row.attempts[-1]
        feed = self._feeds.get(last.provider)
        bill = feed.final_bill(launch_key(row.job, last.epoch)) if feed and last.ended_at is not None else None
        if bill is not None and bill[0] != last.charge:
            self.core.tell(Billed(row.job, last.epoch, *bill))

    def _retire(self, row: JobRow) -> None:
        self._over.append(row.job)
        while len(self._over) > RECENT_MOST:
            self._forget(self._over.popleft())

    def _forget(self, job: str) -> None:
        row = self.core.book.jobs.get(job)
        if row is not None:
            stops = (Effect(Act.STOP, "", job, attempt.epoch) for attempt in row.attempts)
            self.core.pending.difference_update(effects_of(row), stops)
            for attempt in row.attempts:
                if attempt.provider in self._feeds:
                    self._feeds[attempt.provider].bills.pop(launch_key(job, attempt.epoch), None)
            self.core.book.forget(job)

    def ending(self, row: JobRow) -> list[str]:
        """Providers that have not said yet that nothing of a job that is over is left."""
        if row.state not in TERMINAL:
            return []
        core, found = self.core, set()
        for attempt in row.attempts:
            leaving = core.leaving.get(attempt.provider)  # None: the operator has removed it, and nobody will say
            if leaving.may_be_left(row.job, attempt, core.now) if leaving else ended_lately(attempt, core.now):
                found.add(attempt.provider)
        return sorted(found)

    def ask_soon(self, providers: Iterable[str]) -> None:
        """Somebody waits to hear what is left at these."""
        for name in self._sweepers.keys() & {*providers}:
            self._sweepers[name].asked()

    def _bill(self, provider: str, key: str) -> tuple[int, int] | None:
        feed = self._feeds.get(provider)
        return feed.bill(key) if feed else None

    # ---- wishes ----

    async def wish(self, fact: Fact, carried: Carried | None = None) -> None:
        """Put a wish into the next turn and wait until it is durable; `Busy` if that cannot be promised."""
        self.check_room()
        await self.or_failed(asyncio.ensure_future(self.core.told([fact], carried)))

    async def amend(self, agreed: Agreed, by: str, carried: Carried | None = None) -> None:
        """Let another contract set take effect; durable when done. Until then no job comes in, so that none is read by
        the labels of one set and decided by another."""
        async with self._amending:
            await self.or_failed(
                asyncio.ensure_future(self.core.told([Due("")]))
            )  # whoever came earlier is in the book
            core = self.core
            labels = await relabelled(self.wiring, core.book, agreed.contracts)
            fact = Amended(contracts=agreed.contracts, document=agreed.document, by=by, labels=labels)
            await self.or_failed(asyncio.ensure_future(core.told([fact], carried)))
            self.agreed = agreed

    def check_room(self) -> None:
        """`Busy` when no wish can be taken in now."""
        if self.failed is not None or self._stopping.is_set():
            raise Busy("the server is stopping; submit again when it is back")
        if self._amending.locked():
            raise Busy("another contract set is taking effect; submit again in a moment")
        if len(self.core.inbox) > INBOX_MOST:
            raise Busy("too many wishes at once; nothing was kept, submit again in a moment")

    async def or_failed(self, work: asyncio.Future[None]) -> None:
        """Wait for a turn, unless the engine ends first."""
        stopped: asyncio.Future[object] = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Busy("the server stopped before this was durable; submit again with the same key")
            work.result()
        finally:
            stopped.cancel()
