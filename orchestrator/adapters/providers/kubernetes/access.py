"""How does a person get at a job's pods? The access port for `kubernetes`: `pods/exec` and `pods/portforward`.

Mixed into the provider. A rank is a pod, in the order of `logs`. A command runs under `orchestrator.agent.inside` in
the user's container, so the API server's own audit log holds none of it; it takes the environment and folder of the
pod's user code and ends with whoever asked. The rights for it are the operator's to grant or not (`WAYS_IN`): without
them there is no way in, and the rest works.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from orchestrator.adapters.providers.kubernetes import logs
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.connection import RAY_CONTAINER
from orchestrator.adapters.providers.kubernetes.machines import waits
from orchestrator.adapters.providers.kubernetes.resources import POD, Pod
from orchestrator.adapters.providers.kubernetes.rights import Right
from orchestrator.agent import inside
from orchestrator.ports.access import STDERR, STDOUT, Command, NotThere, Stacks
from orchestrator.ports.provider import Unreachable

WAYS_IN = tuple(
    Right(POD, verb, why, sub)
    for sub, why in (("exec", "commands and stacks beside a rank"), ("portforward", "ports beside a rank"))
    for verb in ("create", "get")  # newer API servers ask for the first, older ones for the second
)
SUPERVISOR = ("python3", "-m", "orchestrator.agent.inside")
STDIN, STATUS = 0, 3
"""Channels of a command: the first byte of each message, besides STDOUT and STDERR."""
DATA, PROBLEM = 0, 1
"""Channels of a port. The first message of each repeats the port."""
STACKS_S = 60.0
LEAVE_S = 5.0
"""For a command that was told to end: more than `inside` takes to kill it."""


class KubernetesAccess:
    """`ports.access.Access` for the pods of one namespace."""

    client: Client
    cluster: Cluster

    async def ranks(self, key: str) -> Mapping[int, str]:
        """See Access."""
        return {n: f"pod {pod.metadata.name} on {pod.spec.node_name}" for n, pod in self._pods(key).items()}

    async def run_in(self, key: str, rank: int, command: Command) -> PodSession:
        """See Access."""
        task = {"do": "run", "command": command.argv, "tty": command.terminal, "term": command.term, "key": key}
        return await self._inside(self._pod(key, rank), task)

    async def stacks(self, key: str, rank: int) -> Sequence[Stacks]:
        """See Access."""
        session = await self._inside(self._pod(key, rank), {"do": "stacks", "key": key})
        said = {STDOUT: b"", STDERR: b""}
        try:
            async with asyncio.timeout(STACKS_S):
                while (part := await session.read()) is not None:
                    said[part[0]] += part[1]
            found = json.loads(said[STDOUT])
        except (TimeoutError, ValueError):
            why = said[STDERR].decode(errors="replace").strip()[-300:] or f"nothing came within {STACKS_S:.0f} s"
            return [Stacks(rank=rank, pid=0, title="", why=f"the pod's Python could not tell: {why}")]
        finally:
            await session.aclose()
        if not found:
            return [Stacks(rank=rank, pid=0, title="", why="no user code runs in this pod now")]
        return [Stacks(rank=rank, **one) for one in found]

    async def connect(self, key: str, rank: int, port: int) -> PodChannel:
        """See Access."""
        channel = PodChannel(await self._opened(self._pod(key, rank), "portforward", [("ports", str(port))]), port)
        await channel.opened()
        return channel

    async def output(self, key: str, rank: int, follow: bool) -> AsyncIterator[bytes]:
        """See Access."""
        async for line in logs.of_pod(self.client, self._pod(key, rank), follow=follow):
            yield line + b"\n"

    async def _inside(self, pod: Pod, task: dict[str, Any]) -> PodSession:
        query = {"container": RAY_CONTAINER, "stdin": "true", "stdout": "true", "stderr": "true"}
        words = [("command", word) for word in SUPERVISOR]
        session = PodSession(await self._opened(pod, "exec", [*query.items(), *words]))
        await session.send(inside.frame(inside.TASK, json.dumps(task).encode()))
        return session

    async def _opened(self, pod: Pod, sub: str, query: Sequence[tuple[str, str]]) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self.client.socket(POD.path(pod.metadata.namespace, pod.metadata.name, sub), query)
        except (NotThere, Unreachable) as error:  # of a container that waits, nodes say one or the other
            if any(c.name == RAY_CONTAINER and c.state.waiting for c in pod.status.container_statuses):
                why = "; ".join(waits(pod)) or "its images are being pulled, or its init containers run"
                raise NotThere(f"the container of pod {pod.metadata.name} has not started: {why}") from error
            raise

    def _pods(self, key: str) -> dict[int, Pod]:
        pods = logs.in_order(self.cluster.launch(key))
        return {rank: pod for rank, pod in enumerate(pods) if not pod.over and pod.spec.node_name}

    def _pod(self, key: str, rank: int) -> Pod:
        pods = self._pods(key)
        if rank in pods:
            return pods[rank]
        there = ", ".join(map(str, pods)) if pods else "none: no pod of it runs now"
        raise NotThere(f"there is no rank {rank}; the ranks are: {there}")


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, frozen=True):
    causes: tuple[_Cause, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    """What the last message of a command says."""

    status: str = ""
    message: str = ""
    details: _Details = _Details()

    @property
    def code(self) -> int | None:
        """The exit status; None: it says something else."""
        if self.status == "Success":
            return 0
        return next((int(c.message) for c in self.details.causes if c.reason == "ExitCode"), None)


class PodSession:
    """`ports.access.Session` over a WebSocket of the API server."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.code = 0
        self._socket = socket
        self._over = False

    async def read(self) -> tuple[int, bytes] | None:
        """See Session. A connection that broke ends it with 255."""
        while not self._over:
            came = await self._socket.receive()
            if came.type is not aiohttp.WSMsgType.BINARY:
                self.code, self._over = 255, True
                return STDERR, b"orchestrator: the connection to the pod broke\n"
            channel, data = came.data[0], came.data[1:]
            if channel in (STDOUT, STDERR) and data:
                return channel, data
            if channel == STATUS:
                return self._ended(msgspec.json.decode(data, type=_Status))
        return None

    def _ended(self, status: _Status) -> tuple[int, bytes] | None:
        self._over = True
        self.code = 126 if status.code is None else status.code
        return (STDERR, f"orchestrator: {status.message}\n".encode()) if status.code is None else None

    async def write(self, data: bytes) -> None:
        """See Session."""
        await self.send(inside.frame(inside.DATA, data))

    async def eof(self) -> None:
        """See Session."""
        await self.send(inside.frame(inside.EOF))

    async def resize(self, rows: int, columns: int) -> None:
        """See Session."""
        await self.send(inside.frame(inside.SIZE, inside.size(rows, columns)))

    async def end(self) -> None:
        """See Session."""
        await self.send(inside.frame(inside.END))

    async def send(self, frame: bytes) -> None:
        """A frame for `inside`; lost where it has ended meanwhile."""
        await _send(self._socket, STDIN, frame)

    async def aclose(self) -> None:
        """See Session. Told to end first: a socket that closes ends the command only when the node hears of it."""
        try:
            if not self._over:
                await self.end()
                async with asyncio.timeout(LEAVE_S):
                    while await self.read() is not None:
                        pass
        except TimeoutError:
            self._over = True
        await self._socket.close()


