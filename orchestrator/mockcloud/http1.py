"""How is one HTTP/1.1 message read whole, passed on, and its reply sent back? On h11, for the forwarders.

Called by `network` alone. Bodies are held in memory; framing is h11's; connections to the far end serve one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNK = 1 << 16
HOP = frozenset({b"connection", b"keep-alive", b"expect", b"proxy-connection"})
"""Headers that concern one connection only."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request or reply, whole."""

    head: h11.Request | h11.Response
    body: bytes

    @property
    def path(self) -> str:
        """Path and query of a request; empty for a reply."""
        return self.head.target.decode() if isinstance(self.head, h11.Request) else ""

    @property
    def method(self) -> str:
        """Method of a request; empty for a reply."""
        return self.head.method.decode() if isinstance(self.head, h11.Request) else ""

    @property
    def status(self) -> int | None:
        """Status of a reply; None for a request."""
        return self.head.status_code if isinstance(self.head, h11.Response) else None


def refusal(status: int) -> Message:
    """A reply that no API wrote."""
    body = b"the network is at fault\n"
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    return Message(h11.Response(status_code=status, headers=headers), body)


async def serve_one(
    server: h11.Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Message], Awaitable[Message | None]],
) -> bool:
    """Read one request, send what `answer` says; False when the connection is over (None: at once)."""
    request = await _receive(server, reader, writer)
    if request is None:
        return False
    reply = await answer(request)
    if reply is None:
        return False
    writer.write(_bytes(server, reply))
    await writer.drain()
    if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
        return False
    server.start_next_cycle()
    return True


async def exchange(request: Message, far: Streams) -> Message:
    """The far end's reply. Raises OSError or `h11.ProtocolError` where there is none; closes the connection."""
    reader, writer = far
    try:
        client = h11.Connection(h11.CLIENT)
        writer.write(_bytes(client, request))
        await writer.drain()
        reply = await _receive(client, reader, writer)
        if reply is None:
            raise ConnectionResetError("the far end closed the connection without a reply")
        return reply
    finally:
        writer.close()


def _bytes(connection: h11.Connection, message: Message) -> bytes:
    head = message.head
    headers = [(name, value) for name, value in head.headers if name not in HOP]
    if isinstance(head, h11.Request):
        event: h11.Event = h11.Request(method=head.method, target=head.target, headers=headers)
    else:
        event = h11.Response(status_code=head.status_code, reason=head.reason, headers=headers)
    parts = [connection.send(event)]
    if message.body:
        parts.append(connection.send(h11.Data(message.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)


async def _receive(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Message | None:
    """The next message; None when the other end closed before one began."""
    head: h11.Request | h11.Response | None = None
    body: list[bytes] = []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
                writer.write(go_on or b"")
            connection.receive_data(await reader.read(CHUNK))
        elif isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return Message(head, b"".join(body))
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None
