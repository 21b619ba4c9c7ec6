"""Getting at a running job: a command beside a rank, a port of it on this machine. What `AsyncJob.run_in` gives.

The other side of the server's sockets (`model.documents.inside`). Data is sent only while fewer than WINDOW messages of
it are under way, and acknowledged once it was taken here: a slow reader holds up data, never words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from orchestrator.model.documents.inside import CHUNK, WINDOW, Asked
from orchestrator.model.documents.views import ProblemView
from orchestrator.sdk.address import Address
from orchestrator.sdk.errors import BY_STATUS, Refused, Unreachable
from orchestrator.sdk.operations import Reply, refusal

OPEN_S = 30.0
"""For a way in: it is written down, and a cloud may first have to start something beside the job."""
END_S = 10.0
"""For a command that was told to end: longer than the server takes to kill it."""
STDOUT, STDERR = 1, 2


@asynccontextmanager
async def dial(address: Address, path: str) -> AsyncIterator[Line]:
    """An open socket at the server. Raises Refused, Unreachable."""
    url = "ws" + address.url.removeprefix("http") + path
    headers = {"Authorization": f"Bearer {address.token}"}
    opening = connect(
        url,
        additional_headers=headers,
        open_timeout=OPEN_S,
        max_size=1 << 20,
        compression=None,
        proxy=None if address.here else True,  # True: the environment's
    )
    try:
        socket = await opening
    except InvalidStatus as error:
        reply = error.response
        raise refusal(Reply(reply.status_code, dict(reply.headers.raw_items()), bytes(reply.body or b""))) from error
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
        raise Unreachable(f"the server does not answer ({error}); is it up? See `orchestrator doctor`") from error
    try:
        yield Line(socket)
    finally:
        with suppress(ConnectionClosed):
            await socket.close()


class Line:
    """One open socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._room = asyncio.Semaphore(WINDOW)

    async def send(self, data: bytes) -> None:
        """Send data in pieces, each as soon as there is room. Raises Unreachable."""
        for at in range(0, len(data), CHUNK):
            await self._room.acquire()
            await self._put(data[at : at + CHUNK])

    async def say(self, **what: Any) -> None:
        """Send words. Raises Unreachable."""
        await self._put(json.dumps(what))

    async def _put(self, what: bytes | str) -> None:
        try:
            await self._socket.send(what)
        except ConnectionClosed as error:
            raise Unreachable("the server has closed the connection; what was started through it is ended") from error

    async def hear(self) -> bytes | dict[str, Any] | None:
        """Data, which the caller acknowledges with `took`; or words; None: the server has ended it. Raises Refused."""
        while True:
            try:
                came = await self._socket.recv()
            except ConnectionClosed:
                return None
            if isinstance(came, bytes):
                return came
            words = json.loads(came)
            if "problem" in words:
                raise _refused(words["problem"])
            if "took" not in words:
                return dict(words)
            self._room.release()

    async def took(self) -> None:
        """Data was passed on: there is room for more."""
        with suppress(Unreachable):  # the end is heard soon
            await self.say(took=1)


def _refused(problem: Any) -> Refused | Unreachable:
    try:
        view = ProblemView.model_validate(problem)
    except ValidationError:
        return refusal(Reply(500, {}, json.dumps(problem).encode()))
    return BY_STATUS.get(view.status, Refused)(view)


class Session:
    """A command that runs beside a rank: iterate over what it prints, then read `code`."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.code: int | None = None
        """Its exit status (128 + n: by signal n; 127: there is no such command); None: not known (yet)."""

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """(STDOUT or STDERR, what it printed). Raises Refused, and Unreachable where the connection broke."""
        while (came := await self._line.hear()) is not None:
            if isinstance(came, bytes):
                yield came[0], came[1:]
                await self._line.took()
            elif "exit" in came:
                self.code = int(came["exit"])
                return
        raise Unreachable("the connection broke; the command was ended")

    async def send(self, data: bytes) -> None:
        """To its standard input."""
        await self._line.send(data)

    async def eof(self) -> None:
        """Its standard input ends here."""
        await self._line.say(eof=True)

    async def resize(self, rows: int, columns: int) -> None:
        """Its terminal has another size."""
        await self._line.say(size=[rows, columns])

    async def end(self) -> int | None:
        """Have it ended, and wait until it is; its exit status, None where nobody said."""
        with suppress(TimeoutError, Unreachable):
            await self._line.say(end=True)
            async with asyncio.timeout(END_S):
                async for _ in self:
                    pass
        return self.code


@asynccontextmanager
async def run_in(
    address: Address, job: str, command: Sequence[str], rank: int, terminal: tuple[int, int] | None, term: str
) -> AsyncIterator[Session]:
    """Run a command; whatever of it still runs at the end of the block is ended."""
    asked = Asked(command=list(command), rank=rank, terminal=terminal, term=term)
    async with dial(address, f"/v1/jobs/{job}/exec") as line:
        await line.say(**asked.model_dump(mode="json"))
        yield Session(line)


class Forward:
    """A port beside a rank, listened for on this machine's loopback."""

    def __init__(self, line: Line, address: Address, path: str) -> None:
        self._line, self._address, self._path = line, address, path
        self._met: set[asyncio.Task[Any]] = set()
        self.port = 0
        """Where it listens."""
        self.wrong: list[Exception] = []
        """Why connections broke, the last few."""

    async def ended(self) -> None:
        """Returns when the server has ended it: it stops, or the job has moved on. Raises Refused."""
        await self._line.hear()

    async def listen(self, port: int) -> asyncio.Server:
        """Begin to listen; 0: a free port. Raises OSError."""
        server = await asyncio.start_server(self._meet, "127.0.0.1", port)
        self.port = int(server.sockets[0].getsockname()[1])
        return server

    async def hang_up(self) -> None:
        """End every connection."""
        for task in self._met:
            task.cancel()
        await asyncio.gather(*self._met, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._met.add(task)
        task.add_done_callback(self._met.discard)
        try:
            async with dial(self._address, self._path) as line:
                await _carry(line, reader, writer)
        except (Refused, Unreachable, ConnectionError) as error:
            self.wrong = [*self.wrong[-9:], error]
        except asyncio.CancelledError:
            pass  # hung up by us; asyncio prints a trace of a handler that ends so
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _carry(line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def up() -> None:
        with suppress(ConnectionError, Unreachable):
            while data := await reader.read(CHUNK):
                await line.send(data)
            await line.say(eof=True)

    sending = asyncio.create_task(up())
    try:
        while (came := await line.hear()) is not None:
            if isinstance(came, bytes):
                writer.write(came)
                await writer.drain()
                await line.took()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@asynccontextmanager
async def forward(address: Address, job: str, port: int, rank: int, local_port: int) -> AsyncIterator[Forward]:
    """Listen on 127.0.0.1 for a port beside a rank, until the end of the block. Raises Refused, OSError."""
    async with dial(address, f"/v1/jobs/{job}/forward?port={port}&rank={rank}") as line:
        words = await line.hear()
        if not isinstance(words, dict):
            raise Unreachable("the server closed the connection at once")
        found = Forward(line, address, f"/v1/jobs/{job}/forward/{words['ticket']}")
        server = await found.listen(local_port)
        try:
            yield found
        finally:
            server.close()
            await found.hang_up()
