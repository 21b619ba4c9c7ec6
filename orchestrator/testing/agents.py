"""How does one attempt live and die on its machine? An asyncio task that obeys the run log's rules on virtual time.

Started by `ScriptedProvider` through a `Site`, one for each copy of a launch. It keeps the real rules and the real
append over any store; only processes and clocks are pretended: user code is `Work`, ended within `grace` of a signal.
It never asks the controller anything, and nobody tells it anything but its log.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.model.offer import LaunchOrder
from orchestrator.model.wire import AttemptEntry, AttemptEnv, Beat, Checkpoint, Claim, Done, Release, ReleaseWhy, Start
from orchestrator.runlog import paths
from orchestrator.runlog.log import Appended, JobLog, Refused, append_attempt, read, write_beat
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import EMPTY, Verdict, resume_points, verdict_for, wait_ms
from orchestrator.runlog.store import Store
from orchestrator.testing.pretend.machines import Ground
from orchestrator.testing.pretend.wire import CutStore
from orchestrator.testing.stores import MemoryStore

SENDS_AT_THE_END = 3
"""Tries to say `release` at a store that does not answer, one a check, before the agent exits without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What user code does: so many steps of so many seconds, a checkpoint every few, then its exit code."""

    steps: int = 20
    step_s: float = 1.0
    checkpoint_every: int = 5
    exit: int = 0
    dies_after_s: float = 0.0
    """From SIGTERM to its end; SIGKILL comes after `grace` whatever this says."""
    saves_when_stopped: bool = False
    """It asks whether it is to stop, and saves its last step just in time; that takes `dies_after_s`."""


@dataclass(frozen=True, slots=True)
class Witness:
    """User code's own word that it finished a step. `at_s`: seconds of the loop's clock."""

    job: str
    epoch: int
    machine: str
    step: int
    at_s: float


@dataclass(slots=True)
class Run:
    """User code ran on this machine in this interval, seconds of the loop's clock; `to_s` None: it still does."""

    job: str
    epoch: int
    machine: str
    from_s: float
    to_s: float | None = None
    frozen: bool = False
    """Stood still in between, so that it may overlap another run: its appends are what counts."""


class Site:
    """What all lives of a story share: the store, the work, and what the work itself has witnessed."""

    def __init__(self, store: Store | None = None, work: Work | Callable[[AttemptEnv], Work] | None = None) -> None:
        self.store: Store = store or MemoryStore()
        self.witness: list[Witness] = []
        self.runs: list[Run] = []
        self.agents: list[SimulatedAgent] = []
        self._work = work or Work()
        self._random = random.Random("agents")  # never the sequence of a server's clock: ids must differ

    def begin(self, order: LaunchOrder, machine: str, ground: Ground) -> SimulatedAgent:
        """An attempt starts on this machine, now; see `pretend.machines.Crew`."""
        agent = SimulatedAgent(AttemptEnv.from_json(order.attempt), machine, self, ground, order.key)
        self.agents.append(agent)
        return agent

    def work(self, env: AttemptEnv) -> Work:
        """What user code of this attempt does."""
        return self._work(env) if callable(self._work) else self._work

    def token(self) -> str:
        """A nonce or entry id, the next of the seed's sequence."""
        return self._random.randbytes(8).hex()

    def booted_ms(self) -> int:
        """What the next machine's clock shows at the story's beginning: no two agree, as no two boots do."""
        return self._random.randrange(864_000_000)

    def overlaps(self) -> list[tuple[Run, Run]]:
        """Pairs of runs of one job on different machines that ran at the same time, none of them frozen."""
        runs = [run for run in self.runs if not run.frozen]
        pairs = [(a, b) for n, a in enumerate(runs) for b in runs[n + 1 :] if a.job == b.job]
        return [(a, b) for a, b in pairs if a.from_s < _end(b) and b.from_s < _end(a)]


def _story_s() -> float:
    """The story's own time, which nobody in it can read: what happened really."""
    return asyncio.get_running_loop().time()


