"""exec, dump, forward and logs --rank at a terminal: exit codes, Ctrl-C, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.cli.inside import _listen
from tests.cli.conftest import Run
from tests.cli.test_jobs import submitted
from tests.served import Served

ORCHESTRATOR = (sys.executable, "-m", "orchestrator.cli.main")


@pytest.fixture
def job(cli: Run, server: Served) -> str:
    """It runs at oracle."""
    made = submitted(cli)
    server.tell(lambda desk: desk.play_on(made))
    return made


def program(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    pipes: dict[str, Any] = {"stdin": -1, "stdout": -1, "stderr": -1}
    return subprocess.Popen((*ORCHESTRATOR, *arguments), start_new_session=True, **(pipes | more))


def until(true: Callable[[], Any]) -> Any:
    for _ in range(200):
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("not within 10 s")


def sessions(server: Served) -> list[Any]:
    return server.tell(lambda desk: [*desk.inside.sessions])


def test_a_commands_streams_and_exit_code_are_ours(job: str) -> None:
    ran = program("exec", job, "--", "cat")
    assert ran.communicate(b"there and back", timeout=20) == (b"there and back", b"") and ran.returncode == 0
    ran = program("exec", job, "--rank", "1", "--", "oops")
    assert ran.communicate(timeout=20) == (b"", b"oops\n") and ran.returncode == 1
    ran = program("exec", job, "--", "exit", "42")
    assert ran.communicate(timeout=20) == (b"", b"") and ran.returncode == 42


def test_ctrl_c_ends_the_command_there(job: str, server: Served) -> None:
    ran = program("exec", job, "--", "sleep")
    until(lambda: sessions(server))
    ran.send_signal(signal.SIGINT)
    assert ran.communicate(timeout=20) == (b"", b"") and ran.returncode == 130
    [session] = sessions(server)
    assert session.code == 143 and until(lambda: session.closed)


def test_a_client_that_is_killed_ends_the_command_too(job: str, server: Served) -> None:
    ran = program("exec", job, "--", "sleep")
    until(lambda: sessions(server))
    ran.kill()
    ran.communicate(timeout=20)
    assert until(lambda: sessions(server)[0].closed)


def test_at_a_terminal_the_command_has_one(job: str) -> None:
    ours, theirs = pty.openpty()
    ran = program("exec", job, "--", "tty", stdin=theirs, stdout=theirs, stderr=theirs,
                  env={**os.environ, "COLUMNS": "91", "LINES": "33"})  # fmt: skip
    os.close(theirs)
    assert b"(33, 91)" in until(lambda: os.read(ours, 100))
    ran.send_signal(signal.SIGWINCH)
    assert ran.wait(20) == 0
    os.close(ours)


def test_input_that_comes_when_all_is_over_is_nobodys(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    typed = threading.Event()
    monkeypatch.setattr(os, "read", lambda *_: typed.wait(20) and b"late")

    async def brief() -> None:
        listening = asyncio.ensure_future(_listen(None))  # type: ignore[arg-type]  # nothing is sent to it
        await asyncio.sleep(0)
        listening.cancel()

    before = set(threading.enumerate())
    asyncio.run(brief())
    [reader] = set(threading.enumerate()) - before
    typed.set()
    reader.join(20)
    gc.collect()  # what other tests have left goes too, and may warn
    assert not reader.is_alive() and not [one for one in recwarn if "never awaited" in str(one.message)]


def test_a_reader_that_leaves_ends_it(job: str, server: Served) -> None:
    ran = program("exec", job, "--", "cat")
    assert ran.stdout and ran.stdin
    ran.stdout.close()
    ran.stdin.write(b"nobody reads this")
    ran.stdin.flush()
    assert ran.wait(20) == 141 and until(lambda: sessions(server)[0].closed)
    ran.stdin.close()


def test_a_cloud_without_a_shell_has_an_exit_code_of_its_own(cli: Run, job: str, server: Served) -> None:
    server.tell(lambda desk: setattr(desk, "inside", None))
    for asked in (("exec", job, "--", "bash"), ("dump", job), ("forward", job), ("logs", job, "--rank", "0")):
        ran = cli(*asked)
        assert ran.exit_code == 7 and "error: the cloud gives no shell" in ran.stderr, asked


@pytest.mark.parametrize(("asked", "code", "says"), [
    (("exec", "JOB", "--rank", "9", "--", "bash"), 2, "there is no rank 9; the ranks are: 0, 1"),
    (("forward", "JOB", "99"), 2, "nothing of this job listens on port 99"),
    (("forward", "JOB", "http"), 2, "is not PORT or LOCAL:PORT"),
    (("forward", "JOB", "99999:6006"), 2, "is not PORT or LOCAL:PORT"),
    (("forward", "JOB", "9" * 5000), 2, "is not PORT or LOCAL:PORT"),
    (("logs", "JOB", "--rank", "9"), 2, "there is no rank 9"),
    (("exec", "JOB"), 2, "Missing argument"),
])  # fmt: skip
def test_what_cannot_be_is_said(cli: Run, job: str, asked: tuple[str, ...], code: int, says: str) -> None:
    ran = cli(*(word.replace("JOB", job) for word in asked))
    assert ran.exit_code == code and says in " ".join(ran.stderr.split())


def test_a_job_that_is_over_is_refused(cli: Run, job: str) -> None:
    cli("cancel", job)
    ran = cli("exec", job, "--", "bash")
    assert ran.exit_code == 4 and "none of its attempts runs now" in ran.stderr


def test_dump_shows_every_rank_and_why_not(cli: Run, job: str) -> None:
    ran = cli("dump", job)
    assert ran.exit_code == 0
    assert 'rank 0  pod a · python train.py\n  Thread 20 (active): "MainThread"\n' in ran.stdout
    assert "rank 1  pod b · ray::train\n  no stacks: it may not be looked into; remedy: ask\n" in ran.stdout
    assert cli("dump", job, "--rank", "1").exit_code == 1
    assert '"rank": 0' in cli("dump", job, "--json").stdout


def test_logs_of_a_rank_are_its_own(cli: Run, job: str) -> None:
    assert cli("logs", job, "--rank", "1").stdout == f"rank 1 of {job.lower()}-e1\n"
    assert cli("logs", job).stdout == "step 1 loss 0.5\n"


def test_forward_listens_on_loopback_until_ctrl_c(job: str, server: Served) -> None:
    ran = program("forward", job, "0:7")
    assert ran.stderr
    said = ran.stderr.readline().decode()
    port = int(re.search(r"127\.0\.0\.1:(\d+)", said)[1])  # type: ignore[index]
    with socket.create_connection(("127.0.0.1", port)) as there:
        there.sendall(b"hello")
        assert there.recv(100) == b"hello"
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", port), 1)
        ran.send_signal(signal.SIGINT)
        _, rest = ran.communicate(timeout=20)
        assert ran.returncode == 130 and there.recv(100) == b"" and b"Traceback" not in rest
    assert until(lambda: all(c.closed for c in server.tell(lambda desk: [*desk.inside.channels])))


def test_explain_tells_who_was_there(cli: Run, job: str) -> None:
    cli("dump", job)
    assert "owner asked to look at the stacks at oracle" in cli("explain", job).stdout
