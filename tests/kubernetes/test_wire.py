"""How changes cross to the API server: what is a reply, when is there none, when is a connection used again?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from orchestrator.adapters.providers.kubernetes import wire
from orchestrator.adapters.providers.kubernetes.wire import Broken, Reply, Wire, parse

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKS = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nB;x=y\r\n0123456789\n\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "reply", "kept"),
    [
        (OK, Reply(200, None, b"{}"), True),
        (CHUNKS, Reply(201, None, b"abc0123456789\n"), True),
        (BUSY, Reply(429, "3", b""), False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Reply(204, None, b""), True),
    ],
)
def test_a_reply_is_one_once_all_of_it_is_there(data: bytes, reply: Reply, kept: bool) -> None:
    assert all(parse(data[:end]) is None for end in range(len(data)))
    assert parse(data) == (reply, kept)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
        OK + b"HTTP/1.1 200 OK",
        CHUNKS.replace(b"B;", b"Z;"),
        b"x" * (wire.HEAD_MOST + 1),
    ],
)
def test_what_is_no_reply_in_http_1_1_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(data)


class Server:
    """Says what it is told, once for each request; remembers what was asked, and on how many connections."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.connections = 0
        self.says: list[bytes | None] = []
        """None: the connection is closed instead."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.says:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.asked.append(head + await reader.readexactly(length))
            said = self.says.pop(0)
            if said is None:
                break
            writer.write(said)
        writer.close()


@asynccontextmanager
async def serving(*says: bytes | None) -> AsyncIterator[tuple[Server, Callable[..., Wire]]]:
    server = Server()
    server.says = [*says]
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    made: list[Wire] = []

    def connect(**more: float) -> Wire:
        made.append(Wire(f"http://127.0.0.1:{port}/prefix/", None, None, **more))
        return made[-1]

    yield server, connect
    for one in made:
        one.close()
    listening.close()


async def test_a_connection_is_used_again() -> None:
    async with serving(OK, CHUNKS, OK) as (server, connect):
        way = connect()
        for status in (200, 201, 200):
            assert (await way.ask("POST", "/a?b=c", {"Accept": "x"}, b"{}")).status == status
    assert server.connections == 1
    assert server.asked[0].startswith(b"POST /prefix/a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert server.asked[0].endswith(b"Content-Length: 2\r\nAccept: x\r\n\r\n{}")


async def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    async with serving(BUSY, OK) as (server, connect):
        way = connect()
        assert [(await way.ask("PUT", "/", {}, b"")).status for _ in range(2)] == [429, 200]
    assert server.connections == 2


async def test_a_request_whose_reply_was_lost_is_not_sent_again() -> None:
    async with serving(None, OK) as (server, connect):
        with pytest.raises(Broken):
            await connect().ask("POST", "/", {}, b"{}")
    assert len(server.asked) == 1


async def test_whoever_stops_waiting_leaves_no_reply_behind_for_the_next() -> None:
    async with serving(b"", OK) as (server, connect):
        way = connect()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await way.ask("POST", "/first", {}, b"")
        assert (await way.ask("POST", "/second", {}, b"")).status == 200
    assert server.connections == 2


async def test_what_was_idle_for_long_is_not_used_again() -> None:
    async with serving(OK, OK) as (server, connect):
        way = connect(kept_s=-1.0)
        assert [(await way.ask("PUT", "/", {}, b"")).status for _ in range(2)] == [200, 200]
    assert server.connections == 2


async def test_nobody_there_is_an_error_of_the_system() -> None:
    async with serving() as (_, connect):
        way = connect()
    with pytest.raises(OSError, match=r"."):
        await way.ask("POST", "/", {}, b"{}")
