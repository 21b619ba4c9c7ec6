"""How does one change cross a kept connection to the API server, as cheaply as Python can?

Called by the client for every change, where no proxy stands between; readings, watches and WebSockets are the general
library's, which takes twice the CPU for each. HTTP/1.1, one request at a time on each connection, replies of a known
length or in chunks. It judges no status and sends nothing twice; whatever fails on the way is an `OSError`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CONNECT_S = 3.0
KEPT_S = 15.0
"""How long an idle connection is used again; API servers keep them for minutes, what stands before them may not."""
HEAD_MOST = 1 << 16
"""Bytes of a reply's head; more is no API server."""
END = b"\r\n\r\n"


class Reply(NamedTuple):
    """All of a reply."""

    status: int
    retry_after: str | None
    body: bytes


class Broken(OSError):
    """The connection ended, or what came is no HTTP/1.1, before the reply was whole."""


class Wire:
    """The connections to one API server with one set of credentials."""

    def __init__(self, host: str, context: ssl.SSLContext | None, name: str | None, *, kept_s: float = KEPT_S) -> None:
        """`host` as `https://host:port`, perhaps with a path; `name`: whose certificate it shows; None: the host's."""
        parts = urlsplit(host)
        secure = parts.scheme == "https"
        self._address = parts.hostname or "", parts.port or (443 if secure else 80)
        self._tls: dict[str, Any] = {"ssl": context, "server_hostname": name or self._address[0]} if secure else {}
        self._kept_s = kept_s
        self._path, self._host = parts.path.rstrip("/"), parts.netloc
        self._idle: list[tuple[float, _Line]] = []

    async def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The reply. Raises `OSError` where there is none; the server may have done it all the same."""
        head = [f"{method} {self._path}{target} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        line = self._kept() or await self._open()
        try:
            reply = await line.ask("\r\n".join(head).encode() + END + body)
        except BaseException:  # cancelled too: its reply is still to come
            line.close()
            raise
        self._idle.append((asyncio.get_running_loop().time(), line))
        return reply

    def close(self) -> None:
        """Let go of what is idle."""
        while self._idle:
            self._idle.pop()[1].close()

    def _kept(self) -> _Line | None:
        """The connection that was used last, if it is open still; what was idle for longer goes with it."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            since, line = self._idle.pop()
            if line.open and now - since < self._kept_s:
                return line
            line.close()
        return None

    async def _open(self) -> _Line:
        async with asyncio.timeout(CONNECT_S):
            _, line = await asyncio.get_running_loop().create_connection(_Line, *self._address, **self._tls)
        return line


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.open = False
        """Another request may be sent."""
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport), "a stream was asked for"
        self._transport, self.open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.open = False
        self._settle(Broken(str(exc or "the connection was closed")))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._data += data
        try:
            read = parse(self._data)
        except ValueError as error:
            self.close()
            self._settle(Broken(f"no reply in HTTP/1.1: {error}"))
            return
        if read is not None:
            self.open = read.kept and self.open and self._reply is not None
            self._data = b""
            self._settle(read.reply)

    async def ask(self, request: bytes) -> Reply:
        """The reply to this request."""
        assert self._transport is not None, "it was opened"
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def close(self) -> None:
        """Let go of it."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _settle(self, outcome: Reply | Broken) -> None:
        waiting, self._reply = self._reply, None
        if waiting is None or waiting.done():
            return
        if isinstance(outcome, Broken):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)


class Read(NamedTuple):
    """A reply that has come; `kept`: the server keeps the connection open."""

    reply: Reply
    kept: bool


def parse(data: bytes) -> Read | None:
    """The reply that these bytes are; None: there is more to come. Raises `ValueError` where it is none."""
    head, end, body = data.partition(END)
    if not end:
        if len(data) > HEAD_MOST:
            raise ValueError("its head has no end")
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = first.split(" ", 2)
    if version != "HTTP/1.1":
        raise ValueError(first[:80])
    told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    chunked = told.get("transfer-encoding", "").lower() == "chunked"
    whole = _joined(body) if chunked else _measured(body, int(told.get("content-length", "0")))
    if whole is None:
        return None
    return Read(Reply(int(status), told.get("retry-after"), whole), told.get("connection", "").lower() != "close")


def _measured(body: bytes, length: int) -> bytes | None:
    if len(body) > length:
        raise ValueError("more came than was said")
    return body if len(body) == length else None


def _joined(body: bytes) -> bytes | None:
    """What these chunks hold, each with its length before it; None: the last one has not come."""
    parts: list[bytes] = []
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end].partition(b";")[0], 16)
        at = end + 2 + size + 2
        if len(body) < at:
            return None
        if not size:
            return b"".join(parts)
        parts.append(body[end + 2 : at - 2])
    return None
