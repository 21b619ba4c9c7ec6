"""Clouds in a process of their own, over HTTP on loopback: when did an offer arrive, when a launch?

`python -m benchmarks.remote` serves all six of them and notes arrivals by the machine's steady clock, which all its
processes share. `RemoteCloud` is the adapter that the server under test talks to them with.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.api.server import bind, serve, url_of
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
        return [Receipt(offer.offer, "") for offer in offers]

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


def clouds_app(clouds: dict[str, Cloud]) -> Starlette:
    """All clouds behind one address: `/<name>/<verb>`; each is made when first named."""
    record = Record()

    def cloud(request: Request) -> Cloud:
        return clouds.setdefault(request.path_params["name"], Cloud(record))

    async def offers(request: Request) -> Response:
        at = time.monotonic_ns()
        found = msgspec.json.decode(await request.body(), type=list[OfferOut])
        return _reply(cloud(request).offer(found, at))

    async def launch(request: Request) -> Response:
        at = time.monotonic_ns()
        found = msgspec.json.decode(await request.body(), type=list[LaunchOrder])
        return _reply(cloud(request).launch(found, at))

    async def feed(request: Request) -> Response:
        query = request.query_params
        return _reply(await cloud(request).observe(int(query["after"]), float(query["wait"])))

    async def ours(request: Request) -> Response:
        return _reply(list(cloud(request).launched.values()))

    async def arrivals(_: Request) -> Response:
        return _reply(record)

    return Starlette(
        routes=[
            Route("/record", arrivals),
            Route("/{name}/offers", offers, methods=["POST"]),
            Route("/{name}/launch", launch, methods=["POST"]),
            Route("/{name}/feed", feed),
            Route("/{name}/ours", ours),
        ]
    )


def _reply(value: Any) -> Response:
    return Response(_json.encode(value), media_type="application/json")


# ---- the adapter -----------------------------------------------------------------------------------------------------


class RemoteCloud:
    """`ports.provider.Provider` over HTTP."""

    def __init__(self, name: str, url: str, tools: Tools) -> None:
        self.name = name
        self._tools = tools
        self._http = httpx.AsyncClient(base_url=f"{url}/{name}", timeout=TIMEOUT_S)

    async def _ask(self, verb: str, kind: Any, body: Any = None, **query: Any) -> Any:
        try:
            if body is None:
                reply = await self._http.get(verb, params=query)
            else:
                reply = await self._http.post(verb, content=_json.encode(body))
            return msgspec.json.decode(reply.raise_for_status().content, type=kind)
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.name} gave no reply to {verb}: {error!r}; is its process alive?") from error

    async def capabilities(self) -> Capabilities:
        """See Provider."""
        return Capabilities(max_open_offers=OPEN_OFFERS)

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See Provider."""
        found: list[Receipt] = await self._ask("/offers", list[Receipt], offers)
        return found

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See Provider."""
        found: list[Confirmed] = await self._ask("/launch", list[Confirmed], orders)
        return found

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See Provider: nothing ever runs here."""
        return [StopReply(key, True) for key in keys]

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See Provider."""
        return offers

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See Provider."""
        query = {"after": cursor or 0, "wait": wait_us / 1e6}
        position, answers = await self._ask("/feed", tuple[int, tuple[Answer, ...]], **query)
        return Observation(str(position), self._tools.clock.now_us(), answers=answers)

    async def list_ours(self) -> Listing:
        """See Provider."""
        found = await self._ask("/ours", tuple[Sighting, ...])
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
        await self._http.aclose()


def factory(name: str, connection: Mapping[str, Any], tools: Tools) -> RemoteCloud:
    """What the composition root makes them with."""
    return RemoteCloud(name, str(connection["url"]), tools)


async def main() -> None:
    """Serve the clouds until standard input ends; the address is the one line of output."""
    stop = asyncio.Event()
    clouds: dict[str, Cloud] = {}

    async def end() -> None:
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        for cloud in clouds.values():
            cloud.some.set()

    ending = asyncio.create_task(end())
    with bind("127.0.0.1", 0) as sock:
        await serve(clouds_app(clouds), sock, stop, lambda: print(url_of(sock), flush=True))
    await ending


if __name__ == "__main__":
    asyncio.run(main())
