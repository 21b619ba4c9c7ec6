"""One cloud, running: who puts its parts together, and who takes them down again?

Called by the command line and by tests. `running(config, folder)` is a cloud for as long as the `async with` lasts;
`serve` is one until a signal comes. The folder holds `connection.json` (mode 0600: addresses, tokens, pid),
`journal.jsonl`, `receipts.jsonl` and `forwarder.jsonl`. At its end every cluster is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from orchestrator.mockcloud.app import Face, Pulse
from orchestrator.mockcloud.cloud import Cloud
from orchestrator.mockcloud.config import CloudConfig, Machines, Network
from orchestrator.mockcloud.hosts import HeadHost, PaperHost
from orchestrator.mockcloud.http1 import Streams
from orchestrator.mockcloud.journal import Journal
from orchestrator.mockcloud.network import Forwarder
from orchestrator.mockcloud.receipts import Receipts
from orchestrator.mockcloud.switchboard import Switchboard

LONGEST_SLEEP = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """Where the cloud is to be found. Addresses are URLs on loopback."""

    cloud: Cloud
    url: str
    token: str
    admin_url: str
    admin_token: str
    store_url: str | None
    folder: Path

    def document(self) -> dict[str, str | int | None]:
        """What `connection.json` holds."""
        return {
            "cloud": self.cloud.config.cloud,
            "url": self.url,
            "token": self.token,
            "adminUrl": self.admin_url,
            "adminToken": self.admin_token,
            "storeUrl": self.store_url,
            "pid": os.getpid(),
        }


async def serve(config: CloudConfig, folder: Path) -> None:
    """Be this cloud until SIGTERM, SIGINT or SIGHUP."""
    over = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(sig, over.set)
    async with running(config, folder) as here:
        print(json.dumps({"cloud": config.cloud, "url": here.url, "adminUrl": here.admin_url}), flush=True)
        await over.wait()


@contextlib.asynccontextmanager
async def running(config: CloudConfig, folder: Path) -> AsyncIterator[Running]:
    """A cloud, ready to be asked."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / "journal.jsonl", config.cloud)
    receipts = Receipts(folder / "receipts.jsonl")
    cloud = Cloud(config, journal, receipts)
    host = PaperHost(cloud) if config.machines is Machines.PAPER else HeadHost(cloud, folder)
    cloud.host = host
    pulse = Pulse()
    cloud.on_change = pulse.beat
    token, admin_token = config.token or secrets.token_hex(16), config.admin_token or secrets.token_hex(16)
    face = Face(cloud, pulse, token, boot=secrets.token_hex(4))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(journal.close)
        stack.callback(receipts.close)
        api = await stack.enter_async_context(_api(face, config.port))
        store = await stack.enter_async_context(_store(config, folder)) if config.store else None
        face.store_url = f"http://127.0.0.1:{store.port}" if store else None
        board = Switchboard(cloud, host, api, store)
        _wire_cuts(board, store)
        admin = _listen(config.admin_port)
        await stack.enter_async_context(_uvicorn(board.app(admin_token), admin))
        stack.push_async_callback(host.aclose)
        clock = asyncio.get_running_loop().create_task(_clockwork(cloud, pulse))
        stack.push_async_callback(_cancel, clock)
        await board.apply(config.faults)
        admin_url = f"http://127.0.0.1:{admin.getsockname()[1]}"
        api_url = f"http://127.0.0.1:{api.port}"
        here = Running(cloud, api_url, token, admin_url, admin_token, face.store_url, folder)
        _write_connection(here)
        yield here


def _write_connection(here: Running) -> None:
    path = here.folder / "connection.json"
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(here.document()))
    part.rename(path)


async def _clockwork(cloud: Cloud, pulse: Pulse) -> None:
    """Let due things happen when they are due."""
    while True:
        cloud.advance(_now())
        due = cloud.next_due()
        sleep = LONGEST_SLEEP if due is None else min(LONGEST_SLEEP, max(0.0, (due - _now()) / 1_000_000))
        await pulse.wait(sleep)


@contextlib.asynccontextmanager
async def _api(face: Face, port: int) -> AsyncIterator[Forwarder]:
    """The API behind its network: the forwarder listens, the application sits behind a nameless local socket."""
    path = f"\0orchestrator-mockcloud-{secrets.token_hex(8)}"
    inner = socket.socket(socket.AF_UNIX)
    inner.bind(path)
    network = Forwarder(lambda: asyncio.open_unix_connection(path), port=port)
    async with _uvicorn(face.app(), inner):
        await network.listen()
        try:
            yield network
        finally:
            await network.aclose()


@contextlib.asynccontextmanager
async def _store(config: CloudConfig, folder: Path) -> AsyncIterator[Forwarder]:
    """The jobs' way to the store."""
    far = urlsplit(config.store or "")
    host, port = far.hostname or "", far.port or 80

    async def dial() -> Streams:
        return await asyncio.open_connection(host, port)

    network = Forwarder(dial, port=config.store_port, log=folder / "forwarder.jsonl")
    await network.listen()
    try:
        yield network
    finally:
        await network.aclose()


def _wire_cuts(board: Switchboard, store: Forwarder | None) -> None:
    """A mishap of the store network may cut it, or everything, at the very moment it happens."""
    chores: set[asyncio.Task[object]] = set()

    def cut(what: str) -> None:
        change = {"store": Network.REFUSE} | ({"api": Network.REFUSE} if what == "outage" else {})
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(board.set_faults(change))
        chores.add(task)
        task.add_done_callback(chores.discard)

    if store is not None:
        store.on_cut = cut


def _listen(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


class _Quiet(uvicorn.Server):
    """Leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are captured."""
        yield


@contextlib.asynccontextmanager
async def _uvicorn(app: FastAPI, sock: socket.socket) -> AsyncIterator[None]:
    server = _Quiet(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=60))
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - it offers no event
            await asyncio.sleep(0.005)
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task
        sock.close()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _now() -> int:
    return time.time_ns() // 1000
