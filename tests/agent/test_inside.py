"""Which process is which rank, and that a command ends with whoever asked for it, however he went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent import inside
from orchestrator.model.wire import ENV_KEY, ENV_NONCE

Start = Callable[..., int]


@pytest.fixture
def key() -> str:
    return f"key-of-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def start(key: str) -> Iterator[Start]:
    """Starts a process that looks like user code of the attempt; its pid."""
    made: list[subprocess.Popen[bytes]] = []

    def begin(**variables: str) -> int:
        env = {**os.environ, ENV_KEY: key, ENV_NONCE: "n", **variables}
        made.append(subprocess.Popen(["sleep", "60"], env=env))
        return made[-1].pid

    yield begin
    for process in made:
        process.kill()
        process.wait()


def settled(true: Callable[[], Any]) -> Any:
    for _ in range(100):
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("not within 5 s")


def test_ranks_are_counted_as_they_started(start: Start, key: str) -> None:
    pids = [start() for _ in range(3)]
    assert settled(lambda: inside.ranks(key) == dict(enumerate(pids)))


def test_a_launchers_rank_counts(start: Start, key: str) -> None:
    start()  # the launcher itself
    second, first = start(RANK="1"), start(RANK="0")
    assert settled(lambda: inside.ranks(key) == {0: first, 1: second})


def test_other_attempts_and_whoever_looks_are_no_ranks(start: Start, key: str) -> None:
    pid = start()
    start(**{ENV_KEY: "another"})
    start(**{ENV_NONCE: ""})
    assert settled(lambda: inside.ranks(key) == {0: pid})


def test_a_command_ends_when_whoever_asked_is_killed(tmp_path: Path) -> None:
    """The asker is a process of its own, and dies without a word."""
    asker = """
import json, subprocess, sys, time
from orchestrator.agent import inside
there = subprocess.Popen([sys.executable, "-m", "orchestrator.agent.inside"], stdin=subprocess.PIPE)
task = {"do": "run", "command": ["sh", "-c", f"echo $$ > {sys.argv[1]}; exec sleep 60"]}
there.stdin.write(inside.frame(inside.TASK, json.dumps(task).encode()))
there.stdin.flush()
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", asker, str(tmp_path / "pid")]) as process:
        pid = int(settled(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        process.send_signal(signal.SIGKILL)
    settled(lambda: not Path(f"/proc/{pid}/exe").exists())
