"""A mock cloud as a provider: how does each verb of the port become calls of its HTTP API?

Called by the engine's lanes through the port. It translates and repeats single calls, and never decides: what a code
means stands in `errors`, what becomes of a job is the planner's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from orchestrator.adapters.providers.mock import translate
from orchestrator.adapters.providers.mock.client import Absent, CloudClient, Refused
from orchestrator.adapters.providers.mock.tending import Tending
from orchestrator.model.offer import (
    Capabilities,
    Confirmed,
    LaunchOrder,
    LaunchReply,
    Listing,
    Observation,
    OfferOut,
    OutcomeUnknown,
    Receipt,
    Rejected,
    StopReply,
    Undelivered,
)
from orchestrator.ports.provider import ProviderError, Throttled, Unreachable
from orchestrator.ports.runtime import Head, RuntimeFailure, Tools

T = TypeVar("T")
A = TypeVar("A")

AT_ONCE = 16
"""Calls of one batch that are under way together."""
LONGEST_WAIT_US = 30_000_000
UNDO_TRIES = 8
UNDO_EVERY_S = 0.25


class MockProvider:
    """`ports.provider.Provider` for one mock cloud."""

    def __init__(self, name: str, connection: Mapping[str, Any], tools: Tools) -> None:
        self.name = name
        self._client = CloudClient(name, connection, tools.term)
        self._tools = tools
        self._about: dict[str, Any] | None = None
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._tending = Tending(self._client, tools)

    async def capabilities(self) -> Capabilities:
        """See the port."""
        return translate.capabilities(await self._read_about())

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See the port. Where no offer could be delivered at all, `Unreachable`."""
        if not offers:
            return ()
        await self._read_about()
        return await self._each(offers, self._place, lambda offer, error: _undelivered(offer.offer, error))

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See the port. Where no order got a reply, `Unreachable`; where all were turned away, `Throttled`."""
        return await self._each(orders, self._launch, lambda order, error: OutcomeUnknown(order.key, str(error)))

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See the port."""
        return await self._each(keys, self._stop, lambda key, error: StopReply(key, False, str(error)))

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See the port."""
        done = await self._each(offers, self._withdraw, lambda _offer, _error: "")
        return [offer for offer in done if offer]

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See the port."""
        about = await self._read_about()
        as_of = self._tools.clock.now_us()
        cursor, events = await self._feed(cursor, 0)  # so that every answer given by now is in the reply
        if not events and not self._tending.arrived.is_set():
            cursor, events = await self._wait_for_news(cursor, min(wait_us, LONGEST_WAIT_US))
        return self._observation(cursor, events, str(about["cloud"]), as_of)

    async def list_ours(self) -> Listing:
        """See the port."""
        as_of = self._tools.clock.now_us()
        doc = await self._client.call("GET", "/v1/clusters")
        return Listing(as_of, translate.sightings(doc["clusters"], as_of))

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """See the port."""
        for doc in await self._described(key):
            if doc["address"] and translate.ours(doc):
                try:
                    async for chunk in self._tools.runtime.logs(Head(doc["address"], doc["token"]), key):
                        yield chunk
                except RuntimeFailure as error:
                    raise Unreachable(f"provider {self.name}: {error}") from error

    async def check(self) -> Sequence[str]:
        """See the port."""
        try:
            await self._client.about()
        except Unreachable as error:
            return [f"{error}; start the cloud (`orchestrator mock-cloud`) or correct its address"]
        except ProviderError as error:
            return [str(error)]
        return []

    async def aclose(self) -> None:
        """See the port."""
        await self._tending.aclose()
        await self._client.aclose()

    # ---- one call each ---------------------------------------------------------------------------------------------

    async def _place(self, offer: OfferOut) -> Receipt | Undelivered:
        doc = await self._client.call("POST", "/v1/offers", body=translate.offer_body(offer))
        said = doc["answer"]
        now = self._tools.clock.now_us()
        answer = None if said is None else translate.answer(said, await self._cloud(), now)
        return Receipt(offer.offer, doc["ref"], doc["at"], answer, doc["ledgerHead"], doc["ordinal"])

    async def _launch(self, order: LaunchOrder) -> LaunchReply:
        body = translate.cluster_body(order, self._tools.ledger)
        try:
            doc = await self._client.call("POST", "/v1/clusters", body=body)
        except Refused as no:
            if not await self._undone(order.key):
                return OutcomeUnknown(order.key, f"refused ({no}), and a part of it is still there")
            until = self._tools.clock.now_us() + no.means.hold_off_s * 1_000_000
            return Rejected(order.key, no.means.reason, no.means.scope, until, str(no))
        return Confirmed(order.key, doc["id"])

    async def _undone(self, key: str) -> bool:
        """Whether nothing is left of a launch that was refused: a part of a gang is ended."""
        for _ in range(UNDO_TRIES):
            left = [doc for doc in await self._described(key) if doc["state"] != "terminated"]
            if not left:
                return True
            await self._stop(key)
            await asyncio.sleep(UNDO_EVERY_S)
        return False

    async def _stop(self, key: str) -> StopReply:
        docs = await self._described(key)
        if any(doc["state"] != "terminated" for doc in docs):
            if not all(translate.ours(doc) for doc in docs):
                return StopReply(key, True, "not ours: left alone")
            await self._client.call("DELETE", f"/v1/clusters/{key}")
        return StopReply(key, True)

    async def _withdraw(self, offer: str) -> str:
        await self._client.call("DELETE", f"/v1/offers/{offer}")
        return offer

    async def _described(self, key: str) -> list[dict[str, Any]]:
        try:
            doc = await self._client.call("GET", f"/v1/clusters/{key}")
        except Absent:
            return []
        return list(doc["clusters"])

    async def _feed(self, cursor: str | None, wait_us: int) -> tuple[str, list[dict[str, Any]]]:
        """Everything after `cursor`, however many pages."""
        events: list[dict[str, Any]] = []
        wait_ms = wait_us // 1000
        while True:
            params = {"wait": wait_ms} | ({"cursor": cursor} if cursor else {})
            page = await self._client.call("GET", "/v1/events", params=params, wait_s=wait_ms / 1000)
            events += ({**event, "asOf": page["asOf"]} for event in page["events"])
            cursor, wait_ms = str(page["cursor"]), 0
            if not page["more"]:
                return cursor, events

    async def _wait_for_news(self, cursor: str, wait_us: int) -> tuple[str, list[dict[str, Any]]]:
        """The feed's next page, or an empty one once there is news of a job."""
        feed = asyncio.ensure_future(self._feed(cursor, wait_us))
        news = asyncio.ensure_future(self._tending.arrived.wait())
        try:
            await asyncio.wait({feed, news}, return_when=asyncio.FIRST_COMPLETED)
            return feed.result() if feed.done() else (cursor, [])
        finally:
            feed.cancel()
            news.cancel()

    # ---- putting together ------------------------------------------------------------------------------------------

    def _observation(self, cursor: str, events: list[dict[str, Any]], cloud: str, as_of: int) -> Observation:
        of: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            of.setdefault(event["type"], []).append(event)
        clusters = {event["id"]: event for event in of.get("cluster", ())}
        for cluster in clusters.values():
            self._tending.see(cluster)
        now = self._tools.clock.now_us()
        return Observation(
            cursor,
            as_of,
            answers=tuple(translate.answer(event, cloud, now) for event in of.get("answer", ())),
            sightings=(*translate.sightings(clusters.values(), as_of), *self._tending.take()),
            charges=tuple(translate.charge(event) for event in of.get("charge", ())),
            notices=tuple(translate.notice(event, now) for event in of.get("notice", ())),
            prices=tuple(translate.price(event) for event in of.get("price", ())),
        )

    async def _each(
        self, items: Sequence[A], one: Callable[[A], Awaitable[T]], failed: Callable[[A, Exception], T]
    ) -> list[T]:
        """One reply per item, in order; an error of all of them is the batch's."""

        async def guarded(item: A) -> T | Exception:
            async with self._gate:
                try:
                    return await one(item)
                except (ProviderError, Refused, Absent) as error:
                    return error

        replies = await asyncio.gather(*(guarded(item) for item in items))
        errors = [reply for reply in replies if isinstance(reply, ProviderError)]
        if errors and len(errors) == len(items):
            raise errors[0]
        return [
            failed(item, reply) if isinstance(reply, Exception) else reply
            for item, reply in zip(items, replies, strict=True)
        ]

    async def _read_about(self) -> dict[str, Any]:
        if self._about is None:
            self._about = await self._client.about()
        return self._about

    async def _cloud(self) -> str:
        return str((await self._read_about())["cloud"])


def _undelivered(offer: str, error: Exception) -> Undelivered:
    return Undelivered(offer, str(error), error.retry_after_us if isinstance(error, Throttled) else None)
