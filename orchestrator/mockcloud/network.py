"""How do requests get through this cloud's networks: in to its API, and out from its jobs to the store?

Called by the server, once per network. A forwarder reads each HTTP/1.1 request whole, lets the faults of the moment
have it (refuse, hang, fail, lose, delay, hold), passes it on as it is, and keeps a log: `at`, `boottime`, `method`,
`path`, `status` (null: no reply), `deed`, `cluster` (whose process sent it). What it carries it looks into only to
match a mishap.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import h11

from orchestrator.mockcloud.config import Deed, Mishap, Network
from orchestrator.mockcloud.http1 import Message, Streams, exchange, refusal, serve_one
from orchestrator.mockcloud.journal import boottime_us
from orchestrator.mockcloud.processes import cluster_of, owner_of

Line = dict[str, Any]
CHANGES = frozenset({"PUT", "POST", "DELETE", "PATCH"})


class Forwarder:
    """One network. `dial` opens a connection to its far end."""

    def __init__(self, dial: Callable[[], Awaitable[Streams]], *, port: int = 0, log: Path | None = None) -> None:
        self.port = port
        """On loopback; 0 until the first `listen`."""
        self.latency = 0
        """Milliseconds added to every request."""
        self.mishaps: list[Mishap] = []
        self.on_cut: Callable[[str], None] = lambda _: None
        """Called when a mishap asks for `cut` or `outage`."""
        self.state = Network.UP
        self.lines: list[Line] = []
        self._dial = dial
        self._log = None if log is None else log.open("a", encoding="utf-8")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._held: list[tuple[Message, Line]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Take connections; the port stays the same from the first time on."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def become(self, state: Network) -> None:
        """From here on the network fares so; joined again it delivers what it held."""
        before, self.state = self.state, state
        self._changed.set()
        self._changed = asyncio.Event()
        if state in (Network.REFUSE, Network.HANG):
            self._reset()
        if state is Network.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
        if state is not Network.REFUSE:
            await self.listen()
        if state is Network.UP and before is not Network.UP:
            self.deliver()

    def deliver(self) -> None:
        """Send on everything that was held."""
        held, self._held = self._held, []
        for message, line in held:
            self._spawn(self._late(message, line, 0))

    @property
    def held(self) -> int:
        """Requests kept back now."""
        return len(self._held)

    async def aclose(self) -> None:
        """The end: nothing held is delivered any more."""
        await self.become(Network.REFUSE)
        for task in self._tasks:
            task.cancel()
        if self._log is not None:
            self._log.close()

    # ---- one connection --------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        peer = writer.get_extra_info("peername")
        sender = await asyncio.to_thread(_sender, peer[1]) if peer and self._log is not None else ""
        server = h11.Connection(h11.SERVER)
        try:
            while await serve_one(server, reader, writer, lambda message: self._take(message, sender)):
                pass
        except (OSError, h11.ProtocolError):
            pass  # either end is gone; the log says how far a request came
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _take(self, message: Message, sender: str) -> Message | None:
        """The reply; None: the connection is to be reset."""
        mishap = self._mishap(message) if self.state is Network.UP else None
        line = self._line(message, sender, mishap)
        reply = await self._pass(message, line, mishap)
        if mishap is None or mishap.do is not Deed.HOLD:
            self._write(line)
        return reply

    async def _pass(self, message: Message, line: Line, mishap: Mishap | None) -> Message | None:
        if self.state is Network.HANG:
            await self._changed.wait()
            return None
        if self.state is Network.ERROR:
            return refusal(503)
        if self.latency:
            await asyncio.sleep(self.latency / 1000)
        if mishap is None:
            return await self._far(message, line)
        match mishap.do:
            case Deed.FAIL:
                return refusal(mishap.status)
            case Deed.DELAY:
                await asyncio.sleep((mishap.after or 0) / 1000)
                return await self._far(message, line)
            case Deed.LOSE_REPLY:
                await self._far(message, line)
            case Deed.HOLD:
                self._hold(message, line, mishap)
        return None

    async def _far(self, message: Message, line: Line) -> Message | None:
        try:
            reply = await exchange(message, await self._dial())
        except (OSError, h11.ProtocolError):
            return None
        line["status"] = reply.status
        return reply

    def _hold(self, message: Message, line: Line, mishap: Mishap) -> None:
        self._write(line)
        if mishap.after is not None:
            self._spawn(self._late(message, line, mishap.after))
        else:
            self._held.append((message, line))
        if mishap.then:
            self._reset()
            self.on_cut(mishap.then)

    async def _late(self, message: Message, line: Line, after: int) -> None:
        await asyncio.sleep(after / 1000)
        line = {**line, "at": time.time_ns() // 1000, "boottime": boottime_us(), "deed": "delivered"}
        await self._far(message, line)
        self._write(line)

    def _mishap(self, message: Message) -> Mishap | None:
        for n, one in enumerate(self.mishaps):
            if one.method in ("", message.method) and re.search(one.path, message.path) and _in_body(one, message):
                rest = one.times - 1
                self.mishaps[n : n + 1] = [one.model_copy(update={"times": rest})] if rest else []
                return one
        return None

    def _line(self, message: Message, sender: str, mishap: Mishap | None) -> Line:
        deed = mishap.do.value if mishap else "" if self.state is Network.UP else self.state.value
        return {
            "at": time.time_ns() // 1000,
            "boottime": boottime_us(),
            "method": message.method,
            "path": message.path,
            "status": None,
            "deed": deed,
            "cluster": sender,
        }

    def _write(self, line: Line) -> None:
        if self._log is not None:
            self.lines.append(line)
            self._log.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._log.flush()

    def _reset(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _in_body(mishap: Mishap, message: Message) -> bool:
    return not mishap.body or re.search(mishap.body.encode(), message.body) is not None


def _sender(port: int) -> str:
    pid = owner_of(port)
    return cluster_of(pid) if pid else ""
