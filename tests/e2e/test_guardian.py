"""Nothing that a guarded command started outlives it, however it ends and however its children hide."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.guardian import PR_SET_CHILD_SUBREAPER, _prctl, descendants, end_descendants

GUARDED = "import sys; from orchestrator.guardian import run_guarded; sys.exit(run_guarded(sys.argv[1:]))"
HIDERS = "setsid sh -c 'trap \"\" TERM INT; (setsid sleep 300 &) ; sleep 300' & (sleep 300 &) ; echo up; "


@pytest.fixture(autouse=True)
def _subreaper() -> Iterator[None]:
    """Whatever escapes becomes our child, so that it can be counted."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    end_descendants()
    _prctl(PR_SET_CHILD_SUBREAPER, 0)


def guarded(script: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", GUARDED, "sh", "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def hiding() -> subprocess.Popen[str]:
    """A guarded command with four descendants that ignore signals and leave their sessions."""
    process = guarded(HIDERS + "sleep 300")
    assert process.stdout and process.stdout.readline() == "up\n"
    _until(lambda: len(descendants(process.pid)) >= 6)
    return process


def _until(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def nothing_left() -> bool:
    return descendants(os.getpid()) == []


def test_the_command_s_exit_status_comes_back() -> None:
    assert guarded("exit 7").wait(20) == 7


def test_what_a_finished_command_left_behind_is_ended() -> None:
    process = guarded(HIDERS)
    assert process.wait(20) == 0
    assert nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing(number: signal.Signals) -> None:
    process = hiding()
    process.send_signal(number)
    assert process.wait(20) == 130
    assert nothing_left()


def test_who_keeps_a_folder_is_asked_before_it_is_killed(tmp_path: Path) -> None:
    life = f'mkdir {tmp_path}/f; trap "rm -r {tmp_path}/f; exit" TERM; echo up; while :; do sleep 0.1; done'
    process = guarded(f"setsid sh -c '{life}' & sleep 300")
    assert process.stdout and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert nothing_left() and not (tmp_path / "f").exists()


def test_impatience_changes_nothing() -> None:
    process = hiding()
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    process.wait(20)
    assert nothing_left()


def test_a_killed_command_leaves_nothing() -> None:
    process = hiding()
    process.kill()
    process.wait()
    _until(nothing_left)


def test_a_killed_guardian_leaves_nothing() -> None:
    process = hiding()
    guardian = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(guardian, signal.SIGKILL)
    process.wait(20)
    _until(nothing_left)
