"""What does a front see of a running job, without anything that runs? Ways in, in memory, that do as a test says.

Called by `FakeDesk` and tests. Its commands are few and do what their name says: `echo`, `cat`, `oops` (to standard
error), `exit N`, `tty` (prints its size, again when it changes) and `sleep` (until it is ended: 143).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from orchestrator.ports.access import STDERR, STDOUT, Command, NotThere, Stacks

ECHO_PORT = 7
"""What is sent there comes back; nothing else listens."""


class FakeAccess:
    """`ports.access.Access` in memory, with ranks 0 and 1."""

    def __init__(self) -> None:
        self.ran: list[Command] = []
        self.sessions: list[FakeSession] = []
        self.channels: list[FakeChannel] = []

    async def ranks(self, key: str) -> Mapping[int, str]:
        """See Access."""
        return {0: "pod a", 1: "pod b"}

    async def run_in(self, key: str, rank: int, command: Command) -> FakeSession:
        """See Access."""
        await self._must_be(rank)
        self.ran.append(command)
        self.sessions.append(FakeSession(command))
        return self.sessions[-1]

    async def connect(self, key: str, rank: int, port: int) -> FakeChannel:
        """See Access."""
        await self._must_be(rank)
        if port != ECHO_PORT:
            raise NotThere(f"nothing of this job listens on port {port}; its ports are: {ECHO_PORT}")
        self.channels.append(FakeChannel())
        return self.channels[-1]

    async def output(self, key: str, rank: int, follow: bool) -> AsyncIterator[bytes]:
        """See Access."""
        await self._must_be(rank)
        yield f"rank {rank} of {key}\n".encode()

    async def stacks(self, key: str, rank: int) -> Sequence[Stacks]:
        """See Access: of rank 0; into rank 1 nobody may look."""
        if rank:
            return [Stacks(rank=rank, pid=21, title="ray::train", why="it may not be looked into; remedy: ask")]
        return [Stacks(rank=rank, pid=20, title="python train.py", stacks='Thread 20 (active): "MainThread"\n')]

    async def _must_be(self, rank: int) -> None:
        if rank not in (ranks := await self.ranks("")):
            raise NotThere(f"there is no rank {rank}; the ranks are: {', '.join(map(str, ranks))}")


class FakeSession:
    """`ports.access.Session` of one of the commands."""

    def __init__(self, command: Command) -> None:
        self.code, self.closed = 0, False
        self._said: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        name, *rest = command.argv
        self._name = name
        match name:
            case "echo":
                self._over(0, (STDOUT, " ".join(rest).encode() + b"\n"))
            case "oops":
                self._over(1, (STDERR, b"oops\n"))
            case "exit":
                self._over(int(rest[0]))
            case "tty":
                self._said.put_nowait((STDOUT, str(command.terminal).encode()))
            case "cat" | "sleep":
                pass
            case _:
                self._over(127, (STDERR, f"{name}: No such file or directory\n".encode()))

    def _over(self, code: int, *said: tuple[int, bytes]) -> None:
        self.code = code
        for one in (*said, None):
            self._said.put_nowait(one)

    async def read(self) -> tuple[int, bytes] | None:
        """See Session."""
        return await self._said.get()

    async def write(self, data: bytes) -> None:
        """See Session."""
        if self._name == "cat":
            self._said.put_nowait((STDOUT, data))
        elif self._name == "sleep":
            await asyncio.Event().wait()  # it does not read

    async def eof(self) -> None:
        """See Session."""
        if self._name == "cat":
            self._over(0)

    async def resize(self, rows: int, columns: int) -> None:
        """See Session."""
        self._over(0, (STDOUT, f"({rows}, {columns})".encode()))

    async def end(self) -> None:
        """See Session."""
        self._over(143)

    async def aclose(self) -> None:
        """See Session."""
        self.closed = True


class FakeChannel:
    """`ports.access.Channel` that sends back what it is sent."""

    def __init__(self) -> None:
        self.closed = False
        self._back: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        """See Channel."""
        return await self._back.get()

    async def write(self, data: bytes) -> None:
        """See Channel."""
        self._back.put_nowait(data)

    async def eof(self) -> None:
        """See Channel."""
        self._back.put_nowait(b"")

    async def aclose(self) -> None:
        """See Channel."""
        self.closed = True
