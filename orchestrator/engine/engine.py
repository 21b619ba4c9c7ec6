"""The loop: observe → plan → commit → execute. Who decides, what is written first, what is done then?

Built by `bootstrap` and by stories. Facts arrive from lanes, feeds, keeper and sweepers; one turn folds all that have
come, decides, commits once, and only then lets the effects go. Nothing in a turn waits for anything but that commit.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress

from msgspec.structs import replace

from orchestrator.core.effects import Act, Effect, effects_of
from orchestrator.core.facts import CancelWish, Delivery, Fact, ResumeWish, Wish
from orchestrator.core.lifecycle import active
from orchestrator.core.planner import finish, on_fact
from orchestrator.core.turn import Turn
from orchestrator.engine.batching import Batcher
from orchestrator.engine.core import Core, log
from orchestrator.engine.feed import Feed
from orchestrator.engine.keeper import Keeper
from orchestrator.engine.lanes import ProviderLanes
from orchestrator.engine.restart import first_turn, load_book
from orchestrator.engine.sweeper import Sweeper
from orchestrator.engine.wiring import Wiring
from orchestrator.model import event as ev
from orchestrator.model.ids import new_job_id
from orchestrator.model.job import TERMINAL, JobRow, job_row
from orchestrator.ports.desk import Busy, Conflict, Refused, Submission, UnknownJob
from orchestrator.ports.ledger import IdempotencyKey

TURN_MOST = 2000
"""Facts in one turn: a batch large enough for the disk, small enough that nobody waits long."""
INBOX_MOST = 50_000
"""Facts waiting; beyond it submissions are told to come back."""
RECENT_MOST = 10_000
"""Jobs that are over but stay in the book, for bills and late answers."""
KEY_LIFE = 7 * 86_400_000_000
"""How long an idempotency key is remembered, microseconds."""


class Engine:
    """One controller over one ledger."""

    def __init__(self, wiring: Wiring) -> None:
        """Nothing is read or started yet."""
        self.wiring = wiring
        self.core: Core
        self._batcher = Batcher()
        self._tasks: list[asyncio.Task[None]] = []
        self._lanes: dict[str, ProviderLanes] = {}
        self._feeds: dict[str, Feed] = {}
        self._sweepers: dict[str, Sweeper] = {}
        self._keys: dict[tuple[str, str], tuple[str, str, asyncio.Future[None]]] = {}
        self._over: deque[str] = deque()
        self._presence = 0
        self._stopping = asyncio.Event()
        self.failed: BaseException | None = None
        self.committed = asyncio.Condition()
        """Notified after every commit: readers that follow wait here."""

    # ---- life ----

    async def start(self) -> None:
        """Lead: read the ledger, say so, find what was left undone, go on."""
        wiring = self.wiring
        presence = await wiring.ledger.presence()
        book = await load_book(wiring)
        self.core = core = Core(wiring, book, await wiring.ledger.next_term())
        self._lanes = {n: ProviderLanes(core, p) for n, p in wiring.providers.items()}
        self._feeds = {n: Feed(core, p) for n, p in wiring.providers.items()}
        self.keeper = Keeper(core, self._bill)
        self._sweepers = {n: Sweeper(core, p, self._lanes[n], self.keeper) for n, p in wiring.providers.items()}
        turn = Turn(book, core.now)
        self._batcher.documents.update(first_turn(turn, wiring, core.term, presence))
        finish(turn)
        await self._commit(turn)
        for row in list(book.jobs.values()):
            self._execute(row)
        for work in self._loops():
            self._tasks.append(asyncio.ensure_future(self._guard(work)))

    def _loops(self) -> list[Awaitable[None]]:
        loops: list[Awaitable[None]] = [self._turns(), self.keeper.run(), asyncio.shield(self.keeper.broken)]
        for name, lanes in self._lanes.items():
            loops += [*lanes.loops(), self._feeds[name].run(), self._sweepers[name].run()]
        return loops

    async def _guard(self, work: Awaitable[None]) -> None:
        """The one place that survives nothing: what nobody foresaw ends the engine, and the ledger is the way back."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self.failed is None:
                self.failed = error
                log.error("the engine stops", why=f"{type(error).__name__}: {error}", exc_info=error)
            self._stopping.set()
            self.core.arrived.set()
            raise

    async def run(self) -> None:
        """Until `stop` is called or something fails; raises what failed."""
        await self._stopping.wait()
        if self.failed is not None:
            raise self.failed

    async def stop(self) -> None:
        """Let go: nothing of the jobs is touched, what is decided is in the ledger."""
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "keeper"):
            await self.keeper.close()

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
            await asyncio.wait_for(core.arrived.wait(), max(0, next_at - core.now) / 1e6)

    async def _turn(self) -> None:
        core = self.core
        began = core.now
        turn = Turn(core.book, began)
        self._note_absence(turn)
        waiting: list[asyncio.Future[None]] = []
        nudged: set[str] = set()
        for _ in range(min(len(core.inbox), TURN_MOST)):
            fact, future = core.inbox.popleft()
            on_fact(turn, fact)
            if isinstance(fact, Delivery):
                nudged.add(fact.provider)
            if future is not None:
                waiting.append(future)
        finish(turn)
        await self._commit(turn)
        for future in waiting:
            if not future.done():
                future.set_result(None)
        for name in nudged:
            self._feeds[name].nudge()
        self.wiring.telemetry.turn((core.now - began) / 1e6)

    def _note_absence(self, turn: Turn) -> None:
        """We were away (suspended, swapped out): windows must not have run meanwhile."""
        if turn.now - self._presence > self.wiring.pace.absent_after:
            turn.emit_ledger(ev.ControllerAbsent(self._presence, turn.now))

    async def _commit(self, turn: Turn) -> None:
        due = turn.now - self._presence >= self.wiring.pace.presence
        if not turn.events:
            if due:
                self._presence = turn.now
                await self.wiring.ledger.touch(turn.now)
            self._after(turn)
            return
        batch = self._batcher.batch(turn, turn.now if due else None)
        began = self.core.now
        await self.wiring.ledger.commit(batch)
        if due:
            self._presence = turn.now
        self.wiring.telemetry.commit((self.core.now - began) / 1e6, len(batch.records))
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
            if provider in self._lanes:
                self._lanes[provider].release(offer)
        for job in sorted(turn.look):
            self.keeper.look(job)

    def _execute(self, row: JobRow) -> None:
        for effect in effects_of(row):
            if effect not in self.core.pending:
                self.core.pending.add(effect)
                self._route(effect)
        self.keeper.follow(row)
        if row.attempts:
            self._confirm(row)
        if row.state in TERMINAL:
            self._retire(row)

    def _route(self, effect: Effect) -> None:
        if effect.act in (Act.FENCE, Act.STOP):
            self.keeper.want(effect)
        elif effect.provider in self._lanes:
            self._lanes[effect.provider].want(effect)
        else:
            log.error("no such provider any more", provider=effect.provider, job=effect.job, act=effect.act.value)

    def _confirm(self, row: JobRow) -> None:
        attempt = active(row)
        if attempt is not None and attempt.epoch > 1 and attempt.started_at is None and row.fenced >= attempt.epoch:
            self.keeper.confirm_below(row)
            for earlier in row.attempts[:-1]:
                if earlier.provider in self._sweepers:
                    self._sweepers[earlier.provider].soon()

    def _retire(self, row: JobRow) -> None:
        self._over.append(row.job)
        while len(self._over) > RECENT_MOST:
            self._forget(self._over.popleft())

    def _forget(self, job: str) -> None:
        row = self.core.book.jobs.get(job)
        if row is not None:
            self.core.pending.difference_update(effects_of(row))
            self.core.book.forget(job)

    def _bill(self, provider: str, key: str) -> tuple[int, int] | None:
        feed = self._feeds.get(provider)
        return feed.bill(key) if feed else None

    # ---- wishes ----

    async def submit(self, wish: Submission) -> tuple[JobRow, bool]:
        """Take a job in; see `ports.desk.Desk`."""
        self._check_room()
        digest = hashlib.sha256(wish.document).hexdigest()
        if wish.key:
            known = await self._known(wish, digest)
            if known is not None:
                return await self.job(known), False
        incoming = self.wiring.intake(wish.document)
        job = new_job_id(self.core.now, self.wiring.clock.entropy(10))
        self._batcher.documents[digest] = wish.document
        self._batcher.documents[incoming.event.shape] = incoming.shape_document
        if wish.key:
            self._batcher.keys.append(IdempotencyKey(wish.project, wish.key, digest, job, self.core.now + KEY_LIFE))
        event = incoming.event if not wish.by else _by(incoming.event, wish.by)
        told = asyncio.ensure_future(
            self.core.told([Wish(job=job, project=wish.project, event=event, shape=incoming.shape)])
        )
        if wish.key:
            self._keys[(wish.project, wish.key)] = (digest, job, told)
        try:
            await self._or_failed(told)
        finally:
            self._keys.pop((wish.project, wish.key), None)
        return await self.job(job), True

    async def _known(self, wish: Submission, digest: str) -> str | None:
        """The job that this key already made; `Conflict` if it was made of something else."""
        under_way = self._keys.get((wish.project, wish.key))
        if under_way is not None:
            body, job, told = under_way
            await asyncio.shield(told)
        else:
            found = await self.wiring.ledger.find_key(wish.project, wish.key)
            if found is None or found.expires <= self.core.now:
                under_way = self._keys.get((wish.project, wish.key))
                return await self._known(wish, digest) if under_way is not None else None
            body, job = found.body_digest, found.job
        if body != digest:
            raise Conflict(f"the key {wish.key!r} made job {job} from another document; use another key")
        return job

    def _check_room(self) -> None:
        if self.failed is not None or self._stopping.is_set():
            raise Busy("the server is stopping; submit again when it is back")
        if len(self.core.inbox) > INBOX_MOST:
            raise Busy("too many wishes at once; nothing was kept, submit again in a moment")

    async def _or_failed(self, work: asyncio.Future[None]) -> None:
        """Wait for a turn, unless the engine ends first."""
        stopped: asyncio.Future[object] = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Busy("the server stopped before this was durable; submit again with the same key")
            work.result()
        finally:
            stopped.cancel()

    async def _wish(self, fact: Fact) -> None:
        self._check_room()
        await self._or_failed(asyncio.ensure_future(self.core.told([fact])))

    async def cancel(self, job: str, by: str) -> JobRow:
        """Ask for the job's end; idempotent."""
        await self.job(job)
        await self._wish(CancelWish(job, by))
        return await self.job(job)

    async def resume(self, job: str, by: str) -> JobRow:
        """Let a held job go on."""
        row = await self.job(job)
        if row.state.value != "held":
            raise Refused(f"job {job} is {row.state.value}, not held; only held jobs are resumed")
        await self._wish(ResumeWish(job, by))
        return await self.job(job)

    async def job(self, job: str) -> JobRow:
        """Where the job stands, live or over."""
        row = self.core.book.jobs.get(job)
        if row is not None:
            return row
        stored = await self.wiring.ledger.row(job) if job else None
        if stored is None:
            raise UnknownJob(f"there is no job {job!r}")
        return job_row(stored.body)


def _by(event: ev.Submitted, by: str) -> ev.Submitted:
    return replace(event, by=by)
