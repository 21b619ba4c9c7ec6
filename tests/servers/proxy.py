"""A way to the database that can be cut: bytes are taken in and go nowhere, as behind a firewall that drops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Proxy:
    """TCP at an address of this machine to the database's socket, or to a port of loopback."""

    def __init__(self, target: Path | int, host: str) -> None:
        self.target, self.host, self.port = target, host, 0
        self._flows = True
        self._word, self._passes, self._cuts = b"", False, False
        self.lost = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        self._flows = False

    def mend(self) -> None:
        """What was cut stays cut: the connections of before are dead, later ones work."""
        self._flows = True

    def lose(self, word: bytes) -> None:
        """The next message of a client that holds this word is lost, and its connection with it."""
        self._word, self._passes, self._cuts = word, False, False

    def cut_at(self, word: bytes) -> None:
        """As `lose`, and from then on everything is cut, until it is mended."""
        self._word, self._passes, self._cuts = word, False, True

    def lose_answer_to(self, word: bytes) -> None:
        """It arrives, and whatever is answered to it is lost with the connection."""
        self._word, self._passes, self._cuts = word, True, False

    async def serve(self, up: threading.Event, over: asyncio.Event) -> None:
        server = await asyncio.start_server(self._join, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        up.set()
        await over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        away_reader, away_writer = await self._open()
        for work in (self._pump(reader, away_writer, writer), self._pump(away_reader, writer)):
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, int):
            return await asyncio.open_connection("127.0.0.1", self.target)
        return await asyncio.open_unix_connection(str(self.target))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter | None = None
    ) -> None:
        dead = False
        with suppress(OSError):
            while data := await reader.read(65536):
                if client is not None and self._word and self._word in data:
                    self._word, self.lost = b"", self.lost + 1
                    self._flows, self._cuts = not self._cuts, False
                    client.transport.abort()
                    if self._passes:
                        writer.write(data)
                        await writer.drain()
                    break
                dead = dead or not self._flows
                if not dead:
                    writer.write(data)
                    await writer.drain()
        if not dead:
            writer.close()


@contextmanager
def proxied(target: Path | int, host: str = "127.0.0.1") -> Iterator[Proxy]:
    proxy, up = Proxy(target, host), threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(proxy.serve(up, over)), daemon=True)
    thread.start()
    up.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
