"""A cloud inside this process that costs as little as a cloud can: what is measured is the engine, not the pretence.

Made by `drain` through the composition root's factories. It keeps the provider port's promises, answers in a later
turn through its feed, and decides by the offer's id alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from benchmarks.world import SOLD_OUT
from orchestrator.model.ids import parse_offer_id
from orchestrator.model.offer import (
    Answer,
    Capabilities,
    Charge,
    Confirmed,
    LaunchOrder,
    LaunchReply,
    Listing,
    Observation,
    OfferOut,
    Reason,
    Receipt,
    Sighting,
    SightingState,
    StopReply,
    Undelivered,
)
from orchestrator.model.placement import parse_terms
from orchestrator.ports.provider import Provider
from orchestrator.ports.runtime import Tools

DECLINES, SILENT = 0.20, 0.05
"""Shares of offers."""
PATIENCE = 3
"""Refusals in a row after which a job is accepted by whoever is asked next: 0.4 % of jobs. Without it the last few jobs
of a drain would be refused by all six and wait out the 30 s between two rounds, and that wait would be measured."""
ANSWER_S = 0.010
"""From an offer's arrival to its answer."""
HICCUP_US, DROUGHT_US = 1_000_000, 10_000_000
"""How long a decline holds: what 30 minutes and 5 hours are to a window of 15 minutes, 1,800 times faster."""
ASKED = 1_900_000
"""Micro-dollars per GPU-hour."""
OPEN_OFFERS = 256
"""What each cloud lets us have open at a time."""
REASONS = (Reason.CAPACITY, Reason.CAPACITY, Reason.PRICE, Reason.POLICY)
"""Half of the declines are for capacity, which parks the whole shape there."""


@dataclass(slots=True)
class Doors:
    """What all clouds of one run share: whether they let anything in, and what they have seen."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    agreeable: bool = False
    """Everybody accepts everything: for lives without a detour."""
    offers: int = 0
    """To somebody who may accept: the backlog's are not counted."""
    declined: int = 0
    silent: int = 0
    confirmed: int = 0


class PretendedCloud:
    """`ports.provider.Provider` in memory."""

    def __init__(self, name: str, tools: Tools, doors: Doors) -> None:
        self.name = name
        self._tools, self._doors = tools, doors
        self._news: list[Answer] = []
        self._cursor = 0
        self._some = asyncio.Event()
        self._launched: dict[str, Sighting] = {}
        self._sightings: list[Sighting] = []
        self._charges: list[Charge] = []

    async def capabilities(self) -> Capabilities:
        """See Provider."""
        return Capabilities(max_open_offers=OPEN_OFFERS)

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See Provider. Answers come later, through the feed."""
        await self._doors.open.wait()
        answers = [answer for offer in offers if (answer := self._answer(offer)) is not None]
        asyncio.get_running_loop().call_later(ANSWER_S, self._tell, answers)
        return [offer.receipt(offer.offer[-12:]) for offer in offers]

    def _answer(self, offer: OfferOut) -> Answer | None:
        """None: silence."""
        terms = parse_terms(offer.terms)
        if terms.accelerators == (SOLD_OUT,):
            return self._no(offer, Reason.CAPACITY, DROUGHT_US)
        self._doors.offers += 1
        draw = int.from_bytes(sha256(offer.offer.encode()).digest()[:4], "big") / 2**32
        patient = parse_offer_id(offer.offer)[1] <= PATIENCE and not self._doors.agreeable
        if patient and draw < DECLINES:
            self._doors.declined += 1
            return self._no(offer, REASONS[int(draw / DECLINES * len(REASONS))], HICCUP_US)
        if patient and draw < DECLINES + SILENT:
            self._doors.silent += 1
            return None
        return Answer(
            offer=offer.offer, accepted=True, terms_hash=offer.terms_hash, price=ASKED,
            region=terms.regions[0], accelerator=terms.accelerators[0], ttl_us=600_000_000,
        )  # fmt: skip

    def _no(self, offer: OfferOut, reason: Reason, for_us: int) -> Answer:
        until = self._tools.clock.now_us() + for_us
        return Answer(offer=offer.offer, accepted=False, reason=reason, until=until)

    def _tell(self, answers: list[Answer]) -> None:
        self._news.extend(answers)
        self._some.set()

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See Provider. Every launch is held under its key."""
        await asyncio.sleep(0)
        now = self._tools.clock.now_us()
        for order in orders:
            gpus = order.workers * order.gpus
            seen = Sighting(order.key, SightingState.PROVISIONING, now, order.ledger, gpus=gpus)
            self._launched.setdefault(order.key, seen)
        self._doors.confirmed += len(orders)
        return [Confirmed(order.key) for order in orders]

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See Provider."""
        for key in keys:
            self._launched.pop(key, None)
        return [StopReply(key, True) for key in keys]

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See Provider."""
        return offers

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See Provider."""
        if not self._news and not self._sightings and wait_us > 0:
            await self._wait(wait_us)
        self._some.clear()
        answers, self._news = tuple(self._news), []
        sightings, self._sightings = tuple(self._sightings), []
        charges, self._charges = tuple(self._charges), []
        self._cursor += 1
        now = self._tools.clock.now_us()
        return Observation(str(self._cursor), now, answers=answers, sightings=sightings, charges=charges)

    def show(self, state: SightingState) -> None:
        """Say through the feed that everything launched here is in this state; what has ended is charged."""
        self._sightings = [replace(seen, state=state) for seen in self._launched.values()]
        if state is SightingState.ENDED:
            self._charges = [Charge(seen.key, seen.key, ASKED, 3600, final=True) for seen in self._launched.values()]
            self._launched.clear()
        self._some.set()

    async def _wait(self, wait_us: int) -> None:
        try:
            async with asyncio.timeout(wait_us / 1e6):
                await self._some.wait()
        except TimeoutError:
            return

    async def list_ours(self) -> Listing:
        """See Provider."""
        return Listing(self._tools.clock.now_us(), tuple(self._launched.values()))

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


def factory(doors: Doors) -> Callable[[str, Mapping[str, Any], Tools], Provider]:
    """What the composition root makes clouds with."""

    def make(name: str, connection: Mapping[str, Any], tools: Tools) -> Provider:
        return PretendedCloud(name, tools, doors)

    return make
