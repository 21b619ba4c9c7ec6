"""What does the kit need to know of the provider that it examines, and how does it talk to it?

A `Subject` is made by whoever calls `check_provider`: the provider, sizes that it serves, and levers that bring it
into situations. A lever that is None leaves its promises unjudged. A `Session` is the kit's own hand: it places,
launches, waits and cleans up, and never looks behind the port.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from orchestrator.model.ids import launch_key, new_job_id
from orchestrator.model.offer import (
    Answer,
    Confirmed,
    LaunchOrder,
    OfferOut,
    Receipt,
    Sighting,
    SightingState,
    Undelivered,
)
from orchestrator.model.placement import Terms, parse_terms
from orchestrator.model.wire import AttemptEnv
from orchestrator.ports.provider import Provider
from orchestrator.testing.builders import an_attempt, an_offer, some_terms
from orchestrator.testing.clock import STORY_BEGINS_US

T = TypeVar("T")
Lever = Callable[[], Awaitable[None]]


@dataclass(kw_only=True)
class Subject:
    """The provider under examination. It must accept `terms` and start what was accepted."""

    provider: Provider
    terms: Terms = field(default_factory=some_terms)
    """Small enough that three of them fit at once."""
    attempt: Callable[[str, int], AttemptEnv] = an_attempt
    """(job, epoch) → what its agent is told; it should run longer than `patience_s`."""
    patience_s: float = 10.0
    """How long anything may take that must come: an answer, a machine, an end."""
    poll_s: float = 0.5
    all_gpus: Terms | None = None
    """Terms that take all that the provider has, so that nothing fits beside them."""
    declined: Terms | None = None
    """Terms to which it must say no."""
    rejected: Callable[[LaunchOrder], LaunchOrder] | None = None
    """Makes an order that it must reject for good."""
    away: Callable[[bool], Awaitable[None]] | None = None
    """Makes the provider unreachable (True), and brings it back (False)."""
    lock_out: Callable[[bool], Awaitable[None]] | None = None
    """Makes it turn down our credentials (True), and take them again (False)."""
    throttle: Lever | None = None
    """Makes it turn away the next call with "come back later"."""
    end: Callable[[str], Awaitable[None]] | None = None
    """Lets what runs under this key end by itself, so that it is billed."""
    foreign: Callable[[], Awaitable[Collection[str]]] | None = None
    """Names of machines that are alive there and not ours."""
    reconnect: Callable[[], Awaitable[Provider]] | None = None
    """A new connection to the same provider, as after a restart of ours; the old one is closed by then."""


class Broken(AssertionError):
    """A promise is broken; the message says what was seen."""


def must(kept: object, seen: str) -> None:
    """Broken unless `kept`."""
    if not kept:
        raise Broken(seen)


class Session:
    """One examination. Everything made in it has job ids of its own and is taken back by `clean`."""

    def __init__(self, subject: Subject, seed: int | None = None) -> None:
        self.subject = subject
        self.provider = subject.provider
        self._random = random.Random(seed)
        self._offers: list[str] = []
        self._keys: list[str] = []

    def order(self, offer: OfferOut, answer: Answer | None = None, epoch: int = 1, **changes: Any) -> LaunchOrder:
        """The launch that follows this offer."""
        job, terms = offer.offer.rsplit("-o", 1)[0], parse_terms(offer.terms)
        order = LaunchOrder(
            key=launch_key(job, epoch),
            job=job,
            project="default",
            epoch=epoch,
            offer=offer.offer,
            region=(answer.region if answer else None) or next(iter(terms.regions), ""),
            accelerator=(answer.accelerator if answer else None) or next(iter(terms.accelerators), ""),
            workers=terms.workers,
            gpus=terms.gpus_per_worker,
            cpus=terms.cpus,
            memory=terms.memory,
            delete_after_ms=3_600_000,
            attempt=self.subject.attempt(job, epoch).to_json(),
            ledger="kit-ledger",
            term=1,
            price=answer.price if answer else None,
        )
        return msgspec.structs.replace(order, **changes)

    def job(self) -> str:
        """A job that nobody has heard of."""
        return new_job_id(STORY_BEGINS_US, self._random.randbytes(10))

    def offer(self, terms: Terms | None = None, n: int = 1) -> OfferOut:
        """An offer for a new job."""
        return an_offer(self.job(), n, terms or self.subject.terms)

    async def deliver(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """Deliver, and remember to take them back."""
        self._offers += [offer.offer for offer in offers]
        return await self.provider.place_offers(offers)

    async def place(self, offers: Sequence[OfferOut]) -> dict[str, Answer]:
        """Deliver and wait for every answer; offer id → answer."""
        cursor = (await self.provider.observe(None, 0)).cursor
        receipts = await self.deliver(offers)
        answers = {r.offer: a for r in receipts if (a := getattr(r, "answer", None)) is not None}
        wanted = {offer.offer for offer in offers}

        async def all_in() -> dict[str, Answer] | None:
            nonlocal cursor
            seen = await self.provider.observe(cursor, 0)
            cursor = seen.cursor
            answers.update({a.offer: a for a in seen.answers if a.offer in wanted})
            return answers if set(answers) == wanted else None

        return await self.wait(all_in, f"answers to {len(wanted)} offers")

    async def accepted(self, terms: Terms | None = None) -> tuple[OfferOut, Answer]:
        """An offer that was accepted."""
        offer = self.offer(terms)
        answer = (await self.place([offer]))[offer.offer]
        must(answer.accepted, f"it declined terms that it should take: {answer.reason} {answer.detail}")
        return offer, answer

    async def launched(self, **changes: Any) -> LaunchOrder:
        """A launch that was confirmed."""
        offer, answer = await self.accepted()
        order = self.order(offer, answer, **changes)
        [reply] = await self.launch([order])
        must(isinstance(reply, Confirmed), f"an order on accepted terms was not confirmed: {reply}")
        return order

    async def running(self, **changes: Any) -> LaunchOrder:
        """A launch that is seen running."""
        order = await self.launched(**changes)
        await self.runs(order.key)
        return order

    async def run(self, orders: Sequence[LaunchOrder]) -> None:
        """Launch these and see them running."""
        await self.launch(orders)
        for order in orders:
            await self.runs(order.key)

    async def runs(self, key: str) -> None:
        """Wait until a listing says that it runs."""

        async def seen() -> bool | None:
            sighting = await self.seen(key)
            return (sighting is not None and sighting.state is SightingState.RUNNING) or None

        await self.wait(seen, f"{key} running")

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[object]:
        """Launch, and remember to take it back."""
        self._keys += [order.key for order in orders]
        return await self.provider.launch(orders)

    async def seen(self, key: str) -> Sighting | None:
        """What a listing says of this key; None: it is not there."""
        listing = await self.provider.list_ours()
        return next((s for s in listing.sightings if s.key == key and s.state is not SightingState.GONE), None)

    async def lag(self) -> None:
        """Let the declared lag of listings pass."""
        await asyncio.sleep((await self.provider.capabilities()).list_lag_us / 1_000_000 + self.subject.poll_s)

    async def wait(self, probe: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Ask again and again until it says something; Broken after `patience_s`."""
        for _ in range(max(1, round(self.subject.patience_s / self.subject.poll_s))):
            found = await probe()
            if found is not None:
                return found
            await asyncio.sleep(self.subject.poll_s)
        found = await probe()
        must(found is not None, f"still waiting after {self.subject.patience_s} s: {what}")
        assert found is not None
        return found

    async def stop_all(self) -> None:
        """Stop every launch of this session until no listing shows it."""
        mine = set(self._keys)

        async def gone() -> bool | None:
            alive = [s.key for s in (await self.provider.list_ours()).sightings if s.state is not SightingState.GONE]
            left = sorted(mine.intersection(alive))
            if left:
                await self.provider.stop(left)
            return None if left else True

        if mine:
            await self.provider.stop(sorted(mine))
            await self.lag()
            await self.wait(gone, "what was stopped is still listed")
        self._keys.clear()

    async def clean(self) -> None:
        """Leave nothing behind."""
        await self.stop_all()
        if self._offers:
            await self.provider.withdraw(self._offers)
        self._offers.clear()
