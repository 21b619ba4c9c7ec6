"""How do data and words share one WebSocket, so that neither waits for the other? Called by the routes into jobs.

Data is sent only while fewer than WINDOW messages of it are under way: whoever reads slowly holds up data, never words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from orchestrator.model.documents.inside import CHUNK, WINDOW

Put = Callable[[bytes | None], Awaitable[None]]
"""Where data goes; None: its end."""
Said = Callable[[dict[str, Any]], Awaitable[None]]


def message(received: Any) -> bytes | dict[str, Any]:
    """Data, or words; `WebSocketDisconnect` when the other side has gone. What makes no sense is an empty word."""
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code") or 1006)
    if (data := received.get("bytes")) is not None:
        return bytes(data)
    try:
        said = json.loads(received.get("text") or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


class Line:
    """One open socket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._room = asyncio.Semaphore(WINDOW)
        self._coming: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        """Send data, as soon as there is room. Raises WebSocketDisconnect."""
        await self._room.acquire()
        await self._socket.send_bytes(data)

    async def say(self, what: dict[str, Any]) -> None:
        """Send words. Raises WebSocketDisconnect."""
        await self._socket.send_text(json.dumps(what))

    def feed(self, data: bytes | None) -> None:
        """Put data behind what has come and was not passed on yet."""
        self._coming.put_nowait(data)

    @asynccontextmanager
    async def open(self, put: Put, said: Said, gone: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """While inside: data that comes goes to `put`, one after another, words to `said`; `gone`: no more will come.

        Raises WebSocketDisconnect at the end where the other side has gone.
        """
        lost = asyncio.Event()

        async def listen() -> None:
            with suppress(WebSocketDisconnect):
                while True:
                    await self._heard(message(await self._socket.receive()), said)
            lost.set()
            for _ in range(WINDOW):
                self._room.release()  # whoever waits for room learns it when he sends
            await gone()

        work = [asyncio.create_task(listen()), asyncio.create_task(self._pass_on(put))]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        if lost.is_set():
            raise WebSocketDisconnect(1006)

    async def _heard(self, what: bytes | dict[str, Any], said: Said) -> None:
        if isinstance(what, dict):
            for _ in range(min(int(what.get("took") or 0), WINDOW)):
                self._room.release()
            await said(what)
        elif len(what) > CHUNK or self._coming.qsize() > 2 * WINDOW:
            raise WebSocketDisconnect(1009)  # it does not keep to the window
        else:
            self.feed(what)

    async def _pass_on(self, put: Put) -> None:
        while True:
            data = await self._coming.get()
            await put(data)
            if data is not None:
                with suppress(WebSocketDisconnect, RuntimeError):  # gone: `listen` sees it too
                    await self.say({"took": 1})

    async def ended(self) -> None:
        """Returns when the other side has gone; what it says meanwhile is nobody's."""
        with suppress(WebSocketDisconnect):
            while True:
                message(await self._socket.receive())
