"""Which launches are there on this machine, and in what state? Read from their folders, started through keepers.

Called by the local provider alone. Blocking, but short (small files), except `settle`, which may wait for processes to
die. Whatever it does may be cut off anywhere and done again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.adapters.providers.local import files
from orchestrator.adapters.providers.local.inherited import inherited
from orchestrator.model.offer import SightingState
from orchestrator.model.wire import AttemptEnv
from orchestrator.ports.runtime import Head
from orchestrator.rayhead.plan import ROOT
from orchestrator.rayhead.processes import end_all

KEPT_S = 7 * 24 * 3600
"""How long the folder of a launch that is gone stays, so that its key starts nothing again."""


@dataclass(frozen=True, slots=True)
class Held:
    """One launch as its folder tells it. Times are microseconds UTC."""

    folder: Path
    launch: dict[str, Any]
    head: dict[str, Any] | None
    submitted: bool
    stopping: bool
    gone: dict[str, Any] | None

    @property
    def key(self) -> str:
        """The launch key."""
        return self.folder.name

    @property
    def gpus(self) -> int:
        """Over all workers."""
        return int(self.launch["head"]["gpus"])

    @property
    def cpus(self) -> int:
        """Over all workers."""
        return int(self.launch["cpus"])

    @property
    def state(self) -> SightingState:
        """As far as the folder tells; whether its job has ended, only the head knows."""
        if self.gone is not None:
            return SightingState.GONE
        if self.stopping:
            return SightingState.STOPPING
        return SightingState.RUNNING if self.head is not None and self.submitted else SightingState.PROVISIONING

    @property
    def outlived(self) -> bool:
        """Whether it has been gone for so long that its key may be forgotten."""
        return self.gone is not None and self.gone["at"] < (time.time() - KEPT_S) * 1_000_000

    @property
    def listens(self) -> Head | None:
        """Where its head listens, while there is one."""
        return None if self.head is None or self.gone else Head(self.head["address"], self.head["token"])


class Launches:
    """Every launch under one folder, of whichever server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keepers: list[subprocess.Popen[bytes]] = []
        self._gone: dict[str, Held] = {}

    def all(self) -> list[Held]:
        """Every launch, also those that are gone: these change no more, and are read once."""
        if not self.folder.is_dir():
            return []
        found = [self._gone.get(name) or self.get(name) for name in sorted(os.listdir(self.folder))]
        held = [one for one in found if one is not None]
        self._gone = {one.key: one for one in held if one.gone is not None}
        return held

    def get(self, key: str) -> Held | None:
        """One launch, or None: that key was never launched here (or its making was cut off)."""
        folder = self.folder / key
        launch = files.maybe(folder / files.LAUNCH)
        if launch is None:
            return None
        gone = files.maybe(folder / files.GONE)
        submitted, stopping = ((folder / name).exists() for name in (files.SUBMITTED, files.STOP))
        return Held(folder, launch, files.maybe(folder / files.HEAD), submitted, stopping, gone)

    def make(self, key: str, launch: dict[str, Any]) -> None:
        """Take the key and start its keeper."""
        folder = self.folder / key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(folder / files.LAUNCH, launch)
        self._gone.pop(key, None)
        self._keep(folder)

    def submitted(self, key: str) -> None:
        """The agent was handed to the head."""
        (self.folder / key / files.SUBMITTED).touch(mode=0o600)

    def stop(self, key: str) -> None:
        """Ask its keeper to end it; a key that is not here is as good as ended."""
        if self.get(key) is not None:
            (self.folder / key / files.STOP).touch(mode=0o600)

    def settle(self, held: Held) -> None:
        """Make good what was cut off: a launch without a keeper is started, or ended if it was up or is unwanted."""
        self._keepers = [keeper for keeper in self._keepers if keeper.poll() is None]
        if held.gone is not None:
            if held.outlived:
                (held.folder / files.LAUNCH).unlink(missing_ok=True)  # first: without it nothing is started again
                shutil.rmtree(held.folder, ignore_errors=True)
            return
        if held.head is None and not held.stopping:
            self._keep(held.folder)
            return
        descriptor = files.lock(held.folder)
        if descriptor is None:
            return
        try:
            if end_all(files.marker(held.folder)) and not (held.folder / files.GONE).exists():
                files.forget_scratch(held.folder)
                why = "stopped" if held.stopping else "its keeper died"
                files.write(held.folder / files.GONE, {"at": time.time_ns() // 1000, "why": why})
        finally:
            os.close(descriptor)

    def _keep(self, folder: Path) -> None:
        """Start its keeper, unless it has one. It gets the lock, and outlives us."""
        descriptor = files.lock(folder)
        if descriptor is None:
            return
        try:
            if (folder / files.GONE).exists():
                return
            store = AttemptEnv.from_json(files.read(folder / files.LAUNCH)["attempt"]).store
            with (folder / "keeper.log").open("ab") as output:
                keeper = subprocess.Popen(
                    (sys.executable, "-m", "orchestrator.adapters.providers.local.keeper", folder, str(descriptor)),
                    env={**inherited(os.environ, store), "PYTHONPATH": os.pathsep.join(_python_path())},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=(descriptor,),
                )
            self._keepers = [k for k in self._keepers if k.poll() is None] + [keeper]
        finally:
            os.close(descriptor)


def _python_path() -> list[str]:
    parts = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return parts if str(ROOT) in parts else [*parts, str(ROOT)]
