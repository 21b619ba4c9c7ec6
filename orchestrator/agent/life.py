"""What does an agent do from its claim to its last entry?

Called by `python -m orchestrator.agent`. The order: read the log, claim, fetch the package, wait until older attempts
have surely ended, one more good read, start, run under the guard, end, one last entry. Every wait is bounded; what
may be appended, and when to end, is for the run log's rules; what an exit means is for `endings`.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from orchestrator.agent import endings, package
from orchestrator.agent.environment import user_environment
from orchestrator.agent.guard import Task
from orchestrator.agent.guarded import Guarded
from orchestrator.agent.output import Output
from orchestrator.agent.running import POLL_S, Bounds, Event, Exit, attend
from orchestrator.model.ids import launch_key
from orchestrator.model.wire import TOLD, AttemptEntry, AttemptEnv, Beat, Claim, Done, Release, Start, WireError
from orchestrator.runlog import paths
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.log import JobLog, Reading, Refused, append_attempt, write_beat
from orchestrator.runlog.printing import put_err
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import Verdict, verdict_for, wait_ms
from orchestrator.runlog.shipping import Chunks
from orchestrator.runlog.store import Store
from orchestrator.runlog.watcher import Watcher

EXIT_RELEASED = 75  # this attempt is over, the job is not
EXIT_NOT_MINE = 76  # the epoch is another's, or past: nothing was run, or what ran was ended
EXIT_SILENT = 77  # the store did not answer for so long that we gave up
EXIT_BAD_PACKAGE = 78  # written into the log as the job's exit
EXIT_NO_COMMAND = 127  # likewise: the command could not be started

PATIENCE_MS = 600_000  # how long a silent store is asked for a claim, a package or a last entry
_TAKES_S = 10.0  # for everything that was killed to be seen dead
_REST_CHUNKS = 256  # at most this much output is shipped at the end, before the last entry

_T = TypeVar("_T")


@dataclass
class Outside:
    """What the agent takes from outside: store, ids, wall clock, its own environment, a folder, an interpreter."""

    store: Store
    new_id: Callable[[], str]
    wall_us: Callable[[], int]
    variables: Mapping[str, str]
    work: Path
    python: Path = field(default_factory=lambda: Path(sys.executable))


class NotMine(Exception):
    """The log does not let this attempt go on; it runs nothing, or nothing more."""


class Life:
    """One agent's life. `run()` returns the process's exit code."""

    def __init__(self, env: AttemptEnv, outside: Outside) -> None:
        """Draws the nonce; does nothing else."""
        self.env, self._out, self._nonce = env, outside, outside.new_id()
        self._log = JobLog(outside.store, env.project, env.job)
        self._watcher = Watcher(self._log, env.isolation.check_ms)
        chunks = Chunks(outside.store, paths.out(env.project, env.job, env.epoch))
        self._output = Output(outside.work / "out", chunks)
        self._events: queue.Queue[Event] = queue.Queue()
        self._terminated = threading.Event()
        self._good_ms = 0
        self._started_ms: int | None = None
        self._ended_ms: int | None = None
        self._beats, self._phase = 0, "claimed"
        self.alone = True
        """Nothing that it has started on this machine lives, or may be writing into its folder."""

    def terminate(self) -> None:
        """Somebody outside (the machine, the runtime) wants this process to end. Safe in a signal handler."""
        self._terminated.set()

    def run(self) -> int:
        """The whole life."""
        try:
            self._claim()
            return self._after_claim()
        except NotMine as why:
            self._say(f"nothing (more) to do: {why}")
            return EXIT_NOT_MINE
        except (StoreUnavailable, WireError) as error:
            self._say(f"gave up after {PATIENCE_MS // 1000} s: {error}")
            return EXIT_SILENT

    # ---- before user code

    def _after_claim(self) -> int:
        try:
            self._fetch()
        except package.BadPackage as error:
            self._say_last(str(error))
            return self._finish(endings.IsDone(EXIT_BAD_PACKAGE, str(error)), gone=True)
        except OSError as error:  # its disk is full, or fails: another machine may do
            self._say_last(f"the code package cannot be kept on this machine: {error}")
            return self._finish(endings.IsReleased("lost_node"), gone=True)
        waited = self._wait()
        if self._terminated.is_set():
            return self._finish(endings.IsReleased("stopped"), gone=True)
        self._append(Start(epoch=self.env.epoch, waited=waited, id=self._out.new_id(), nonce=self._nonce))
        return self._run_command()

    def _claim(self) -> None:
        bounds = self.env.isolation
        claim = Claim(
            epoch=self.env.epoch,
            provider=self.env.provider,
            limit_ms=bounds.limit_ms,
            grace_ms=bounds.grace_ms,
            id=self._out.new_id(),
            nonce=self._nonce,
        )
        self._claimed_ms = self._append(claim)
        self._watcher.start(self._on_reading, lambda error: self._say(f"the run log could not be read: {error}"))

    def _fetch(self) -> None:
        """The package, while the wait runs. A store that is silent is asked again; a wrong package is not."""
        folder, digest = self._out.work / "code", self.env.package
        if digest is None:
            folder.mkdir(parents=True)
            return
        archive = self._out.work / "package.zip"
        self._patiently(lambda: package.fetch(self._out.store, self.env.project, digest, archive))
        package.unpack(archive, folder)
        archive.unlink()

    def _wait(self) -> bool:
        """Until cleared, or W after the claim and one more good read (then True). Epoch 1 has nobody to wait for."""
        wait = 0 if self.env.epoch == 1 else wait_ms(self._watcher.state, self.env.epoch)
        while not self._terminated.is_set():
            verdict = self._verdict()
            if verdict is not None and not verdict.good:
                raise NotMine(f"{verdict.why} (by epoch {verdict.by})")
            if verdict is not None:
                self._terminated.set()
            elif self.env.epoch == 1 or self.env.epoch in self._watcher.state.clears:
                return False  # the good read is the one that the append of `start` begins with
            elif wait is not None and boottime_ms() >= self._claimed_ms + wait:
                return True
            self._terminated.wait(POLL_S)
        return False

    def _verdict(self) -> Verdict | None:
        return verdict_for(self._watcher.state, self.env.epoch, self._nonce)

    # ---- user code

    def _run_command(self) -> int:
        self._phase, self._started_ms, self.alone = "running", boottime_ms(), False
        guarded = Guarded(self._task(), self._events.put)
        ended = attend(guarded, self._bounds(), self._good_ms)
        self._ended_ms, self._phase = boottime_ms(), "ending"
        self.alone = guarded.kill(_TAKES_S)
        gone = self.alone and self.env.nodes == 1
        if ended.order is not None and ended.order.why is None:
            raise NotMine("the job is over, or another attempt has it")
        if guarded.error is not None:
            return self._finish(endings.IsDone(EXIT_NO_COMMAND, guarded.error), gone)
        return self._finish(endings.conclude(self._seen(ended)), gone)

    def _task(self) -> Task:
        work = self._out.work
        return Task(
            command=list(self.env.command),
            folder=str(work / "code"),
            environment=user_environment(self.env, self._out.variables, self._nonce, work, self._out.python),
            output=str(work / "out"),
            notice=str(work / "notice.json"),
            key=launch_key(self.env.job, self.env.epoch),
            limit_ms=self.env.isolation.limit_ms,
            grace_ms=self.env.isolation.grace_ms,
            good_ms=self._good_ms,
        )

    def _bounds(self) -> Bounds:
        left = self.env.max_runtime_left_ms
        return Bounds(
            isolation=self.env.isolation,
            verdict=self._verdict,
            good=lambda reading: reading.good_ms(self.env.epoch, self._nonce),
            terminated=self._terminated.is_set,
            runtime_over=lambda: left is not None and self._ran_ms() >= left,
            events=self._events,
        )

    def _seen(self, ended: Exit) -> endings.Ended:
        limit_ms = self.env.isolation.limit_ms
        with contextlib.suppress(StoreUnavailable, WireError):
            self._watcher.look()
        verdict = self._verdict()
        return endings.Ended(
            exit=ended.code,
            tail=self._output.tail(),
            ours=None if ended.order is None else ended.order.why,
            past_limit=limit_ms is not None and boottime_ms() >= ended.good_ms + limit_ms,
            stop_seen=verdict is not None and verdict.stop is not None,
            told=(self._out.work / TOLD).exists(),
            watchdog=any(path.stat().st_size for path in self._out.work.glob("watchdog-*")),
        )

    # ---- the end

    def _finish(self, outcome: endings.IsDone | endings.IsReleased, gone: bool) -> int:
        """The last of the output, while the log still allows it, then the last entry."""
        self._watcher.stop()
        self._ship_rest()
        new_id, epoch, nonce, ran = self._out.new_id(), self.env.epoch, self._nonce, self._ran_ms()
        if isinstance(outcome, endings.IsDone):
            code, result = outcome.exit, outcome.result
            part = self.env.part
            self._append(Done(epoch=epoch, exit=code, result=result, ran_ms=ran, id=new_id, nonce=nonce, workers=part))
            return code
        self._append(Release(epoch=epoch, why=outcome.why, gone=gone, ran_ms=ran, id=new_id, nonce=nonce))
        return EXIT_RELEASED

    def _ship_rest(self) -> None:
        """Losing some output is a pity; holding back the last entry for it would be worse."""
        try:
            if self._watcher.look().good_ms(self.env.epoch, self._nonce) is not None:
                self._output.ship(_REST_CHUNKS)
        except (StoreUnavailable, WireError, OSError) as error:
            self._say(f"the last output could not be stored: {error}")

    # ---- at each reading, and helpers

    def _on_reading(self, reading: Reading) -> None:
        """In the watcher's thread: hand it over; only after a good read send anything of ours."""
        self._events.put(reading)
        if reading.good_ms(self.env.epoch, self._nonce) is None:
            return
        self._beats += 1
        try:
            write_beat(self._log, self._beat())
            self._output.ship()
        except StoreUnavailable as error:
            self._say(f"beat or output could not be stored: {error}")

    def _beat(self) -> Beat:
        return Beat(
            epoch=self.env.epoch,
            nonce=self._nonce,
            n=self._beats,
            phase=self._phase,
            ran_ms=self._ran_ms(),
            at_us=self._out.wall_us(),
        )

    def _ran_ms(self) -> int:
        if self._started_ms is None:
            return 0
        return (self._ended_ms or boottime_ms()) - self._started_ms

    def _append(self, entry: AttemptEntry) -> int:
        """Append, patiently; the entry keeps its id. The time of its good read. Raises NotMine if it is refused."""
        result = self._patiently(lambda: append_attempt(self._log, self._watcher.state, self.env.epoch, entry))
        self._watcher.learn(result.state)
        if isinstance(result, Refused):
            raise NotMine(f"{type(entry).__name__.lower()} refused: {result.refusal}")
        self._good_ms = result.good_ms
        return self._good_ms

    def _patiently(self, call: Callable[[], _T]) -> _T:
        until = boottime_ms() + PATIENCE_MS
        while True:
            try:
                return call()
            except (StoreUnavailable, WireError) as error:
                if boottime_ms() >= until:
                    raise
                self._say(str(error))
            time.sleep(self.env.isolation.check_ms / 1000)

    def _say_last(self, text: str) -> None:
        """Said, and for who reads the job's output too."""
        self._say(text)
        self._output.end(f"orchestrator agent: {text}")

    def _say(self, text: str) -> None:
        key = launch_key(self.env.job, self.env.epoch)
        put_err(f"orchestrator agent ({key}): {text}")
