"""How does an application listen? One uvicorn on a socket that is bound before anything else starts.

Called by `orchestrator serve`, the demo and tests. The caller owns signals and says when to stop.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

DRAIN_S = 3
"""Open streams are cut after so long; their readers go on where they were."""


_REMEDIES = {
    errno.EADDRINUSE: "end the other program, or choose another ORCHESTRATOR_PORT",
    errno.EACCES: "choose an ORCHESTRATOR_PORT of 1024 or more",
}


class PortTaken(Exception):
    """The address cannot be listened on: in use, or not ours. The operator's to mend."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by name: asyncio sets TCP_NODELAY only then, and without it every second answer waits 40 ms for an ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        remedy = _REMEDIES.get(error.errno or 0, "let ORCHESTRATOR_HOST be an address of this machine")
        raise PortTaken(f"cannot listen on {host} port {port}: {error.strerror or error}; {remedy}") from error
    sock.listen(2048)
    return sock


def url_of(sock: socket.socket) -> str:
    """Under which address a client on this machine reaches the socket."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn that leaves signals alone and says when it is up."""

    def __init__(self, config: uvicorn.Config, up: Callable[[], None]) -> None:
        super().__init__(config)
        self._up = up

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: the caller owns signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn, then tell."""
        await super().startup(sockets)
        self._up()


async def serve(app: ASGIApp, sock: socket.socket, stop: asyncio.Event, up: Callable[[], None] = lambda: None) -> None:
    """Answer requests on `sock` until `stop` is set, then drain for at most DRAIN_S. `up` is called once listening."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
        proxy_headers=False,
        ws_max_size=1 << 20,  # a command with its arguments; data comes in smaller pieces
        ws_per_message_deflate=False,
    )
    server = _Server(config, up)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve(sockets=[sock])
    finally:
        ending.cancel()
