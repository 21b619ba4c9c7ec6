"""How does a person get at a job that runs on this machine? The access port for `local`.

Mixed into the local provider. Ranks are processes here, found by the attempt's marker; a command runs under
`orchestrator.agent.inside`, which takes the rank's environment and folder and ends what it started. Ports are only
those on which something of the launch listens: this machine has others.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.adapters.providers.local import files
from orchestrator.adapters.providers.local.launches import Launches
from orchestrator.agent import inside
from orchestrator.ports.access import STDERR, STDOUT, Command, NotThere, Stacks
from orchestrator.rayhead.plan import ROOT
from orchestrator.rayhead.processes import members

DASHBOARD = 8265
"""Where Ray's dashboard listens by itself; heads here have ports of their own."""
CHUNK = 65536
LOOK_S = 0.3
"""Between two looks for more output."""
LEAVE_S = 5.0
"""For a command that was told to end: more than `inside` takes to kill it."""
LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000", "00000000000000000000000001000000", "00000000000000000000000000000000"}
"""Addresses of this machine's own and of all interfaces, as /proc/net/tcp writes them."""


class LocalAccess:
    """`ports.access.Access` for the launches of this machine."""

    _launches: Launches
    _python: str

    async def ranks(self, key: str) -> Mapping[int, str]:
        """See Access."""
        return {rank: f"process {pid}" for rank, pid in (await asyncio.to_thread(inside.ranks, key)).items()}

    async def run_in(self, key: str, rank: int, command: Command) -> LocalSession:
        """See Access."""
        task = {"do": "run", "command": command.argv, "tty": command.terminal, "term": command.term}
        return LocalSession(await self._inside(task | {"pid": await self._pid(key, rank)}))

    async def stacks(self, key: str, rank: int) -> Sequence[Stacks]:
        """See Access."""
        process = await self._inside({"do": "stacks", "pid": await self._pid(key, rank)})
        said, _ = await process.communicate()
        return [Stacks(rank=rank, **one) for one in json.loads(said or b"[]")]

    async def connect(self, key: str, rank: int, port: int) -> LocalChannel:
        """See Access."""
        await self._pid(key, rank)
        held = self._launches.get(key)
        if port == DASHBOARD and held is not None and held.listens is not None:
            port = urlsplit(held.listens.address).port or port
        marker = files.marker(self._launches.folder / key)
        if port not in (there := await asyncio.to_thread(_listening, marker)):
            found = ", ".join(map(str, sorted(there))) or "none"
            raise NotThere(f"nothing of this job listens on port {port}; its ports are: {found}")
        try:
            return LocalChannel(*await asyncio.open_connection("127.0.0.1", port))
        except OSError as error:
            raise NotThere(f"port {port} cannot be reached: {error.strerror or error}") from error

    async def output(self, key: str, rank: int, follow: bool) -> AsyncIterator[bytes]:
        """See Access: the files that the rank's process writes to."""
        pid = await self._pid(key, rank)
        offsets = dict.fromkeys(await asyncio.to_thread(_outputs, pid), 0)
        if not offsets:
            raise NotThere(f"what rank {rank} prints is kept nowhere here; `orchestrator logs` has what was shipped")
        while True:
            alive = Path(f"/proc/{pid}/exe").exists()
            for path, offset in offsets.items():
                while data := await asyncio.to_thread(_from, path, offset):
                    offset = offsets[path] = offset + len(data)
                    yield data
            if not follow or not alive:
                return
            await asyncio.sleep(LOOK_S)

    async def _pid(self, key: str, rank: int) -> int:
        found = await asyncio.to_thread(inside.ranks, key)
        if rank in found:
            return found[rank]
        there = ", ".join(map(str, found)) if found else "none: no user code runs there now"
        raise NotThere(f"there is no rank {rank}; the ranks are: {there}")

    async def _inside(self, task: dict[str, Any]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            self._python, "-m", "orchestrator.agent.inside", stdin=-1, stdout=-1, stderr=-1, cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)}, start_new_session=True, limit=CHUNK,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(inside.frame(inside.TASK, json.dumps(task).encode()))
        return process


class LocalSession:
    """`ports.access.Session` over a process of ours."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.code = 0
        self._process = process
        self._said: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(8)
        pipes = ((STDOUT, process.stdout), (STDERR, process.stderr))
        self._readers = [asyncio.create_task(self._listen(n, pipe)) for n, pipe in pipes if pipe is not None]
        self._open = len(self._readers)

    async def _listen(self, stream: int, pipe: asyncio.StreamReader) -> None:
        while data := await pipe.read(CHUNK):
            await self._said.put((stream, data))
        self._open -= 1
        if not self._open:
            await self._said.put(None)

    async def read(self) -> tuple[int, bytes] | None:
        """See Session."""
        said = await self._said.get()
        if said is None:
            self.code = await self._process.wait()
        return said

    async def write(self, data: bytes) -> None:
        """See Session."""
        await self._send(inside.frame(inside.DATA, data))

    async def eof(self) -> None:
        """See Session."""
        await self._send(inside.frame(inside.EOF))

    async def resize(self, rows: int, columns: int) -> None:
        """See Session."""
        await self._send(inside.frame(inside.SIZE, inside.size(rows, columns)))

    async def _send(self, frame: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(ConnectionError):  # it has ended meanwhile
            if not pipe.is_closing():
                pipe.write(frame)
                await pipe.drain()

    async def end(self) -> None:
        """See Session."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def aclose(self) -> None:
        """See Session."""
        await self.end()
        for reader in self._readers:
            reader.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
                return
        self._process.kill()
        await self._process.wait()


class LocalChannel:
    """`ports.access.Channel` over a TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        """See Channel."""
        try:
            return await self._reader.read(CHUNK)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """See Channel."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def eof(self) -> None:
        """See Channel."""
        with suppress(OSError):
            self._writer.write_eof()

    async def aclose(self) -> None:
        """See Channel."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


def _outputs(pid: int) -> list[Path]:
    """The plain files that the process prints to, standard output first. Ray's workers hold pipes: by their names."""
    found = []
    for number in (1, 2):
        with suppress(OSError):
            path = Path(os.readlink(f"/proc/{pid}/fd/{number}"))
            if path.is_file() and path not in found:
                found.append(path)
    return found


def _from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK)
    except OSError:
        return b""


def _listening(marker: str) -> set[int]:
    """TCP ports on which processes with this marker listen."""
    sockets: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                address, _, port = fields[1].partition(":")
                if fields[3] == LISTENING and address in LOOPBACK:
                    sockets[f"socket:[{fields[9]}]"] = int(port, 16)
    found = set()
    for pid in members(marker):
        with suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    found.add(sockets.get(os.readlink(descriptor.path), 0))
    return found - {0}
