"""Which ports of running jobs are open to whom? One forward is one access; its connections live no longer than it does.

Called by the routes into jobs. A ticket is a number, good for the bearer who opened it: it is no secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from orchestrator.api.problems import Denied
from orchestrator.api.sockets import Line
from orchestrator.ports.access import Channel
from orchestrator.ports.provider import ProviderError

Connect = Callable[[], Awaitable[Channel]]


@dataclass(frozen=True, slots=True)
class Held:
    """An open forward."""

    by: str
    job: str
    connect: Connect
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Forwards:
    """The open forwards of one server."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._numbers = count(1)

    async def hold(self, line: Line, by: str, job: str, connect: Connect) -> None:
        """Keep a forward open as long as its socket is."""
        ticket, held = next(self._numbers), Held(by, job, connect)
        self._held[ticket] = held
        try:
            await line.say({"ticket": ticket})
            await line.ended()
        finally:
            del self._held[ticket]
            held.over.set()

    async def connect(self, ticket: int, by: str, job: str) -> tuple[Channel, asyncio.Event]:
        """One connection of a forward, and what tells when the forward is over. Raises Denied, ProviderError."""
        held = self._held.get(ticket)
        if held is None or (held.by, held.job) != (by, job):
            raise Denied(404, "unknown-forward", "that forward is not open", remedy="open it with …/forward?port=")
        return await held.connect(), held.over

    async def carry(self, line: Line, channel: Channel, over: asyncio.Event) -> None:
        """Bytes both ways, until the port's side ends it, the socket does, or the forward is over."""

        async def put(data: bytes | None) -> None:
            await (channel.eof() if data is None else channel.write(data))

        async def said(what: dict[str, Any]) -> None:
            if what.get("eof"):
                line.feed(None)

        async def back() -> None:
            while data := await channel.read():
                await line.send(data)

        gone = asyncio.Event()

        async def lost() -> None:
            gone.set()

        async with line.open(put, said, lost):
            ends = [asyncio.create_task(one) for one in (back(), over.wait(), gone.wait())]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                came, *_ = await asyncio.gather(*ends, return_exceptions=True)
            if isinstance(came, ProviderError):
                raise came
