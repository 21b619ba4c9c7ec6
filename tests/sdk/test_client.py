"""The client against a real server: submit, wait, logs, events, explain; lost connections; refusals."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from orchestrator import AsyncClient, Client, TrainingJob, command_job
from orchestrator.model.documents import DocumentError
from orchestrator.model.documents.scale import HowMany
from orchestrator.sdk.errors import (
    Busy,
    Conflict,
    Invalid,
    JobFailed,
    NoServer,
    NotFound,
    Timeout,
    Unauthenticated,
    Unreachable,
)
from orchestrator.testing.access import FakeAccess
from tests.served import TOKEN, Served


def least(**spec: object) -> TrainingJob:
    return command_job(["python", "train.py"], folder=None, **spec)


def test_a_job_is_submitted_awaited_and_explained(client: Client, server: Served) -> None:
    job = client.submit(least())
    server.tell(lambda desk: desk.play(job.id))
    assert job.wait(timeout=5).state == "succeeded"
    assert list(job.logs()) == ["step 1 loss 0.5"]
    assert job.explain().why == "done"
    assert [offer.provider for offer in job.offers()] == ["azure", "oracle"]


async def test_the_async_client_does_the_same(server: Served) -> None:
    async with AsyncClient() as client:
        job = await client.submit(least())
        server.tell(lambda desk: desk.play(job.id))
        assert (await job.wait(timeout=5)).state == "succeeded"
        assert [line async for line in job.logs(follow=True)] == ["step 1 loss 0.5"]
        assert (await anext(job.events())).kind == "Submitted"
        assert [found.id async for found in client.jobs()] == [job.id]
        assert (await job.explain()).job.id == job.id


def test_a_job_is_scaled(client: Client, server: Served) -> None:
    job = client.submit(least())
    assert (job.scale({"min": 4, "max": 8}).workers, job.view.min_workers) == (8, 4)
    assert [(job.scale(size).workers, job.view.min_workers) for size in ("2:3", (4, 6), "7", 9)] == [
        (3, 2), (6, 4), (7, None), (9, None),
    ]  # fmt: skip
    server.tell(lambda desk: desk.play(job.id))
    with pytest.raises(Conflict, match="succeeded"):
        job.scale(2)


@pytest.mark.parametrize("size", [0, -1, True, "many", "2:1", (2, 1), (0, 2), {"min": 2}, 100_001])
def test_what_is_no_size_is_refused_like_anything_else_that_is_wrong(client: Client, size: HowMany) -> None:
    with pytest.raises(Invalid, match=r"is no number of workers; give a number from 1 to 100000, or a range"):
        client.submit(least()).scale(size)


def test_what_is_nothing_like_a_size_is_a_slip_of_the_program(client: Client) -> None:
    with pytest.raises(TypeError, match="not float"):
        client.submit(least()).scale(2.5)  # type: ignore[arg-type]


async def test_the_async_client_scales_too(server: Served) -> None:
    async with AsyncClient() as client:
        job = await client.submit(least())
        assert (await job.scale(2)).workers == 2


def test_logs_are_followed_to_the_end_of_the_job(client: Client, server: Served) -> None:
    job = client.submit(least())
    lines = job.logs(follow=True)
    server.tell(lambda desk: desk.say(job.id, "ü 1\nhal".encode()))
    assert next(lines) == "ü 1"
    server.tell(lambda desk: desk.say(job.id, b"f\n\xff"))
    server.tell(lambda desk: desk.play(job.id))
    assert list(lines) == ["half", "\ufffdstep 1 loss 0.5"]


def test_a_stream_goes_on_where_it_broke(server: Served) -> None:
    broken: list[str] = []

    class Cut(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            reply = super().handle_request(request)
            if request.url.path.endswith("/logs") and len(broken) < 2:
                broken.append(str(request.url))
                raise httpx.ReadError("cut", request=request)
            return reply

    with Client(transport=Cut()) as client:
        job = client.submit(least())
        server.tell(lambda desk: desk.play(job.id))
        assert list(job.logs(follow=True)) == ["step 1 loss 0.5"] and len(broken) == 2


class Quiet(FakeAccess):
    """A rank that prints less often than an event stream is pinged."""

    async def output(self, key: str, rank: int, follow: bool) -> AsyncIterator[bytes]:
        await asyncio.sleep(1.5)
        yield b"at last\n"


@pytest.fixture
def quiet(client: Client, server: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in ("client", "aio"):
        monkeypatch.setattr(f"orchestrator.sdk.{module}.SILENCE_S", 1.0)
    job = client.submit(least()).id
    server.tell(lambda desk: desk.play_on(job))
    server.tell(lambda desk: setattr(desk, "inside", Quiet()))
    return job


def test_a_rank_that_is_followed_may_be_silent_for_long(client: Client, quiet: str) -> None:
    assert list(client.job(quiet).output_of(0, follow=True)) == [b"at last\n"]


async def test_so_it_may_for_the_async_client(quiet: str) -> None:
    async with AsyncClient() as client:
        job = await client.job(quiet)
        assert [chunk async for chunk in job.output_of(0, follow=True)] == [b"at last\n"]


def test_meanwhile_tcp_asks_whether_the_server_is_still_there(quiet: str) -> None:
    class Looks(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.last = super().handle_request(request)
            return self.last

    with Client(transport=(way := Looks())) as client:
        output = client.job(quiet).output_of(0, follow=True)
        assert next(output)
        line = way.last.extensions["network_stream"].get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_events_are_followed_to_the_end(client: Client, server: Served) -> None:
    job = client.submit(least())
    timer = threading.Timer(0.3, server.tell, [lambda desk: desk.play(job.id)])
    timer.start()
    kinds = [event.kind for event in job.events(follow=True)]
    assert (kinds[0], kinds[-1]) == ("Submitted", "Ended")
    timer.join()


def test_a_ping_between_events_is_no_event(server: Served) -> None:
    event = '{"seq":1,"at":"2026-01-01T00:00:00Z","kind":"Submitted","project":"default","job":"J"}'
    stream = f"id: 1\nevent: Submitted\ndata: {event}\n\n: ping\n\n: ping\n\n"
    reply = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, text=stream)
    with Client(transport=httpx.MockTransport(lambda request: reply)) as client:
        assert [event.seq for event in client.events()] == [1]


def test_a_folder_is_packed_and_uploaded_once(client: Client, server: Served, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print(1)")
    jobs = [client.submit(command_job(["python", "train.py"], folder=tmp_path / "code")) for _ in range(2)]
    documents = [job.refresh().document for job in jobs]
    assert documents[0] == documents[1] and documents[0]["spec"]["run"]["package"]["digest"].startswith("sha256:")
    assert len(server.store.objects) == 1


def test_a_store_that_is_away_is_named_when_code_is_uploaded(server: Served, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print(1)")
    server.store.faults.down = True
    with Client(patience_s=0.2) as client, pytest.raises(Busy, match="the store is down"):
        client.upload(tmp_path / "code")


def test_a_lost_reply_makes_no_second_job(server: Served) -> None:
    class Loses(httpx.HTTPTransport):
        lost = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            reply = super().handle_request(request)
            if request.method == "POST" and not self.lost:
                self.lost = 1
                reply.read()
                raise httpx.ReadError("the reply was lost", request=request)
            return reply

    with Client(transport=Loses()) as client:
        client.submit(least())
        assert len(list(client.jobs())) == 1


def test_back_pressure_is_waited_out_until_patience_ends(server: Served) -> None:
    server.desk.busy = 1
    with Client() as client:
        client.submit(least())
    server.desk.busy = 99
    with Client(patience_s=0.5) as client, pytest.raises(Busy, match="nothing was kept"):
        client.submit(least())


def test_the_same_key_is_the_same_job_or_a_conflict(client: Client) -> None:
    first = client.submit(least(), key="k")
    assert client.submit(least(), key="k").id == first.id
    with pytest.raises(Conflict):
        client.submit(least(priority=1), key="k")


def test_refusals_are_typed_and_say_everything(client: Client) -> None:
    with pytest.raises(Invalid) as caught:
        client.submit(least(retries=1, data=[{"name": "d", "at": "/d"}]))
    assert [error.field for error in caught.value.problem.errors] == ["spec.data", "spec.retries"]
    with pytest.raises(NotFound):
        client.job("01K9Z3M5W2T8Q4N6R7VXYBCD0E")


def test_waiting_gives_up_or_tells_how_it_failed(client: Client, server: Served) -> None:
    job = client.submit(least())
    with pytest.raises(Timeout, match="it goes on"):
        job.wait(timeout=0.2)
    server.tell(lambda desk: desk.play(job.id, exit_code=3))
    with pytest.raises(JobFailed, match="exit 3"):
        job.wait(check=True)


def test_of_one_that_was_split_all_parts_are_waited_for_or_the_one_alone(client: Client, server: Served) -> None:
    job, rest = client.submit(least()), client.submit(least())
    server.tell(lambda desk: desk.play(job.id))
    server.tell(lambda desk: desk._rows.update({job.id: replace(desk._rows[job.id], rest=rest.id)}))
    assert job.wait(timeout=0.2, parts=False).state == "succeeded"
    with pytest.raises(Timeout, match=rest.id):
        job.wait(timeout=0.2)
    server.tell(lambda desk: desk.play(rest.id, exit_code=3))
    assert job.wait(timeout=5).id == job.id
    with pytest.raises(JobFailed, match=f"{rest.id}.*exit 3"):
        job.wait(check=True)


def test_cancel_and_listing(client: Client) -> None:
    first, second = client.submit(least()), client.submit(least())
    assert first.cancel().state == "cancelled"
    assert [job.id for job in client.jobs(states=["queued"])] == [second.id]
    assert [job.id for job in client.jobs(limit=1)] == [second.id]
    assert [provider.name for provider in client.providers()] == ["azure", "oracle"]


def test_an_absent_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(NoServer, match="orchestrator serve"):
        Client()
    with Client("http://127.0.0.1:9", TOKEN, patience_s=0.2) as client, pytest.raises(Unreachable, match="doctor"):
        list(client.jobs())


def test_a_wrong_token_is_told_apart(server: Served) -> None:
    with Client(server.url, "x" * 40) as client, pytest.raises(Unauthenticated):
        list(client.jobs())


def test_a_tokens_file_for_all_eyes_is_not_used(server: Served) -> None:
    (server.home / "tokens.json").chmod(0o644)
    with pytest.raises(NoServer, match="chmod 600"):
        Client()


def test_a_token_is_never_shown(client: Client) -> None:
    from orchestrator.sdk.address import find

    assert TOKEN not in repr(find()) + repr(vars(client)["_http"])


@pytest.mark.parametrize("job", ["", "..", "../x", "a\nb/ü", "01K9Z3M5W2T8Q4N6R7VXYBCD0E/cancel"])
def test_what_is_no_job_id_is_never_sent(client: Client, job: str) -> None:
    with pytest.raises(NotFound, match="no job id"):
        client.job(job)


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "ü", "x" * 256])
def test_a_key_that_no_header_carries_is_refused(client: Client, key: str) -> None:
    with pytest.raises(Invalid, match="idempotency key"):
        client.submit(least(), key=key)


@pytest.mark.parametrize(
    "url", ["banana", "127.0.0.1:7380", "ftp://127.0.0.1", "http://", "http://h:port", "http://a\nb"]
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(NoServer, match="no address of a server"):
        Client(url, TOKEN)


def test_a_token_that_no_header_carries_is_refused() -> None:
    with pytest.raises(NoServer, match="token"):
        Client("http://127.0.0.1:7380", "tökén")


def test_a_command_is_words_not_letters() -> None:
    with pytest.raises(DocumentError, match="Write a list"):
        command_job("python train.py")
