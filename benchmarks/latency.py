"""How long until a job is put to a cloud, and how long from a yes to the launch? Submitted from outside, over HTTP.

Called by `__main__`. Three processes on one machine, one steady clock: this one submits on a fixed schedule whatever
the answers do (open loop: a slow reply delays no other request, and counts from when it should have been sent), the
server is the product, the clouds are `remote`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from benchmarks import world
from benchmarks.framed import Line
from benchmarks.machine import Unfit, file_system, load
from benchmarks.remote import Call, Record
from orchestrator.api.admission import CANONICAL_TYPE

SHAPES = 20
CREATED = 201
LOST_S, LOOK_S = 5.0, 0.25
"""From the last submission until what has not arrived counts as lost."""


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds."""

    count: int
    p50: float
    p99: float
    most: float


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen from outside."""

    rate: float
    seconds: float
    submitted: int
    refused: int
    never_offered: int
    never_launched: int
    load: str
    file_system: str
    to_reply: Spread
    to_offer: Spread
    to_launch: Spread


def spread(nanoseconds: Sequence[int]) -> Spread:
    """Of at least one."""
    found = sorted(nanoseconds)
    p50, p99 = (found[min(len(found) - 1, int(len(found) * share))] / 1e6 for share in (0.50, 0.99))
    return Spread(len(found), p50, p99, found[-1] / 1e6)


async def measure(folder: Path, rate: float, seconds: float, warm_up: float) -> Latencies:
    """Submit `rate` jobs a second for `warm_up` + `seconds`; only the latter count."""
    with started("benchmarks.remote") as clouds, started("benchmarks.served", str(folder), clouds) as server:
        token = json.loads((folder / "tokens.json").read_text())["tokens"][0]["token"]
        async with Posts(server, token) as http:
            await submit(http, rate, int(rate * warm_up), 0)
            busy = load()
            sent = await submit(http, rate, int(rate * seconds), int(rate * warm_up))
            record = await arrived(clouds, {one.job for one in sent if one.job})
        about = {"rate": rate, "seconds": seconds, "load": busy, "file_system": file_system(folder)}
        return _figures(sent, record, about)


async def arrived(clouds: str, jobs: set[str]) -> Record:
    """What the clouds have seen once all these jobs were launched, or after `LOST_S`."""
    line = Line(clouds)
    for _ in range(int(LOST_S / LOOK_S)):
        record = msgspec.json.decode(await line.ask(msgspec.json.encode(Call("record"))), type=Record)
        if jobs <= record.launched.keys():
            break
        await asyncio.sleep(LOOK_S)
    line.close()
    return record


class Sent(msgspec.Struct):
    """One submission: when it should have been sent, when answered, and which job it made; "" if refused."""

    at: int
    answered: int = 0
    job: str = ""


async def submit(http: Posts, rate: float, count: int, first: int) -> list[Sent]:
    """`count` jobs on schedule."""
    templates = world.unpackaged(SHAPES)
    begin, found, tasks = time.monotonic_ns() + 10_000_000, [], []
    for number in range(count):
        due = begin + int(number / rate * 1e9)
        await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
        one = Sent(due)
        found.append(one)
        body = world.numbered(templates[number % SHAPES], first + number)
        tasks.append(asyncio.create_task(_submit(http, one, body)))
    await asyncio.gather(*tasks)
    return found


async def _submit(http: Posts, one: Sent, body: bytes) -> None:
    try:
        status, reply = await http.post(body)
    except (OSError, asyncio.IncompleteReadError) as error:
        print(f"a submission got no reply: {error!r}", file=sys.stderr)
        return
    one.answered = time.monotonic_ns()
    if status == CREATED:
        one.job = json.loads(reply)["id"]
    else:
        print(reply.decode(), file=sys.stderr)


class Posts:
    """Submissions over HTTP/1.1 on kept connections, as many as are needed at a time; nothing but that, so that the
    measuring process has time to keep its schedule."""

    def __init__(self, server: str, token: str) -> None:
        self._where = urlsplit(server)
        self._head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: {self._where.netloc}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {CANONICAL_TYPE}\r\nContent-Length: "
        ).encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """(status, body) of the reply."""
        reader, writer = await self._connection()
        writer.write(self._head + b"%d\r\n\r\n" % len(body) + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        reply = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return int(head.split()[1]), reply

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A kept one that the server has not closed meanwhile (it does so after 5 idle seconds), or a new one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._where.hostname, self._where.port)

    async def __aenter__(self) -> Posts:
        return self

    async def __aexit__(self, *_error: object) -> None:
        for _, writer in self._idle:
            writer.close()


def _figures(sent: Sequence[Sent], record: Record, about: dict[str, Any]) -> Latencies:
    made = [one for one in sent if one.job]
    offered = _between({one.job: one.at for one in made}, record.offered)
    agreed = {one.job: record.accepted[one.job] for one in made if one.job in record.accepted}
    launched = _between(agreed, record.launched)
    if not offered or not launched:
        raise Unfit("nothing arrived at the clouds; see what the server said above")
    return Latencies(
        **about, submitted=len(sent), refused=len(sent) - len(made), never_offered=len(made) - len(offered),
        never_launched=len(made) - len(launched), to_reply=spread([one.answered - one.at for one in made]),
        to_offer=spread(offered), to_launch=spread(launched),
    )  # fmt: skip


def _between(begin: Mapping[str, int], end: Mapping[str, int]) -> list[int]:
    return [end[job] - at for job, at in begin.items() if job in end]


@contextmanager
def started(module: str, *words: str) -> Iterator[str]:
    """A part as a process of its own, which ends with us however we end; gives its address."""
    line = [sys.executable, "-m", module, *words]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None, "both were asked for"
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise Unfit(f"{module} did not start; see what it said above")
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
