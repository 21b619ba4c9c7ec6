"""Requests and replies as framed JSON over loopback: as little between two processes as can be.

Used by `remote` and `latency`, so that what is measured is the server and not a client library in its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec

LENGTH = 4
"""Bytes, big-endian, before each body."""


async def read(reader: asyncio.StreamReader) -> bytes:
    """One body; raises `asyncio.IncompleteReadError` at the end of the connection."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(LENGTH), "big"))


def write(writer: asyncio.StreamWriter, body: bytes) -> None:
    """One body."""
    writer.write(len(body).to_bytes(LENGTH, "big") + body)


class Line:
    """One connection: a request, then its reply. A call that is given up closes it, and the next one opens another."""

    def __init__(self, address: str) -> None:
        """`address` as `tcp://host:port`; nothing is opened yet."""
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def ask(self, body: bytes) -> bytes:
        """The reply; raises `OSError` or `asyncio.IncompleteReadError` where there is none."""
        async with self._turn:
            reader, writer = self._open or await asyncio.open_connection(self._host, self._port)
            self._open = None
            with ExitStack() as otherwise:  # a frame that was cut off leaves a stream that nobody can go on with
                otherwise.callback(writer.close)
                write(writer, body)
                reply = await read(reader)
                otherwise.pop_all()
            self._open = reader, writer
            return reply

    def close(self) -> None:
        """Let go of it."""
        if self._open is not None:
            self._open[1].close()


async def answer(handle: Callable[[bytes], Awaitable[Any]], up: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve on a free loopback port until `stop`; `up` gets the address, `handle` a body, its result is the reply."""
    encoder = msgspec.json.Encoder()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            while True:
                write(writer, encoder.encode(await handle(await read(reader))))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    up(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await stop.wait()
    server.close()
