"""A folder as the store, real agents as subprocesses, user code that writes witness lines. Bounds are tiny."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from orchestrator.agent.processes import kill_all, members
from orchestrator.model.ids import launch_key, new_job_id
from orchestrator.model.wire import (
    ENV_ATTEMPT,
    AttemptEnv,
    Clear,
    ControllerEntry,
    Entry,
    Fence,
    Isolation,
    Stop,
    StoreRef,
)
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.log import JobLog, append_controller, read
from orchestrator.runlog.rules import RunLog
from orchestrator.runlog.store import open_store

SLACK_MS = 1000  # for a machine on which everything else runs too
FAST = Isolation(check_ms=50, limit_ms=1500, grace_ms=400)
JOB = new_job_id(1_800_000_000_000_000, secrets.token_bytes(10))  # agents end whoever has their key, here too
LOOP = "for step in range(1, 100_000): witness(step); time.sleep(0.02)"

PRELUDE = """
import json, os, signal, subprocess, sys, threading, time
from orchestrator import training
def witness(step, rank=0):
    with open(sys.argv[1], "a") as file:
        line = {"boot_ms": time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, "pid": os.getpid(),
                "epoch": int(os.environ["ORCHESTRATOR_EPOCH"]), "rank": rank, "step": step}
        print(json.dumps(line), file=file)
"""


def until(what: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Poll until true; the value. Fails after `within_s`."""
    end = time.monotonic() + within_s
    while not (value := what()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
    return value


@dataclass
class Agent:
    process: subprocess.Popen[str]
    epoch: int

    def wait(self, within_s: float = 25.0) -> int:
        return self.process.wait(within_s)

    def children(self) -> set[int]:
        return members(launch_key(JOB, self.epoch))


@dataclass
class World:
    root: Path
    agents: list[Agent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ref = StoreRef(name="main", url=f"file://{self.root}/store")
        self.log = JobLog(open_store(self.ref, create=True), "default", JOB)
        self.witness_file = self.root / "witness"

    def launch(self, code: str = LOOP, epoch: int = 1, isolation: Isolation = FAST, **fields: Any) -> Agent:
        printed: IO[bytes] | None = fields.pop("printed", None)  # where the agent prints; None: out of the way
        by: tuple[str, ...] = fields.pop("by", ())  # what starts the agent and becomes it
        script = self.root / f"user{len(self.agents)}.py"
        script.write_text(PRELUDE + textwrap.dedent(code))
        env = AttemptEnv(
            job=JOB,
            project="default",
            epoch=epoch,
            provider="oracle",
            region="us-1",
            store=self.ref,
            isolation=isolation,
            command=fields.pop("command", ("python", str(script), str(self.witness_file))),
            **fields,
        )
        process = subprocess.Popen(
            [*by, sys.executable, "-m", "orchestrator.agent"],
            env={**os.environ, ENV_ATTEMPT: env.to_json(), "TMPDIR": str(self.root)},
            stdout=printed or subprocess.DEVNULL,
            stderr=printed or (self.root / f"agent{len(self.agents)}.err").open("w"),
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.agents.append(Agent(process, epoch))
        return self.agents[-1]

    def control(self, kind: type, epoch: int, **fields: Any) -> None:
        entry: ControllerEntry = kind(epoch=epoch, id=f"{kind.__name__}-{epoch}", term=1, **fields)
        append_controller(self.log, self.state, entry)

    def fence(self, epoch: int) -> None:
        self.control(Fence, epoch)

    def clear(self, epoch: int) -> None:
        self.control(Clear, epoch)

    def stop(self, epoch: int, grace_ms: int = 300) -> None:
        self.control(Stop, epoch, reason="cancel", grace_ms=grace_ms)

    @property
    def state(self) -> RunLog:
        return read(self.log).state

    @property
    def kinds(self) -> list[str]:
        return [type(entry).__name__ for entry in self.state.entries]

    @property
    def last(self) -> Entry:
        return self.state.entries[-1]

    def witness(self, epoch: int | None = None) -> list[dict[str, int]]:
        if not self.witness_file.exists():
            return []
        lines = [json.loads(line) for line in self.witness_file.read_text().splitlines()]
        return [line for line in lines if epoch in (None, line["epoch"])]

    def running(self, epoch: int = 1) -> int:
        """Wait for user code's first step; its time."""
        until(lambda: self.witness(epoch))
        return self.witness(epoch)[0]["boot_ms"]

    def last_step_ms(self, epoch: int = 1) -> int:
        return self.witness(epoch)[-1]["boot_ms"]

    def still(self, epoch: int = 1, quiet_s: float = 0.3) -> bool:
        """Whether no witness line came for a while."""
        return bool(self.witness(epoch)) and boottime_ms() - self.last_step_ms(epoch) > quiet_s * 1000

    def take_store_away(self) -> None:
        (self.root / "store").rename(self.root / "away")

    def give_store_back(self) -> None:
        (self.root / "away").rename(self.root / "store")

    def close(self) -> None:
        for agent in self.agents:
            agent.process.kill()
            agent.process.wait()
            kill_all(launch_key(JOB, agent.epoch))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()
