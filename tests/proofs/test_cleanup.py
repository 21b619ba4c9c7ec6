"""prove-cleanup: however and whenever the demo is stopped, none of its processes is alive 15 s later."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.cli.stage import PYTHON
from orchestrator.guardian import descendants

PHASES = {
    "starting": "starting azure",
    "offering": "offered to azure",
    "launching": "coreweave accepted",
    "training": "running at coreweave",
    "recovering": "episode 2",
}
SHORT = os.environ.get("CLEANUP") == "short"
BLOWS = [signal.SIGINT, signal.SIGKILL] if SHORT else [*[signal.SIGINT] * 4, signal.SIGKILL]
GONE_S = 15.0
DELAYS_S = (2.0, 0.5, 0.0, 1.0, 4.0)
"""Blows fall at different moments of a phase."""


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_outlives_the_demo(phase: str, folder: Path) -> None:
    for number, blow in enumerate(BLOWS):
        most, took = strike(phase, blow, DELAYS_S[number], folder / str(number))
        print(f"{phase}: {blow.name}: {most} processes, none left after {took:.1f} s")


def strike(phase: str, blow: signal.Signals, delay_s: float, folder: Path) -> tuple[int, float]:
    """Stop a demo in this phase; how many processes it had, and how long they took to be gone."""
    command = [*PYTHON, "orchestrator.cli.main", "demo", "--folder", str(folder)]
    with (folder.parent / f"{folder.name}.out").open("wb") as out:
        demo = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    read_until(Path(out.name), PHASES[phase], demo)
    time.sleep(delay_s)
    most = len(descendants(os.getpid()))
    demo.send_signal(blow)
    began = time.monotonic()
    while demo.poll() is None or descendants(os.getpid()):
        left, said = named(descendants(os.getpid())), Path(out.name).read_text(errors="replace")[-2000:]
        assert time.monotonic() - began < GONE_S, f"still alive: {left}\n{said}"
        time.sleep(0.05)
    return most, time.monotonic() - began


def read_until(path: Path, words: str, demo: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not re.search(words, path.read_text(errors="replace")):
        assert demo.poll() is None and time.monotonic() < deadline, path.read_text(errors="replace")[-2000:]
        time.sleep(0.02)


def named(pids: list[int]) -> list[str]:
    found = []
    for pid in pids:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:120].decode(errors="replace")
            found.append(f"{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]} {line}")
        except OSError:
            continue
    return found
