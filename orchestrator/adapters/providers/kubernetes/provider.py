"""A Kubernetes cluster behind the provider port: how does each verb become questions to, and changes of, the cluster?

Made by `factory` for `adapter: kubernetes`. Without a Kueue queue it answers by itself (the receipt holds the answer,
`firm: none`); with one, Kueue does (`firm: quota`). It translates and never decides: a launch is made once under its
key, whatever becomes of it. Prices are the operator's price book's; the feed does not repeat them, for the engine has
the book. A launch that is gone is billed by them (`billing`). Two things it does unasked, for nobody would order them
again: what is half made is completed (`completing`), and what has been over for an hour is stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes import checking, logs
from orchestrator.adapters.providers.kubernetes.access import KubernetesAccess
from orchestrator.adapters.providers.kubernetes.bills import Bills
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.complaints import Complaints
from orchestrator.adapters.providers.kubernetes.completing import Completing
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.credentials import place
from orchestrator.adapters.providers.kubernetes.errors import Absent, Expired, Meaning, Refused, Taken
from orchestrator.adapters.providers.kubernetes.feed import Feed
from orchestrator.adapters.providers.kubernetes.kueue import workload_name
from orchestrator.adapters.providers.kubernetes.launching import Launching
from orchestrator.adapters.providers.kubernetes.reservations import Reservations
from orchestrator.adapters.providers.kubernetes.resources import RECORD
from orchestrator.adapters.providers.kubernetes.room import Room
from orchestrator.adapters.providers.kubernetes.scribe import Scribe
from orchestrator.model.offer import (
    Capabilities,
    Confirmed,
    Firmness,
    LaunchOrder,
    LaunchReply,
    Listing,
    Notice,
    Observation,
    OfferOut,
    OutcomeUnknown,
    Reason,
    Receipt,
    Rejected,
    Sighting,
    SightingState,
    StopReply,
    Undelivered,
)
from orchestrator.ports.provider import ProviderError, Throttled, Unreachable
from orchestrator.ports.runtime import Tools

T = TypeVar("T")
A = TypeVar("A")

AT_ONCE = 16
"""Calls of one batch that are under way together."""
LONGEST_WAIT_US = 30_000_000
HEARD_US = 1_000_000
"""For how long a reply says that the cluster answers: whoever calls again meanwhile does not ask once more."""
FORGOTTEN_US = 3_600_000_000
"""How long a launch of which no machine is left waits for a stop; then it is stopped by us."""
TICK_S = 2.0
"""How often, while somebody waits for news, it is looked at what only time changes."""


class KubernetesProvider(KubernetesAccess):
    """`ports.provider.Provider` for one namespace of one cluster; `connection.Connection` says which."""

    def __init__(self, name: str, connection: Mapping[str, Any], tools: Tools) -> None:
        self.name = name
        self._connection = parse_connection(name, connection)
        self._tools = tools
        self._now = tools.clock.now_us
        told = self._connection
        self.place = place(told.kubeconfig, told.context, told.namespace)
        """See `ports.provider.Placed`."""
        self.client = Client(name, self._connection.kubeconfig, self._connection.context)
        self.cluster = Cluster(self.client, self._connection, self._now)
        self._feed = Feed(tools.clock.entropy(6).hex())
        self._bills = Bills(tools.ledger, self._feed.tell)
        self._scribe = Scribe(self.cluster, self._bills, self._now)
        self._completing = Completing(self.cluster, tools.ledger, self._now, tools.clock.entropy)
        self._launching = Launching(self.cluster, self._scribe, self._completing, self._now)
        self._complaints = Complaints(self.cluster, self._now)
        self._told: dict[str, Sighting] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._room: Room | None = None
        self._away = self._restored = False
        self._tidy_at = 0
        self._heard = 0, 0
        """(replies, when) at the last call."""
        queued = bool(self._connection.queue)
        self._kueue = Reservations(self.cluster, self._scribe, tools, self._feed.tell) if queued else None

    # ---- the port --------------------------------------------------------------------------------------------------

    async def capabilities(self) -> Capabilities:
        """See Provider."""
        if self._connection.queue:
            return Capabilities(firm=Firmness.QUOTA, delete_after=True)
        return Capabilities(firm=Firmness.NONE, delete_after=True, answers_itself=True)

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See Provider. Where the cluster does not answer, `Unreachable`."""
        if not offers:
            return ()
        await self._reach()
        if self._kueue:
            return await self._each(offers, self._kueue.place, lambda offer, error: _undelivered(offer.offer, error))
        room, stock = self._rooms(), self.cluster.stock()
        return [room.receipt(offer, stock, self._now()) for offer in offers]

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See Provider. Where no order got a reply, `Unreachable`; where all were turned away, `Throttled`."""
        if not orders:
            return ()
        await self._reach()
        return await self._each(orders, self._launch, lambda order, error: OutcomeUnknown(order.key, str(error)))

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See Provider."""
        if not keys:
            return ()
        await self._reach()
        return await self._each(keys, self._launching.stop, lambda key, error: StopReply(key, False, str(error)))

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See Provider."""
        if not offers:
            return ()
        await self._reach()
        if self._kueue:
            done = await self._each(offers, self._kueue.withdraw, lambda _offer, _error: "")
            return [offer for offer in done if offer]
        if [offer for offer in offers if self._rooms().release(offer)]:
            self._feed.tell(Notice("capacity"))
        return [*offers]

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See Provider."""
        as_of = self._now()
        await self._reach()
        until = as_of + min(wait_us, LONGEST_WAIT_US)
        with self._in_our_words():
            if self._kueue:
                await self._kueue.settle(fresh=True)
        while True:
            with self._in_our_words():
                await self._look()
            left_s = (until - self._now()) / 1e6
            if left_s <= 0 or self._feed.behind(cursor):
                return self._feed.since(cursor, as_of)
            self.cluster.news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, self._tick_s())):
                    await self.cluster.news.wait()
            if any(mirror.failing or mirror.stale for mirror in self.cluster.mirrors):
                await self._reach()

    async def list_ours(self) -> Listing:
        """See Provider. Asks the API server itself; leaves out what is gone for good."""
        as_of = self._now()
        await self._reach()
        with self._in_our_words():
            seen = await self.cluster.look()
            await self._scribe.write()
        return Listing(as_of, tuple(s for s in seen if s.state is not SightingState.GONE))

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """See Provider: of every rank, one after the other."""
        await self._reach()
        async for line in logs.lines(self.client, self.cluster.launch(key)):
            yield line

    async def check(self) -> Sequence[str]:
        """See Provider."""
        return await checking.missing(self.client, self._connection)

    async def aclose(self) -> None:
        """See Provider."""
        await self.cluster.aclose()
        await self.client.aclose()

    # ---- one order -------------------------------------------------------------------------------------------------

    async def _launch(self, order: LaunchOrder) -> LaunchReply:
        """The earmark of one that is rejected is given back, and not told as room: who hears of room asks again."""
        reply = await self._launched(order)
        if isinstance(reply, Rejected) and self._kueue:
            with suppress(ProviderError, Absent, Taken, Refused):  # else it ends by itself
                await self._kueue.withdraw(order.offer, quietly=True)
        elif isinstance(reply, Rejected):
            self._rooms().release(order.offer)
        return reply

    async def _launched(self, order: LaunchOrder) -> LaunchReply:
        ledger = order.ledger or self._tools.ledger
        first = self._kueue is None and self._rooms().first(order.offer, self._now())
        if not self.cluster.launch(order.key).made:
            means, why = await self._refused(order)
            if means is not None:
                known = await self._launching.known(order)
                return known or await self._launching.give_up(order, ledger, means, why)
        workload = workload_name(order.offer) if self._kueue else None
        with self._kueue.making(order.offer) if self._kueue else nullcontext():
            reply = await self._launching.make(order, ledger, workload, first=first)
        if isinstance(reply, Confirmed) and self._kueue:
            if reply.ref != f"{RECORD.name}/{order.key}":
                await self._kueue.start(order.offer)
        elif isinstance(reply, Confirmed):
            self._rooms().launched(order, self._now())
        return reply

    async def _refused(self, order: LaunchOrder) -> tuple[Meaning | None, str]:
        if self._kueue:
            return await self._kueue.refused(order.offer), "its quota is not reserved any more"
        short = self._rooms().refused(order, self.cluster.stock(), self._now())
        if short is None:
            return None, ""
        return Meaning(Reason.SPEC if short.ever else Reason.CAPACITY), short.detail

    def _rooms(self) -> Room:
        if self._room is None:
            self._room = Room(self._connection, self.cluster.runtime, self._tools.prices)
        self._room.runtime = self.cluster.runtime
        return self._room

    # ---- looking ---------------------------------------------------------------------------------------------------

    async def _reach(self) -> None:
        """The cluster answers now, and everything was read. Raises a `ProviderError` otherwise."""
        try:
            with self._in_our_words():
                await self._answers()
                if self._away:
                    self._away = False
                    self.cluster.again()
                await self.cluster.ready()
        except Unreachable:
            self._away = True
            raise
        if not self._restored:
            with self._in_our_words():
                await self._restore()
            self._restored = True

    async def _answers(self) -> None:
        """The API server has replied since the last call, which was a moment ago, or does so now."""
        (replies, at), now = self._heard, self._now()
        if self._away or self.client.replies == replies or now - at > HEARD_US:
            await self.client.alive()
        self._heard = self.client.replies, now

    async def _restore(self) -> None:
        """What an earlier server knew and only the cluster still does."""
        if self._kueue:
            await self._kueue.restore()
        if self._tools.prices:
            self._bills.restore(await self.cluster.closed())

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        """What the API server refuses to answer is no answer."""
        try:
            yield
        except (Absent, Taken, Expired, Refused) as error:
            raise Unreachable(f"provider {self.name}: {error}") from error

    async def _look(self) -> None:
        """Tell what has become of every launch with news, and of those that only time settles."""
        cluster = self.cluster
        await self._completing.look([*cluster.dirty])  # before Kueue is told to start it
        if self._kueue:
            await self._kueue.settle(fresh=False)
            await self._kueue.tend()
        await self._complaints.hear(self._told.values())
        dirty = cluster.dirty | {key for key, seen in self._told.items() if seen.state is SightingState.STOPPING}
        cluster.dirty.clear()
        for key in sorted(dirty):
            self._tell(key)
        if cluster.freed:
            cluster.freed = False
            self._feed.tell(Notice("capacity"))
        await self._scribe.write()
        await self._tidy()

    async def _tidy(self) -> None:
        """Stop our launches of which no machine has been left for an hour: the stop that should have come was lost with
        a server of ours."""
        if self._now() < self._tidy_at:
            return
        self._tidy_at = self._now() + FORGOTTEN_US // 10
        ours = (key for key, seen in self._told.items() if seen.ledger == self._tools.ledger and self._old(seen))
        with suppress(ProviderError):  # later, then
            await self._each([*ours], self._launching.stop, lambda key, error: StopReply(key, False, str(error)))

    def _old(self, seen: Sighting) -> bool:
        return seen.state is SightingState.GONE and self._now() - seen.seen_at >= FORGOTTEN_US

    def _tick_s(self) -> float:
        due = self._kueue.next_deadline() if self._kueue else None
        return TICK_S if due is None else min(TICK_S, max(0.01, (due - self._now()) / 1e6))

    def _tell(self, key: str) -> None:
        seen, before = self.cluster.sighting(key), self._told.get(key)
        if seen is None:
            if key in self.cluster.memory.unwritten or key in self.cluster.memory.coming:
                return  # its record will say
            self._told.pop(key, None)
            self._bills.forget(key)
            self.cluster.freed |= self._rooms().ended(key)
            if before is not None and before.state is not SightingState.GONE:  # closed as soon as it was stopped
                self._feed.tell(replace(before, state=SightingState.GONE, seen_at=self._now(), gpus=0))
            return
        if before is None or (before.state, before.machines, before.detail) != (seen.state, seen.machines, seen.detail):
            self._told[key] = seen
            self._feed.tell(seen)
        if seen.state is SightingState.GONE:
            self.cluster.freed |= self._rooms().ended(key)
            self._scribe.gone(key)

    async def _each(
        self, items: Sequence[A], one: Callable[[A], Awaitable[T]], failed: Callable[[A, Exception], T]
    ) -> list[T]:
        """One reply per item, in order; an error of all of them is the batch's."""

        async def guarded(item: A) -> T | Exception:
            async with self._gate:
                try:
                    return await one(item)
                except (ProviderError, Absent, Taken, Expired, Refused) as error:
                    return error

        replies = await asyncio.gather(*(guarded(item) for item in items))
        errors = [reply for reply in replies if isinstance(reply, ProviderError)]
        if errors and len(errors) == len(replies):
            raise next((error for error in errors if isinstance(error, Throttled)), errors[0])
        return [
            failed(item, reply) if isinstance(reply, Exception) else reply
            for item, reply in zip(items, replies, strict=True)
        ]


def _undelivered(offer: str, error: Exception) -> Undelivered:
    return Undelivered(offer, str(error), error.retry_after_us if isinstance(error, Throttled) else None)
