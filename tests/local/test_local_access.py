"""Getting at a job that runs on this machine: in its environment and folder, and gone when whoever asked is gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.adapters.providers.local.access import LocalSession
from orchestrator.adapters.providers.local.provider import LocalProvider
from orchestrator.model.offer import SightingState
from orchestrator.model.wire import AttemptEnv
from orchestrator.ports.access import Access, Command, NotThere
from orchestrator.testing.builders import fresh_job
from tests.local.conftest import until
from tests.local.test_local import small_order, state

Make = Callable[..., LocalProvider]
PYTHON = ("import http.server, os, time; print('here', flush=True); "
          "http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler); time.sleep(600)")  # fmt: skip


@pytest.fixture
async def running(local: Make, attempt: Callable[..., AttemptEnv]) -> AsyncIterator[tuple[LocalProvider, str]]:
    """A job of one process that prints and listens."""
    p, order = local(), small_order(attempt(fresh_job(), command=("python", "-c", PYTHON)))
    await p.launch([order])
    await state(p, order.key, SightingState.RUNNING)
    for _ in range(200):
        if await p.ranks(order.key):
            break
        await asyncio.sleep(0.1)
    yield p, order.key


async def ran(p: LocalProvider, key: str, *argv: str, stdin: bytes = b"") -> tuple[int, str, str]:
    session = await p.run_in(key, 0, Command(argv=argv))
    await session.write(stdin)
    await session.eof()
    return await heard(session)


async def heard(session: LocalSession) -> tuple[int, str, str]:
    said = {1: b"", 2: b""}
    async with asyncio.timeout(20):
        while (one := await session.read()) is not None:
            said[one[0]] += one[1]
    return session.code, said[1].decode(), said[2].decode()


async def test_this_machine_gives_a_way_in(local: Make) -> None:
    assert isinstance(local(), Access)


async def test_a_command_runs_in_the_ranks_environment_and_folder(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    code, out, err = await ran(p, key, "sh", "-c", "echo $ORCHESTRATOR_ATTEMPT_KEY; pwd; echo oops >&2; exit 3")
    assert (code, err) == (3, "oops\n") and out.split()[0] == key and out.split()[1].endswith("/code")
    _, out, _ = await ran(p, key, "env")
    assert "ORCHESTRATOR_JOB_ID=" in out and "\nORCHESTRATOR_ATTEMPT_NONCE=" not in out


async def test_input_is_streamed_and_ends(running: tuple[LocalProvider, str]) -> None:
    data = os.urandom(300_000).hex().encode()
    code, out, _ = await ran(*running, "sh", "-c", "wc -c", stdin=data)
    assert (code, out.strip()) == (0, "600000")


@pytest.mark.parametrize(("argv", "code", "says"), [
    (("no-such-command",), 127, "No such file"), (("/etc",), 126, "Permission denied"),
    (("sh", "-c", "kill -9 $$"), 137, ""),
])  # fmt: skip
async def test_exit_codes_are_those_of_a_shell(
    running: tuple[LocalProvider, str], argv: tuple[str, ...], code: int, says: str
) -> None:
    found, _, err = await ran(*running, *argv)
    assert found == code and says in err


async def test_whoever_goes_leaves_nothing_behind(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    before = set(os.listdir("/proc"))
    stubborn = "trap '' TERM HUP; setsid sleep 611 & sleep 612 & echo up; wait; sleep 613"
    session = await p.run_in(key, 0, Command(argv=("sh", "-c", stubborn)))
    assert await session.read() == (1, b"up\n")
    await session.aclose()
    left = [pid for pid in set(os.listdir("/proc")) - before if pid.isdigit() and b"sleep\x0061" in cmdline(pid)]
    assert left == []


def cmdline(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_a_command_with_a_terminal_sees_one_of_its_size(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    session = await p.run_in(key, 0, Command(argv=("sh",), terminal=(31, 97), term="dumb"))
    await session.write(b"stty size; tty; echo $TERM; exit 5\n")
    code, out, _ = await heard(session)
    assert code == 5 and "31 97" in out and "/dev/pts/" in out and "dumb" in out


async def test_the_stacks_of_a_rank_are_seen_or_it_says_why_not(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    [told] = await p.stacks(key, 0)
    assert told.rank == 0 and ("<module>" in told.stacks or "remedy" in told.why)


async def test_what_a_rank_printed_is_read_where_it_runs(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    async with asyncio.timeout(10):
        assert await anext(p.output(key, 0, True)) == b"here\n"


async def test_only_ports_of_the_job_are_reached(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    other = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    with pytest.raises(NotThere, match="its ports are") as refused:
        await p.connect(key, 0, other.sockets[0].getsockname()[1])
    other.close()
    channel = await p.connect(key, 0, 8265)
    await channel.write(b"GET /api/version HTTP/1.0\r\n\r\n")
    assert b"401" in await channel.read()
    await channel.aclose()
    assert any(word.isdigit() for word in str(refused.value).split())


async def test_a_rank_that_is_not_there_is_named_with_those_that_are(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    with pytest.raises(NotThere, match="no rank 7; the ranks are: 0"):
        await p.run_in(key, 7, Command(argv=("true",)))
    with pytest.raises(NotThere, match="no user code runs there"):
        await p.stacks(key.replace("-e1", "-e2"), 0)


async def test_a_command_ends_with_the_job(running: tuple[LocalProvider, str]) -> None:
    p, key = running
    session = await p.run_in(key, 0, Command(argv=("sh", "-c", "echo up; exec sleep 614")))
    assert await session.read() == (1, b"up\n")
    await p.stop([key])
    await state(p, key, SightingState.GONE)
    code, _, _ = await heard(session)
    assert code in (137, 143)
    await until(lambda: session._process.returncode is not None)
