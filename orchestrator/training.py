"""What does a user's script import to be resumable? `resume()`, `report()`, `stopping()`.

Called by user code, on every rank; outside a job all of it does nothing harmful. Inside one it also holds each
process to the run log: a process that may not go on ends itself. Light: the standard library, the run log and the
model.

How Ray workers get the watchdog: the agent writes `worker_process_setup_hook = orchestrator.training.worker_setup`
and the attempt's variables into RAY_JOB_CONFIG_JSON_ENV_VAR of the driver, so that `ray.init()` without arguments
passes them on. Whoever submits the agent as a Ray job passes entrypoint `exec python -m orchestrator.agent` and, as
runtime_env, only `{"env_vars": {"ORCHESTRATOR_ATTEMPT": …, the store's key variables}}`. He must not pass the hook
(it would run in Ray's own job supervisor, before any claim), and this package must be importable by the cluster's
workers. User code may give `ray.init` a runtime_env of its own, but no hook and none of these variables.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.model.wire import ENV_ATTEMPT, ENV_KEY, ENV_NONCE, ENV_WORK_DIR, TOLD, AttemptEnv, Checkpoint
from orchestrator.runlog import checkpoints, paths
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.log import JobLog, Refused, append_attempt
from orchestrator.runlog.printing import put_err
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import RefusalReason
from orchestrator.runlog.shipping import Chunks
from orchestrator.runlog.store import open_patiently
from orchestrator.runlog.watchdog import FIRST_MS, MustEnd, Watchdog
from orchestrator.runlog.watcher import Watcher

__all__ = ["Ended", "report", "resume", "stopping", "worker_setup"]

_T = TypeVar("_T")
_RANKED = {"RANK", "WORLD_SIZE"}
PARTS_POLL_S = 0.5
PARTS_WARN = 120
"""Polls between two warnings that parts of a checkpoint are missing: a minute."""


class Ended(SystemExit):
    """This attempt may not go on (the job is done, or runs elsewhere). Not an error of the script's: let it pass."""


def resume() -> Path | None:
    """The folder of the newest checkpoint that is whole, verified; None: start from the beginning (or outside a job).

    Blocks while the store is silent, at most until the attempt's limit. Ranks that call it at different moments may see
    different checkpoints: call it before any of them saves.
    """
    attempt = _current()
    return None if attempt is None else attempt.restore()


def report(
    *, step: int, loss: float | None = None, checkpoint: str | os.PathLike[str] | None = None, sharded: bool = False
) -> None:
    """Progress, and optionally a folder to resume from; durable when this returns. Call it on every rank.

    What rank 0 gives counts, unless `sharded`: then the files of every rank's folder make one checkpoint, no rank goes
    without a folder, and each waits for the others. In a `ray.train` loop its own report is called too. Steps of
    checkpoints increase within an attempt, else ValueError, as where shards of two ranks have one name, or where
    nobody says which rank this is. Raises Ended where this attempt has lost the job.
    """
    loop = _ray_train()
    attempt = _current()
    rank, ranks = _place(loop)
    if sharded and checkpoint is None:
        raise ValueError(f"a sharded checkpoint needs a folder of every rank, and rank {rank} gave none")
    if sharded and attempt is not None and (rank >= ranks or (loop is None and not os.environ.keys() >= _RANKED)):
        raise ValueError("sharded=True needs to know the ranks: set RANK and WORLD_SIZE, as torchrun does")
    if attempt is not None and rank == 0:
        attempt.progress(step, loss)
    if attempt is not None and checkpoint is not None and (rank == 0 or sharded):
        attempt.save(step, Path(checkpoint), (rank, ranks) if sharded else None)
    if loop is not None:
        loop.report({"step": step} if loss is None else {"step": step, "loss": loss})


def stopping() -> float | None:
    """Seconds left once a stop is under way, else None.

    A script that was told so and ends with exit code 0 has been stopped: the job goes on elsewhere, or is cancelled.

    From the first call in the main thread on, SIGTERM no longer ends this process by itself: the script asked to know.
    In a Ray driver that holds from the first call after `ray.init`, which sets a handler of its own.
    """
    attempt = _current()
    if attempt is None:
        return None
    if threading.current_thread() is threading.main_thread() and _nobody_s(signal.getsignal(signal.SIGTERM)):
        signal.signal(signal.SIGTERM, lambda *_: None)
    left_ms = attempt.left_ms()
    if left_ms is None:
        return None
    with contextlib.suppress(OSError):  # first of all: what the script does about it may end at once
        (_folder() / TOLD).touch()
    return left_ms / 1000


