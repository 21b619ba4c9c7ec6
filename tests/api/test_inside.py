"""Ways into running jobs over HTTP: who may, what is written down, what is refused, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from orchestrator.api.inside import name_of
from orchestrator.model import event as kinds
from orchestrator.model.documents.inside import CHUNK, WINDOW
from orchestrator.sdk import AsyncClient, AsyncJob, command_job
from orchestrator.sdk.errors import Conflict, Forbidden, Invalid, NoShell, NotFound, Refused
from orchestrator.sdk.inside import STDERR, STDOUT, Session
from tests.api.conftest import token_of
from tests.served import TOKEN, Served, served


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


@pytest.fixture
async def job(server: Served) -> AsyncIterator[AsyncJob]:
    """It runs at oracle."""
    async with AsyncClient(server.url, TOKEN) as client:
        made = await client.submit(command_job(["python", "train.py"], folder=None))
        server.tell(lambda desk: desk.play_on(made.id))
        yield made


async def heard(session: Session) -> tuple[int | None, bytes, bytes]:
    said = {STDOUT: b"", STDERR: b""}
    async with asyncio.timeout(10):
        async for stream, data in session:
            said[stream] += data
    return session.code, said[STDOUT], said[STDERR]


def accesses(server: Served, job: AsyncJob) -> list[kinds.Accessed]:
    told = server.tell(lambda desk: [kinds.decode(e.body) for e in desk._happened if e.job == job.id])
    return [event for event in told if isinstance(event, kinds.Accessed)]


@pytest.mark.parametrize(("argv", "code", "out", "err"), [
    (["echo", "a", "b"], 0, b"a b\n", b""), (["oops"], 1, b"", b"oops\n"), (["exit", "42"], 42, b"", b""),
    (["/bin/nowhere"], 127, b"", b"/bin/nowhere: No such file or directory\n"),
])  # fmt: skip
async def test_a_command_is_heard_to_its_end(job: AsyncJob, argv: list[str], code: int, out: bytes, err: bytes) -> None:
    async with job.run_in(argv) as session:
        assert await heard(session) == (code, out, err)


async def test_input_of_any_size_comes_back(job: AsyncJob) -> None:
    data = bytes(range(256)) * 8192  # 2 MiB: many windows
    async with job.run_in(["cat"], rank=1) as session:
        hearing = asyncio.create_task(heard(session))
        await session.send(data)
        await session.eof()
        assert await hearing == (0, data, b"")


async def test_the_ledger_knows_who_what_and_where_and_no_argument(server: Served, job: AsyncJob) -> None:
    async with job.run_in(["/usr/bin/echo", "--password=hunter2"]) as session:
        await heard(session)
    await job.stacks()
    assert [chunk async for chunk in job.output_of(1)] == [f"rank 1 of {job.id.lower()}-e1\n".encode()]
    async with job.forward(7):
        pass
    told = accesses(server, job)
    assert [(e.what, e.by, e.rank, e.name) for e in told] == [
        ("exec", "owner", 0, "echo"), ("dump", "owner", None, ""), ("logs", "owner", 1, ""),
        ("forward", "owner", 0, "7"),
    ]  # fmt: skip
    assert "hunter2" not in str(told)
    assert "owner asked to open port 7 at rank 0 of oracle" in [line.plain for line in (await job.explain()).lines]


@pytest.mark.parametrize(("argv", "name"), [
    (["/opt/x/python3.11"], "python3.11"), (["TOKEN=abc cmd"], "a command"), (["a" * 99], "a" * 64),
    (["/"], "a command"),
])  # fmt: skip
def test_a_command_has_a_name_and_nothing_else(argv: list[str], name: str) -> None:
    assert name_of(argv) == name


async def test_a_terminal_has_its_size_and_a_new_one(job: AsyncJob) -> None:
    async with job.run_in(["tty"], terminal=(24, 80)) as session:
        await session.resize(30, 100)
        assert await heard(session) == (0, b"(24, 80)(30, 100)", b"")


async def test_whoever_goes_ends_what_he_started(server: Served, job: AsyncJob) -> None:
    async with job.run_in(["sleep"]) as session:
        await session.send(b"x" * CHUNK * 3)  # which it does not read: words get through all the same
        assert await session.end() == 143
    async with job.run_in(["sleep"]):
        pass
    for _ in range(100):
        if all(s.closed for s in server.desk.inside.sessions) and len(server.desk.inside.sessions) == 2:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a session outlived who asked for it")


async def test_a_client_that_does_not_keep_to_the_window_is_cut_off(server: Served, job: AsyncJob) -> None:
    async with raw(server, job, "/exec") as socket:
        await socket.send('{"command": ["sleep"]}')
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(10):
                while True:
                    await socket.send(b"x")


def raw(server: Served, job: AsyncJob, rest: str, **headers: str) -> Any:
    here = urlsplit(server.url)
    host = headers.pop("Host", here.netloc)  # one Host header: a second one is refused before anybody reads it
    url = f"ws://{host}/v1/jobs/{job.id}{rest}"
    more = {"Authorization": f"Bearer {TOKEN}", **headers}
    return connect(url, additional_headers=more, host=here.hostname, port=here.port)


async def test_stacks_come_rank_by_rank_and_say_where_not(job: AsyncJob) -> None:
    first, second = await job.stacks()
    assert (first.rank, first.where, "MainThread" in first.stacks) == (0, "pod a", True)
    assert (second.rank, second.stacks, second.why) == (1, "", "it may not be looked into; remedy: ask")
    assert [view.rank for view in await job.stacks(1)] == [1]


async def test_a_port_is_carried_both_ways_and_ends_with_its_forward(server: Served, job: AsyncJob) -> None:
    async with job.forward(7) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        data = b"y" * CHUNK * (WINDOW + 5)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port.port)
    with pytest.raises(InvalidStatus, match="404"):
        await raw(server, job, "/forward/1")


async def refused(call: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        async with call as session:
            await heard(session)
    return caught.value


async def test_what_cannot_be_is_refused_with_a_reason(server: Served, job: AsyncJob) -> None:
    nobody = await refused(job.run_in(["true"], rank=7))
    assert isinstance(nobody, NotFound) and "no rank 7; the ranks are: 0, 1" in str(nobody)
    assert isinstance(await refused(job.run_in([""])), Invalid)
    assert isinstance(await refused(job.run_in(["x" * 200_000])), Invalid)
    with pytest.raises(NotFound, match="nothing of this job listens on port 99; its ports are: 7"):
        async with job.forward(99):
            pass
    with pytest.raises(NotFound, match="no rank 9"):
        [chunk async for chunk in job.output_of(9)]


async def test_what_was_refused_is_not_told_as_having_happened(job: AsyncJob) -> None:
    await refused(job.run_in(["true"], rank=7))
    with pytest.raises(NotFound):
        [chunk async for chunk in job.output_of(9)]
    told = [line.plain for line in (await job.explain()).lines if "owner" in line.plain]
    assert told == ["owner asked to run true at rank 7 of oracle", "owner asked to read the output at rank 9 of oracle"]


async def test_a_cloud_without_a_shell_says_so(server: Served, job: AsyncJob) -> None:
    server.tell(lambda desk: setattr(desk, "inside", None))
    assert isinstance(await refused(job.run_in(["bash"])), NoShell)
    with pytest.raises(NoShell, match="the cloud gives no shell"):
        await job.stacks()
    assert accesses(server, job) == []


async def test_a_job_that_does_not_run_cannot_be_entered(server: Served, job: AsyncJob) -> None:
    await job.cancel()
    why = await refused(job.run_in(["bash"]))
    assert isinstance(why, Conflict) and "none of its attempts runs now" in str(why)


@pytest.mark.parametrize("rest", ["/exec", "/forward?port=7", "/forward/1"])
@pytest.mark.parametrize(("headers", "status"), [
    ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": ""}, 401), ({"Host": "evil.example"}, 421),
])  # fmt: skip
async def test_no_socket_opens_without_a_token_or_under_a_foreign_host(
    server: Served, job: AsyncJob, rest: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with raw(server, job, rest, **headers):
            pass
    problem = json.loads(caught.value.response.body or b"{}")
    assert (caught.value.response.status_code, problem["status"]) == (status, status)


@pytest.mark.parametrize(("scope", "may"), [
    ("submitter", True), ("operator", True), ("viewer", False), ("attester", False), ("provider", False),
])  # fmt: skip
async def test_a_submitter_or_an_operator_may(server: Served, job: AsyncJob, scope: str, may: bool) -> None:
    rows = [{"name": n, "token": t, "scopes": s} for n, t, s in (
        ("owner", TOKEN, ["submitter", "viewer"]), (scope, token_of(scope), [scope]))]  # fmt: skip
    (server.home / "tokens.json").write_text(json.dumps({"tokens": rows}))
    async with AsyncClient(server.url, token_of(scope)) as client:
        other = AsyncJob(client, job.view)
        if may:
            async with other.run_in(["exit", "3"]) as session:
                assert (await heard(session))[0] == 3
        else:
            assert isinstance(await refused(other.run_in(["exit", "3"])), Forbidden)


async def test_a_forward_is_good_for_its_own_bearer(server: Served, job: AsyncJob) -> None:
    rows = [{"name": n, "token": t, "scopes": ["submitter"]} for n, t in (("owner", TOKEN), ("other", token_of("o")))]
    (server.home / "tokens.json").write_text(json.dumps({"tokens": rows}))
    async with job.forward(7):
        with pytest.raises(InvalidStatus, match="404"):
            async with raw(server, job, "/forward/1", Authorization=f"Bearer {token_of('o')}"):
                pass


async def test_a_job_that_there_is_not_is_unknown(server: Served, job: AsyncJob) -> None:
    for name in ("01K9Z3M5W2T8Q4N6R7VXYBCD0E", "nonsense"):
        url = f"ws{server.url.removeprefix('http')}/v1/jobs/{name}/exec"
        with pytest.raises(InvalidStatus, match="404"):
            await connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"})
