"""The installed script: what a Ctrl-C does while it is still importing."""

from __future__ import annotations

import signal
import subprocess
import sys

SLOW = (
    "import sys, types, time;"
    "slow = types.ModuleType('slow');"
    "print('up', flush=True);"
    "sys.meta_path.insert(0, type('Slow', (), {'find_spec': staticmethod("
    "lambda name, *_: time.sleep(60) if name == 'orchestrator.cli.main' else None)})());"
    "from orchestrator.cli.entry import main; print('in', flush=True); main()"
)
"""The import of the command line takes a minute."""


def test_an_interrupt_of_its_imports_leaves_no_trace() -> None:
    ran = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert ran.stdout and [ran.stdout.readline(), ran.stdout.readline()] == ["up\n", "in\n"]
    while _heeds(ran.pid):
        continue
    ran.send_signal(signal.SIGINT)
    assert (ran.communicate(timeout=20)[1], ran.returncode) == ("", -signal.SIGINT)


def _heeds(pid: int) -> bool:
    """Whether Python's own handler for SIGINT is still in place."""
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1)
