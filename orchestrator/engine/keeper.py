"""What do the run logs say, and what do we put there? Fences, stops, clears; starts, beats and ends read back.

One per engine. Everything that decides who may run a job passes here on its way to the store. A store that does not
answer is asked again; nothing is concluded from its silence.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from orchestrator.core.effects import Act, Effect, stop_of
from orchestrator.core.facts import BeatSeen, BeatSilent, Fact, FencePlaced, GoneSeen, StopPlaced, Unstarted
from orchestrator.core.liveness import Pulse, after_failure, after_read
from orchestrator.core.standing import active
from orchestrator.core.sweep import Ending
from orchestrator.core.windows import NEVER, START_ALLOWANCE, launch_overdue_at, missed_start_at
from orchestrator.engine.core import Core, log
from orchestrator.engine.logfacts import facts_of, ran_ms, stopped_for
from orchestrator.engine.orders import store_of
from orchestrator.model.ids import launch_key, parse_launch_key
from orchestrator.model.job import AttemptRow, AttemptState, JobRow
from orchestrator.model.wire import Beat, Clear, ControllerEntry, Fence, Stop, WireError
from orchestrator.runlog.log import JobLog, Refused, append_controller, read, read_beat
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import EMPTY, RefusalReason, RunLog, to_confirm

AT_ONCE = 16
"""Run logs that are worked on side by side."""
QUIET_INTERVAL_MS = 600_000
"""Between two looks at an attempt that never stops by itself and whose provider answers."""


class Keeper:
    """All run logs of this engine's jobs."""

    def __init__(self, core: Core, bill: Callable[[str, str], tuple[int, int] | None]) -> None:
        """`bill(provider, key)`: what the provider charges so far. Nothing runs yet."""
        self._core, self._bill = core, bill
        self._states: dict[str, RunLog] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._entries: dict[Effect, ControllerEntry] = {}
        self._pulses: dict[tuple[str, int], Pulse] = {}
        self._next: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._endings: dict[str, Ending] = {}
        self._clearing: set[str] = set()
        self._cleared: dict[tuple[str, int], int] = {}
        """(job, epoch) → when we first saw its clear."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the error of a piece of work that failed for a reason nobody foresaw: the engine must end."""

    # ---- put ----

    def want(self, effect: Effect) -> None:
        """Put a fence or a stop, again until it stands or is no longer wanted."""
        self._spawn(self._put(effect))

    async def _put(self, effect: Effect) -> None:
        pause, placed = self._core.wiring.pace.retry, False
        while self._core.wanted(effect):
            row = self._core.book.jobs[effect.job]
            try:
                if placed := await self._put_once(effect, row):
                    break
            except (StoreUnavailable, WireError) as error:
                log.warning("run log out of reach", job=effect.job, act=effect.act.value, why=str(error))
            await asyncio.sleep(pause / 1e6)
            pause = min(pause * 2, self._core.wiring.pace.retry_most)
        self._entries.pop(effect, None)
        if effect.act is not Act.STOP or not placed:  # one that stands is wanted on, until its attempt is over
            self._core.pending.discard(effect)

    async def _put_once(self, effect: Effect, row: JobRow) -> bool:
        entry = self._entries.setdefault(effect, self._entry(effect, row))
        async with self._locks[row.job], self._room:
            await self._core.lead.check()
            known = self._states.get(row.job, EMPTY)
            known = known if holds_what_was_read(row, known) else await self._read_on(row)
            result = await self._io(append_controller, self._log(row), known, entry)
            self._states[row.job] = result.state
            below = self._below(row, effect.n)
            ran = await self._ran(row, below, result.state) if below else 0
        if isinstance(result, Refused) and result.refusal.reason is not RefusalReason.ALREADY:
            if result.refusal.reason is not RefusalReason.FINISHED:
                log.error("the run log is ahead of the ledger", job=row.job, refusal=str(result.refusal))
            await self._tell_log(row.job)
            return result.refusal.reason is RefusalReason.FINISHED
        unclaimed = below is None or below.epoch not in result.state.claims
        said = self._said(row.job)  # what the log said before our entry counts first: a start, an end
        if effect.act is Act.FENCE:
            told = stopped_for(result.state, below.epoch) if below is not None else ""
            await self._core.told([*said, FencePlaced(row.job, effect.n, unclaimed, ran, told)])
        else:
            unclaimed, told = effect.n not in result.state.claims, stopped_for(result.state, effect.n)
            await self._core.told([*said, StopPlaced(row.job, effect.n, unclaimed, told)])
        return True

    def _entry(self, effect: Effect, row: JobRow) -> ControllerEntry:
        name = self._core.wiring.clock.entropy(8).hex()
        if effect.act is Act.FENCE:
            return Fence(epoch=effect.n, id=name, term=self._core.term)
        reason, grace_ms = stop_of(row, effect.n, self._core.now)
        return Stop(epoch=effect.n, reason=reason, grace_ms=grace_ms, id=name, term=self._core.term)

    @staticmethod
    def _below(row: JobRow, epoch: int) -> AttemptRow | None:
        """The attempt that a fence of `epoch` ends, if it ends one."""
        attempt = active(row)
        return attempt if attempt is not None and attempt.epoch < epoch else None

    async def _ran(self, row: JobRow, attempt: AttemptRow, state: RunLog) -> int:
        try:
            beat = await self._io(read_beat, self._log(row), attempt.epoch)
        except (StoreUnavailable, WireError):
            beat = None
        return ran_ms(state, attempt.epoch, beat)

    # ---- read ----

    def look(self, job: str) -> None:
        """Read this job's log soon."""
        self._spawn(self._look(job))

    async def _look(self, job: str) -> None:
        if await self.read(job) is not None:
            await self._tell_log(job)

    async def read(self, job: str) -> RunLog | None:
        """The job's log, read on to its end; None where that failed, or the book does not have the job."""
        row = self._core.row(job)
        if row is None:
            return None
        async with self._locks[job], self._room:
            try:
                return await self._read_on(row)
            except (StoreUnavailable, WireError) as error:
                log.warning("run log out of reach", job=job, act="read", why=str(error))
                return None

    async def _read_on(self, row: JobRow) -> RunLog:
        state: RunLog = (await self._io(read, self._log(row), self._states.get(row.job, EMPTY))).state
        if not holds_what_was_read(row, state):
            raise StoreUnavailable(f"the run log of {row.job} lacks what was read in it: another store, or emptied")
        self._states[row.job] = state
        return state

    async def _tell_log(self, job: str) -> None:
        await self._core.told(self._said(job))

    def _said(self, job: str) -> list[Fact]:
        """What the log, as far as it was read, says about the job's attempt."""
        row = self._core.row(job)
        attempt = active(row) if row is not None else None
        if attempt is None:
            return []
        return facts_of(job, attempt, self.state(job), self._bill(attempt.provider, launch_key(job, attempt.epoch)))

    def state(self, job: str) -> RunLog:
        """The job's run log as far as we have read it."""
        return self._states.get(job, EMPTY)

    # ---- beats ----

    def follow(self, row: JobRow) -> None:
        """The row changed: look after its attempt at its own pace, or stop doing so."""
        attempt = active(row)
        if attempt is None:
            self._next.pop(row.job, None)
            for earlier in row.attempts:
                self._pulses.pop((row.job, earlier.epoch), None)
                self._cleared.pop((row.job, earlier.epoch), None)
            if row.ended_at is not None:
                self._states.pop(row.job, None)
                self._locks.pop(row.job, None)
                for earlier in row.attempts:
                    self._endings.pop(launch_key(row.job, earlier.epoch), None)
            return
        if attempt.state is AttemptState.INTENDED:
            return
        at = self._core.now + self._interval(row, attempt)
        if at < self._next.get(row.job, at + 1):
            self._next[row.job] = at
            heapq.heappush(self._heap, (at, row.job))
            self._changed.set()

    def _interval(self, row: JobRow, attempt: AttemptRow) -> int:
        sure = attempt.started_at is not None and attempt.state is AttemptState.RUNNING
        if sure and self._core.book.providers[attempt.provider].up:
            return (row.limit_ms or QUIET_INTERVAL_MS) * 1000
        return row.check_ms * 1000

    async def run(self) -> None:
        """Read beats when they are due, for ever."""
        while True:
            now = self._core.now
            while self._heap and self._heap[0][0] <= now:
                at, job = heapq.heappop(self._heap)
                if self._next.get(job) == at:
                    del self._next[job]
                    self._spawn(self._beat(job))
            self._changed.clear()
            timeout = max(0, self._heap[0][0] - now) / 1e6 if self._heap else None
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait()

    async def _beat(self, job: str) -> None:
        row = self._core.row(job)
        attempt = active(row) if row is not None else None
        if row is None or attempt is None:
            return
        key, at = (job, attempt.epoch), self._core.now
        pulse = self._pulses.get(key, Pulse())
        before = self.state(job).position
        state = await self.read(job)
        try:
            beat: Beat | None = await self._io(read_beat, self._log(row), attempt.epoch)
        except (StoreUnavailable, WireError):
            state = None
        if state is None:
            self._pulses[key] = after_failure(pulse)
        else:
            mark = (beat.nonce, beat.n) if beat else None
            after = after_read(pulse, mark, at, self._interval(row, attempt))
            if state.position > before or attempt.started_at is None:  # what has not started is late, never silent
                after = Pulse(after.beat, after.read_at, 0)
            self._pulses[key] = after
            await self._tell_log(job)
            await self._judge(job, attempt.epoch, pulse, after)
        current = self._core.row(job)
        if current is not None:
            self.follow(current)

    async def _judge(self, job: str, epoch: int, before: Pulse, after: Pulse) -> None:
        row = self._core.row(job)
        attempt = active(row) if row is not None else None
        if row is None or attempt is None or attempt.epoch != epoch:
            return
        if attempt.started_at is None:
            if self._core.now >= self._overdue_at(row, attempt):
                said = self._core.waits.get(launch_key(job, epoch), "")
                await self._core.told([Unstarted(job, epoch, said)])
        elif after.beat != before.beat and after.beat is not None:
            await self._core.told([BeatSeen(row.job, attempt.epoch)])
        elif row.limit_ms is not None and after.silent >= row.limit_ms * 1000:
            await self._core.told([BeatSilent(row.job, attempt.epoch)])

    def _overdue_at(self, row: JobRow, attempt: AttemptRow) -> int:
        """When a start is overdue; where only a clear lets it start, counted from when we first saw that clear."""
        due = launch_overdue_at(row)
        if due == NEVER and attempt.epoch in self.state(row.job).clears:
            due = self._cleared.setdefault((row.job, attempt.epoch), self._core.now) + START_ALLOWANCE
        return min(due, missed_start_at(row))

    # ---- ends to be confirmed ----

    def confirm_below(self, row: JobRow) -> None:
        """A newcomer waits: find out what must be confirmed gone for its `clear`, and write it when it is."""
        if row.job not in self._clearing:
            self._spawn(self._clear(row.job))

    def confirm_last(self, row: JobRow) -> None:
        """A cancelled job waits for what its fence left behind: find out when it is gone."""
        last = row.attempts[-1]  # it had claimed, else its end would need no confirmation: so it existed
        self._endings.setdefault(launch_key(row.job, last.epoch), Ending(last.provider, sighted=True))

    def endings_at(self, provider: str) -> dict[str, Ending]:
        """Keys at a provider whose end a newcomer waits for."""
        return {key: e for key, e in self._endings.items() if e.provider == provider and not e.gone}

    async def ending(self, key: str, ending: Ending) -> None:
        """A listing told us more about an end."""
        if key in self._endings:
            self._endings[key] = ending
            if ending.gone:
                job, epoch = parse_launch_key(key)
                await self._core.told([GoneSeen(job, epoch)])
                self._spawn(self._clear(job))  # a store that is away must not hold up whoever listed

    async def _clear(self, job: str) -> None:
        """Write the newcomer's clear if nothing is missing for it; a store that does not answer is asked again."""
        if job in self._clearing:
            return
        self._clearing.add(job)
        try:
            pause = self._core.wiring.pace.retry
            while not await self._clear_once(job):
                await asyncio.sleep(pause / 1e6)
                pause = min(pause * 2, self._core.wiring.pace.retry_most)
        finally:
            self._clearing.discard(job)

    async def _clear_once(self, job: str) -> bool:
        """False: the store did not answer, and the newcomer still waits."""
        state = await self.read(job)
        row = self._core.row(job)
        attempt = active(row) if row is not None else None
        if row is None or attempt is None or attempt.started_at is not None or row.fenced < attempt.epoch:
            return True
        if state is None:
            return False
        if attempt.epoch in state.clears or self._missing(row, attempt, state):
            return True
        entry = Clear(epoch=attempt.epoch, id=self._core.wiring.clock.entropy(8).hex(), term=self._core.term)
        try:
            async with self._locks[job], self._room:
                await self._core.lead.check()
                result = await self._io(append_controller, self._log(row), self._states.get(job, EMPTY), entry)
                self._states[job] = result.state
        except (StoreUnavailable, WireError) as error:
            log.info("clear put off", job=job, why=str(error))
            return False
        for epoch in range(1, attempt.epoch):
            self._endings.pop(launch_key(job, epoch), None)
        return True

    def _missing(self, row: JobRow, attempt: AttemptRow, state: RunLog) -> list[str]:
        """Keys below the attempt whose end is not confirmed yet; each is watched from now on.

        Behind the fence all of them have claimed, whatever a provider said of its launch. A claim of an epoch that the
        ledger does not know has nobody who could confirm its end: the newcomer waits it out.
        """
        providers = {a.epoch: a.provider for a in row.attempts}
        missing = []
        for epoch in to_confirm(state, attempt.epoch):
            key = launch_key(row.job, epoch)
            if epoch in providers:
                self._endings.setdefault(key, Ending(providers[epoch], sighted=epoch in state.claims))
            if key not in self._endings or not self._endings[key].gone:
                missing.append(key)
        return missing

    # ---- plumbing ----

    def _log(self, row: JobRow) -> JobLog:
        return JobLog(store_of(self._core.wiring, row).store, row.project, row.job)

    async def _io(self, call: Callable[..., Any], *args: Any) -> Any:
        return await self._core.wiring.io(call, *args)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.broken.done():
            self.broken.set_exception(error)

    async def close(self) -> None:
        """Let go of everything under way; what is still wanted is done by the next server."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def holds_what_was_read(row: JobRow, state: RunLog) -> bool:
    """Whether a log holds the starts and the fence that the ledger has read in it. One that does not says nothing of
    who runs: a store of the same name with another url, a folder that is not mounted, entries that somebody deleted."""
    started = {attempt.epoch for attempt in row.attempts if attempt.started_at is not None}
    return state.fence >= row.fenced and started <= state.starts.keys()