def _end(run: Run) -> float:
    return float("inf") if run.to_s is None else run.to_s


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why user code must end, and how long its end may take."""

    why: ReleaseWhy | None
    """None: overruled in the log, so nothing may be said there any more."""
    note: str
    grace_s: float


@dataclass
class SimulatedAgent:
    """One attempt's agent with its user code. The task starts at once."""

    env: AttemptEnv
    machine: str
    site: Site
    ground: Ground
    key: str
    nonce: str = field(init=False)

    def __post_init__(self) -> None:
        """Begin to live."""
        self.nonce = self.site.token()
        self._line = CutStore(self.site.store)
        self._log = JobLog(self._line, self.env.project, self.env.job)
        self._state, self._good_ms, self._beats = EMPTY, 0, 0
        self._booted_ms, self._step = self.site.booted_ms(), 0
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._run: Run | None = None
        self._user: asyncio.Task[int | None] | None = None
        self.task = asyncio.get_running_loop().create_task(self._live())

    # ---- what befalls it (Life) ------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Dies at once with its user code, without a word to any log."""
        self._end_run()
        self.task.cancel()
        if self._user is not None:
            self._user.cancel()

    def freeze(self, frozen: bool) -> None:
        """Agent and user code stand still, or go on; clocks do not."""
        if not frozen:
            self._thawed.set()
            return
        self._thawed.clear()
        if self._run is not None:
            self._run.frozen = True

    def cut(self, cut: bool) -> None:
        """Its store is out of reach, or in reach again."""
        self._line.cut = cut

    # ---- its life --------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        note = await self._attempt()
        self._end_run()
        self.ground.over(self.key, note)

    async def _attempt(self) -> str:
        claim = Claim(
            epoch=self.env.epoch,
            provider=self.env.provider,
            limit_ms=self.env.isolation.limit_ms,
            grace_ms=self.env.isolation.grace_ms,
            id=self.site.token(),
            nonce=self.nonce,
        )
        refused = await self._say(claim) or await self._turn(self._good_ms)
        return refused or await self._work()

    async def _turn(self, claimed_ms: int) -> str | None:
        """W3: wait for `clear` or for W since the claim was sent, then one more good read, then `start`."""
        epoch, waited = self.env.epoch, False
        while epoch > 1 and epoch not in self._state.clears:
            wait = wait_ms(self._state, epoch)
            left = None if wait is None else claimed_ms + wait - self._now()
            if waited and left is not None and left <= 0:
                break
            await self._sleep(self._check_s if left is None else min(self._check_s, max(left, 50) / 1000))
            verdict = self._look()
            if verdict is not None:
                return verdict.why.value
            waited = left is not None and left <= 0 and self._good_ms >= claimed_ms + (wait or 0)
        start = Start(epoch=epoch, waited=waited, id=self.site.token(), nonce=self.nonce)
        return await self._say(start)

    async def _work(self) -> str:
        """W2: user code runs only while the log is being read."""
        self._run = Run(self.env.job, self.env.epoch, self.machine, _story_s())
        self.site.runs.append(self._run)
        user = self._user = asyncio.get_running_loop().create_task(self._steps())
        while True:
            if user.done():  # it stands still, refused by the log, until somebody ends it
                await asyncio.sleep(self._next_look_s())
            else:
                await asyncio.wait({user}, timeout=self._next_look_s())
            await self._thawed.wait()
            code = user.result() if user.done() else None
            if code is not None:
                self._end_run()
                return await self._complete(code)
            ending = self._ending()
            if ending is not None:
                return await self._wind_up(user, ending)

    async def _wind_up(self, user: asyncio.Task[int | None], ending: _Ending) -> str:
        await asyncio.wait({user}, timeout=min(self.site.work(self.env).dies_after_s, ending.grace_s))
        user.cancel()
        work = self.site.work(self.env)
        if work.saves_when_stopped and ending.why == "stopped" and work.dies_after_s <= ending.grace_s:
            self._save(self._step)
        self._end_run()
        if ending.why is not None:
            release = Release(
                epoch=self.env.epoch,
                why=ending.why,
                gone=True,
                ran_ms=self._ran_ms(),
                id=self.site.token(),
                nonce=self.nonce,
            )
            await self._say(release, SENDS_AT_THE_END)
        return ending.note

    async def _complete(self, code: int) -> str:
        done = Done(
            epoch=self.env.epoch, exit=code, result=None, ran_ms=self._ran_ms(), id=self.site.token(), nonce=self.nonce,
            workers=self.env.part,
        )  # fmt: skip
        return await self._say(done) or f"exit {code}"

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _look(self) -> Verdict | None:
        """Read on; remember a good read. Without an answer nothing is learned."""
        try:
            reading = read(self._log, self._state, self._now)
            self._state = reading.state
            self._good_ms = reading.good_ms(self.env.epoch, self.nonce) or self._good_ms
            self._beat()
        except StoreUnavailable:
            return None
        return verdict_for(self._state, self.env.epoch, self.nonce)

    def _beat(self) -> None:
        self._beats += 1
        phase = "claimed" if self._run is None else "running"
        beat = Beat(epoch=self.env.epoch, nonce=self.nonce, n=self._beats, phase=phase, ran_ms=self._ran_ms(), at_us=0)
        write_beat(self._log, beat)

    def _ending(self) -> _Ending | None:
        verdict, grace_s = self._look(), self.env.isolation.grace_ms / 1000
        if verdict is not None and verdict.stop is not None:
            return _Ending("stopped", "stopped", verdict.stop.grace_ms / 1000)
        if verdict is not None:
            return _Ending(None, verdict.why.value, grace_s)
        limit, longest = self.env.isolation.limit_ms, self.env.max_runtime_left_ms
        if limit is not None and self._now() >= self._good_ms + limit:
            return _Ending("limit", "limit", grace_s)
        if longest is not None and self._ran_ms() >= longest:
            return _Ending("max_runtime", "max_runtime", grace_s)
        return None

    def _next_look_s(self) -> float:
        limit, longest = self.env.isolation.limit_ms, self.env.max_runtime_left_ms
        ends = [self._good_ms + limit - self._now()] if limit is not None else []
        ends += [longest - self._ran_ms()] if longest is not None else []
        return max(0.001, min([self._check_s, *(end / 1000 for end in ends)]))

    # ---- writing ---------------------------------------------------------------------------------------------------

    async def _say(self, entry: AttemptEntry, tries: int | None = None) -> str | None:
        """Append, again at each check while the store does not answer; why not, or None: it is in the log."""
        tried = 0
        while tries is None or tried < tries:
            await self._thawed.wait()
            try:
                return self._append(entry)
            except StoreUnavailable:
                tried += 1
                await self._sleep(self._check_s)
        return "store unreachable"

    def _append(self, entry: AttemptEntry) -> str | None:
        match append_attempt(self._log, self._state, self.env.epoch, entry, self._now):
            case Appended(state=state, good_ms=good_ms):
                self._state, self._good_ms = state, max(self._good_ms, good_ms)
                return None
            case Refused(state=state, refusal=refusal):
                self._state = state
                return str(refusal)

    # ---- user code -------------------------------------------------------------------------------------------------

    async def _steps(self) -> int | None:
        """Its exit code; None: the log said no to a checkpoint, so the helper stood still until it was ended."""
        work = self.site.work(self.env)
        for step in range(1 + await self._resumed(), work.steps + 1):
            await self._sleep(work.step_s)
            self._step = step
            self.site.witness.append(Witness(self.env.job, self.env.epoch, self.machine, step, _story_s()))
            if step % work.checkpoint_every == 0 and not self._save(step):
                return None
            self.ground.stepped(self.key, step)
        return work.exit

    async def _resumed(self) -> int:
        """The step of the newest checkpoint whose bytes are what was saved; a silent store is asked again."""
        while True:
            try:
                return next((point.step for point in resume_points(self._state) if self._whole(point)), 0)
            except StoreUnavailable:
                await self._sleep(self._check_s)

    def _whole(self, point: Checkpoint) -> bool:
        body = self._line.get(point.manifest)
        return body is not None and hashlib.sha256(body).hexdigest() == point.sha256

    def _save(self, step: int) -> bool:
        """Bytes, then the entry; False: refused. A checkpoint that the store does not take now is left out."""
        entry_id, body = self.site.token(), f"step {step}".encode()
        manifest = f"{paths.checkpoint(self.env.project, self.env.job, self.env.epoch, step, entry_id)}/manifest.json"
        checkpoint = Checkpoint(
            epoch=self.env.epoch,
            step=step,
            store=self.env.store.name,
            manifest=manifest,
            sha256=hashlib.sha256(body).hexdigest(),
            id=entry_id,
            nonce=self.nonce,
        )
        try:
            self._line.put(manifest, body)
            return self._append(checkpoint) is None
        except StoreUnavailable:
            return True

    # ---- time ------------------------------------------------------------------------------------------------------

    @property
    def _check_s(self) -> float:
        return self.env.isolation.check_ms / 1000

    def _now(self) -> int:
        """Of this machine alone: another one's clock shows something else."""
        return self._booted_ms + round(_story_s() * 1000)

    def _ran_ms(self) -> int:
        if self._run is None:
            return 0
        return round(((_story_s() if self._run.to_s is None else self._run.to_s) - self._run.from_s) * 1000)

    def _end_run(self) -> None:
        if self._run is not None and self._run.to_s is None:
            self._run.to_s = _story_s()

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._thawed.wait()