def _nobody_s(handler: object) -> bool:
    """Whether SIGTERM would just end this process: as by default, or as `ray.init` sets it up in a driver."""
    name = f"{getattr(handler, '__module__', '')}.{getattr(handler, '__qualname__', '')}"
    return handler is signal.SIG_DFL or name.startswith("ray._private.worker.init.")


def worker_setup() -> None:
    """Ray's `worker_process_setup_hook`: returns after this process's own first good read, and watches from then on.

    An exception makes Ray end the worker before it runs anything of the user's.
    """
    _current()


class _Attempt:
    """This process's part in the attempt that its environment names."""

    def __init__(self, env: AttemptEnv, nonce: str) -> None:
        self.pid = os.getpid()
        self._env, self._nonce = env, nonce
        store = open_patiently(env.store, env.isolation.check_ms, env.isolation.limit_ms or FIRST_MS)
        self._log = JobLog(store, env.project, env.job)
        self._watcher = Watcher(self._log, env.isolation.check_ms)
        self._watchdog = Watchdog(self._watcher, env.epoch, nonce, env.isolation, self._flush)
        self._chunks = Chunks(store, paths.progress(env.project, env.job, env.epoch))
        self._lines: list[bytes] = []
        self._pending = b""
        self._lock, self._shipping = threading.Lock(), threading.Lock()

    def begin(self) -> None:
        work = os.environ.get(ENV_WORK_DIR)
        try:
            self._watchdog.begin(None if work is None else Path(work) / f"watchdog-{self.pid}")
        except MustEnd as error:
            raise Ended(f"orchestrator: {error}") from error
        atexit.register(self._flush_at_exit)

    def restore(self) -> Path | None:
        into = _folder() / "ckpt"
        into.mkdir(parents=True, exist_ok=True)
        store = self._env.store.name
        restored = self._patiently(
            lambda: checkpoints.restore(self._log, self._watcher.look().state, into, _warn, store=store)
        )
        return None if restored is None else restored.folder

    def progress(self, step: int, loss: float | None) -> None:
        doc = {"step": step, "loss": loss, "epoch": self._env.epoch, "at_us": time.time_ns() // 1000}
        with self._lock:
            self._lines.append(json.dumps(doc).encode() + b"\n")

    def save(self, step: int, folder: Path, place: tuple[int, int] | None) -> None:
        """Bytes, manifest, log entry; each repeated while the store is silent, the entry under one id.

        `place`: (rank, ranks) where every rank brings a part; only rank 0 writes the manifest and the entry.
        """
        last = self._patiently(self._allowed).state.checkpoints
        epoch, entry_id = self._env.epoch, uuid.uuid4().hex
        if last and (epoch, step) <= (last[-1].epoch, last[-1].step):
            raise ValueError(f"checkpoint step {step} is not above {last[-1].step}, the last one")
        if place is None:
            self._enter(
                step, entry_id, self._patiently(lambda: checkpoints.save(self._log, epoch, step, entry_id, folder))
            )
            return
        rank, ranks = place
        if rank == 0:
            self._gather(step, folder, ranks)
        else:
            self._bring(step, folder, rank)

    def _gather(self, step: int, folder: Path, ranks: int) -> None:
        """Ask all ranks for their parts and wait. A rank that never brings one is named every minute."""
        epoch, save_id, looks = self._env.epoch, uuid.uuid4().hex, 0
        self._patiently(lambda: checkpoints.ask_for_parts(self._log, epoch, step, self._nonce, save_id))
        self._part(step, save_id, folder, 0)
        while True:
            found = self._patiently(lambda: self._joined(step, save_id, ranks))
            if isinstance(found, checkpoints.Saved):
                self._enter(step, uuid.uuid4().hex, found)
                return
            looks += 1
            if looks % PARTS_WARN == 0:
                _warn(f"the checkpoint of step {step} waits for ranks {', '.join(map(str, found))}")
            time.sleep(PARTS_POLL_S)
            self._patiently(self._allowed)

    def _joined(self, step: int, save_id: str, ranks: int) -> checkpoints.Saved | tuple[int, ...]:
        """As `checkpoints.join`; a refusal is told to every rank."""
        try:
            return checkpoints.join(self._log, self._env.epoch, step, save_id, ranks)
        except ValueError as error:
            checkpoints.refuse_parts(self._log, self._env.epoch, step, save_id, str(error))
            raise

    def _bring(self, step: int, folder: Path, rank: int) -> None:
        """Hand in this rank's part, at each try of rank 0's, until the step is in the log, or refused (ValueError)."""
        epoch, brought = self._env.epoch, None
        while not any((c.epoch, c.step) >= (epoch, step) for c in self._patiently(self._allowed).state.checkpoints):
            asked = self._patiently(lambda: checkpoints.asked_for_parts(self._log, epoch, step, self._nonce))
            if asked not in (None, brought):
                self._part(step, asked, folder, rank)
                brought = asked
            elif brought and (why := self._refused(step, brought)):
                raise ValueError(why)
            else:
                time.sleep(PARTS_POLL_S)

    def _refused(self, step: int, save_id: str) -> str | None:
        return self._patiently(lambda: checkpoints.refused_parts(self._log, self._env.epoch, step, save_id))

    def _part(self, step: int, save_id: str, folder: Path, rank: int) -> None:
        self._patiently(lambda: checkpoints.save_part(self._log, self._env.epoch, step, save_id, folder, rank))

    def _enter(self, step: int, entry_id: str, saved: checkpoints.Saved) -> None:
        epoch = self._env.epoch
        entry = Checkpoint(
            epoch=epoch,
            step=step,
            store=self._env.store.name,
            manifest=saved.manifest,
            sha256=saved.sha256,
            id=entry_id,
            nonce=self._nonce,
        )
        result = self._patiently(lambda: append_attempt(self._log, self._watcher.state, epoch, entry))
        self._watcher.learn(result.state)
        if isinstance(result, Refused):
            if result.refusal.reason is RefusalReason.NOT_INCREASING:
                raise ValueError(f"checkpoint step {step} was saved by another process of this attempt")
            raise Ended(f"orchestrator: checkpoint of step {step} refused: {result.refusal}")

    def left_ms(self) -> int | None:
        known = [self._watchdog.left_ms(), _noticed_ms()]
        return min((ms for ms in known if ms is not None), default=None)

    def _allowed(self) -> Any:
        """A good read before anything is sent: who has lost the job writes nothing more."""
        reading = self._watcher.look()
        try:
            self._watchdog.check(reading)
        except MustEnd as error:
            raise Ended(f"orchestrator: {error}") from error
        return reading

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Again while the store is silent: the watchdog and the guard bound it."""
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                _warn(str(error))
            time.sleep(self._env.isolation.check_ms / 1000)

    def _flush(self) -> None:
        """Ship what was reported; after a failure the same bytes go first, so that no line is there twice."""
        with self._shipping, contextlib.suppress(StoreUnavailable):
            if not self._pending:
                with self._lock:
                    self._pending, self._lines = b"".join(self._lines), []
            if self._pending:
                self._chunks.ship(self._pending)
                self._pending = b""

    def _flush_at_exit(self) -> None:
        if os.getpid() != self.pid:
            return
        with contextlib.suppress(StoreUnavailable, Ended):
            self._allowed()
            self._flush()


_attempt: _Attempt | None = None
_making = threading.Lock()


def _current() -> _Attempt | None:
    """This process's attempt, made on first use (and again in a forked child, which inherits no threads)."""
    global _attempt
    if ENV_NONCE not in os.environ:
        return None
    with _making:
        if _attempt is None or _attempt.pid != os.getpid():
            made = _Attempt(AttemptEnv.from_json(os.environ[ENV_ATTEMPT]), os.environ[ENV_NONCE])
            made.begin()
            _attempt = made
        return _attempt


def _ray_train() -> Any:
    """`ray.train` where this is one of its workers, else None. Never imports it."""
    train = sys.modules.get("ray.train")
    if train is None:
        return None
    try:
        train.get_context().get_world_rank()
    except (RuntimeError, AttributeError):
        return None  # imported, but this process is no worker of it
    return train


def _place(loop: Any) -> tuple[int, int]:
    """(rank, ranks): Ray Train's, a launcher's (torchrun sets RANK and WORLD_SIZE), or a plain script's: (0, 1)."""
    if loop is None:
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    context = loop.get_context()
    return int(context.get_world_rank()), int(context.get_world_size())


def _folder() -> Path:
    """The agent's folder where it is this machine's, else one of our own."""
    work = os.environ.get(ENV_WORK_DIR)
    if work is not None and Path(work).is_dir():
        return Path(work)
    return Path(tempfile.gettempdir()) / os.environ.get(ENV_KEY, "orchestrator")


def _noticed_ms() -> int | None:
    """What the guard's notice leaves us; None: there is none."""
    try:
        until_ms = json.loads((_folder() / "notice.json").read_text())["until_ms"]
    except (OSError, ValueError, KeyError):
        return None
    return 0 if until_ms is None else max(0, until_ms - boottime_ms())


def _warn(text: str) -> None:
    put_err(f"orchestrator: {text}")
