"""A cloud that two servers can both reach: a file to which every call is appended, with who called under which term.

Accepts every offer and holds every launch; nothing ever runs, so jobs stay where their launch left them.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.model.offer import (
    Answer,
    Capabilities,
    Confirmed,
    LaunchOrder,
    LaunchReply,
    Listing,
    Observation,
    OfferOut,
    Receipt,
    StopReply,
    Undelivered,
)
from orchestrator.ports.runtime import Tools


class Journal:
    """The provider."""

    def __init__(self, name: str, connection: Mapping[str, Any], tools: Tools) -> None:
        self.name, self._tools = name, tools
        self._file = Path(connection["folder"]) / "journal"
        self._file.touch()

    def _write(self, verb: str, *named: tuple[str, str]) -> None:
        line = {"verb": verb, "of": named, "pid": os.getpid(), "term": self._tools.term(), "at": time.monotonic()}
        file = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        os.write(file, json.dumps(line).encode() + b"\n")
        os.close(file)

    async def capabilities(self) -> Capabilities:
        return Capabilities()

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        self._write("place_offers", *((o.offer, o.terms_hash) for o in offers))
        return [o.receipt("") for o in offers]

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        self._write("launch", *((o.key, str(o.term)) for o in orders))
        return [Confirmed(o.key) for o in orders]

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        self._write("stop", *((key, "") for key in keys))
        return [StopReply(key, True) for key in keys]

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        return list(offers)

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        read, until = int(cursor or 0), time.monotonic() + wait_us / 1e6
        while not (lines := self._file.read_bytes().splitlines()[read:]):
            await asyncio.sleep(0.05)
            if time.monotonic() >= until:
                break
        placed = [of for line in map(json.loads, lines) if line["verb"] == "place_offers" for of in line["of"]]
        answers = tuple(
            Answer(offer=o, accepted=True, terms_hash=t, price=1_000_000, region="eu-1", ttl_us=600_000_000)
            for o, t in placed
        )
        return Observation(str(read + len(lines)), self._tools.clock.now_us(), answers)

    async def list_ours(self) -> Listing:
        return Listing(self._tools.clock.now_us(), ())

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        yield b""

    async def check(self) -> Sequence[str]:
        return []

    async def aclose(self) -> None:
        return
