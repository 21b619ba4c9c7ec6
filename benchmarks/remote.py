"""Clouds in a process of their own: when did an offer arrive, when a launch?

`python -m benchmarks.remote` serves all six of them and notes arrivals by the machine's steady clock, which all its
processes share. `RemoteCloud` is the adapter that the server under test talks to them with.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from benchmarks.framed import Line, answer
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
    Sighting,
    SightingState,
    StopReply,
    Undelivered,
)
from orchestrator.model.placement import parse_terms
from orchestrator.ports.provider import Unreachable
from orchestrator.ports.runtime import Tools

ANSWER_S = 0.005
"""From an offer's arrival to its answer."""
OPEN_OFFERS = 64
TIMEOUT_S = 30.0
_json = msgspec.json.Encoder()


class Record(msgspec.Struct):
    """What arrived when: steady nanoseconds of this machine, by job."""

    offered: dict[str, int] = msgspec.field(default_factory=dict)
    accepted: dict[str, int] = msgspec.field(default_factory=dict)
    """When the acceptance was put into the feed."""
    launched: dict[str, int] = msgspec.field(default_factory=dict)


# ---- the clouds ------------------------------------------------------------------------------------------------------


class Cloud:
    """One of them: it accepts everything."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.feed: list[Answer] = []
        self.some = asyncio.Event()
        self.launched: dict[str, Sighting] = {}

    def offer(self, offers: Sequence[OfferOut], at: int) -> list[Receipt]:
        """Take them; the answers follow in the feed."""
        for offer in offers:
            self.record.offered.setdefault(job_of(offer.offer), at)
        asyncio.get_running_loop().call_later(ANSWER_S, self._accept, offers)
        return [offer.receipt("") for offer in offers]

    def _accept(self, offers: Sequence[OfferOut]) -> None:
        at = time.monotonic_ns()
        for offer in offers:
            terms = parse_terms(offer.terms)
            self.record.accepted.setdefault(job_of(offer.offer), at)
            self.feed.append(Answer(
                offer=offer.offer, accepted=True, terms_hash=offer.terms_hash, price=1_000_000,
                region=terms.regions[0], accelerator=terms.accelerators[0], ttl_us=600_000_000,
            ))  # fmt: skip
        self.some.set()

    def launch(self, orders: Sequence[LaunchOrder], at: int) -> list[Confirmed]:
        """Hold them."""
        for order in orders:
            self.record.launched.setdefault(order.job, at)
            self.launched[order.key] = Sighting(order.key, SightingState.PROVISIONING, 0, order.ledger)
        return [Confirmed(order.key) for order in orders]

    async def observe(self, position: int, wait_s: float) -> tuple[int, list[Answer]]:
        """The feed since `position`, waiting for news."""
        if position >= len(self.feed) and wait_s > 0:
            self.some.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self.some.wait()
            except TimeoutError:
                pass
        return len(self.feed), self.feed[position:]


def job_of(offer: str) -> str:
    """The job of an offer's id."""
    return offer.rpartition("-o")[0]


class Call(msgspec.Struct, frozen=True):
    """One request: at which cloud, what."""

    verb: str
    cloud: str = ""
    offers: tuple[OfferOut, ...] = ()
    orders: tuple[LaunchOrder, ...] = ()
    after: int = 0
    wait_s: float = 0.0


class Clouds:
    """All of them; each is made when first named."""

    def __init__(self) -> None:
        self.record = Record()
        self._clouds: dict[str, Cloud] = {}

    async def handle(self, body: bytes) -> Any:
        """One call."""
        at = time.monotonic_ns()
        call = msgspec.json.decode(body, type=Call)
        cloud = self._clouds.setdefault(call.cloud, Cloud(self.record))
        match call.verb:
            case "offers":
                return cloud.offer(call.offers, at)
            case "launch":
                return cloud.launch(call.orders, at)
            case "feed":
                return await cloud.observe(call.after, call.wait_s)
            case "ours":
                return list(cloud.launched.values())
        return self.record


# ---- the adapter -----------------------------------------------------------------------------------------------------


class RemoteCloud:
    """`ports.provider.Provider` over HTTP."""

    def __init__(self, name: str, address: str, tools: Tools) -> None:
        self.name = name
        self._tools = tools
        self._lines = {verb: Line(address) for verb in ("offers", "launch", "feed", "ours")}

    async def _ask(self, verb: str, kind: Any, **said: Any) -> Any:
        try:
            reply = await self._lines[verb].ask(_json.encode(Call(verb, self.name, **said)))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unreachable(f"{self.name} gave no reply to {verb}: {error!r}; is its process alive?") from error
        return msgspec.json.decode(reply, type=kind)

    async def capabilities(self) -> Capabilities:
        """See Provider."""
        return Capabilities(max_open_offers=OPEN_OFFERS)

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See Provider."""
        found: list[Receipt] = await self._ask("offers", list[Receipt], offers=tuple(offers))
        return found

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See Provider."""
        found: list[Confirmed] = await self._ask("launch", list[Confirmed], orders=tuple(orders))
        return found

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See Provider: nothing ever runs here."""
        return [StopReply(key, True) for key in keys]

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See Provider."""
        return offers

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See Provider."""
        said = {"after": int(cursor or 0), "wait_s": wait_us / 1e6}
        position, answers = await self._ask("feed", tuple[int, tuple[Answer, ...]], **said)
        return Observation(str(position), self._tools.clock.now_us(), answers=answers)

    async def list_ours(self) -> Listing:
        """See Provider."""
        found = await self._ask("ours", tuple[Sighting, ...])
        return Listing(self._tools.clock.now_us(), found)

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """See Provider: there are none."""
        nothing: tuple[bytes, ...] = ()
        for line in nothing:
            yield line

    async def check(self) -> Sequence[str]:
        """See Provider: nothing is missing."""
        return ()

    async def aclose(self) -> None:
        """See Provider."""
        for line in self._lines.values():
            line.close()


def factory(name: str, connection: Mapping[str, Any], tools: Tools) -> RemoteCloud:
    """What the composition root makes them with."""
    return RemoteCloud(name, str(connection["url"]), tools)


async def main() -> None:
    """Serve the clouds until standard input ends; the address is the one line of output."""
    stop = asyncio.Event()
    asyncio.get_running_loop().run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: stop.set())
    await answer(Clouds().handle, lambda address: print(address, flush=True), stop)


if __name__ == "__main__":
    asyncio.run(main())