class PodChannel:
    """`ports.access.Channel` over a WebSocket of the API server."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, port: int) -> None:
        self._socket, self._port = socket, port

    async def opened(self) -> None:
        """Returns once both channels have said their port."""
        for _ in (DATA, PROBLEM):
            came = await self._socket.receive()
            if came.type is not aiohttp.WSMsgType.BINARY or came.data[1:] != struct.pack("<H", self._port):
                await self._socket.close()
                raise NotThere(f"port {self._port} cannot be reached: the pod's node did not open it")

    async def read(self) -> bytes:
        """See Channel."""
        while True:
            came = await self._socket.receive()
            if came.type is not aiohttp.WSMsgType.BINARY:
                return b""
            channel, data = came.data[0], bytes(came.data[1:])
            if channel == PROBLEM and data:
                raise NotThere(f"port {self._port}: {data.decode(errors='replace').strip()}")
            if channel == DATA and data:
                return data

    async def write(self, data: bytes) -> None:
        """See Channel."""
        await _send(self._socket, DATA, data)

    async def eof(self) -> None:
        """See Channel: this protocol cannot say it; the end of the connection says it for both directions."""

    async def aclose(self) -> None:
        """See Channel."""
        await self._socket.close()


async def _send(socket: aiohttp.ClientWebSocketResponse, channel: int, data: bytes) -> None:
    try:
        await socket.send_bytes(bytes([channel]) + data)
    except (aiohttp.ClientError, OSError):  # it has ended: whoever reads sees it
        return
