"""Providers that are wrong when calls go wrong, or about money, each in one way. See the package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from orchestrator.model.offer import (
    Charge,
    LaunchOrder,
    LaunchReply,
    Listing,
    Observation,
    OfferOut,
    Reason,
    Receipt,
    Rejected,
    Undelivered,
)
from orchestrator.ports.provider import Misconfigured, Throttled, Unreachable
from orchestrator.testing.scripted import ScriptedProvider

but = msgspec.structs.replace


class Careless(ScriptedProvider):
    """Forgets what it was about to do when a call is cut off, and does it once more."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        replies = await super().launch(orders)
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            for order in orders:
                self.machines.launches[order.key].machines += tuple(f"{order.key}-x{n}" for n in range(order.workers))
            raise
        return replies


class Liar(ScriptedProvider):
    """Calls a launch rejected when it could not reach anybody."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        try:
            return await super().launch(orders)
        except Unreachable as error:
            return [Rejected(order.key, Reason.ERROR, detail=str(error)) for order in orders]


class Blank(ScriptedProvider):
    """Lists nothing when it could not reach anybody."""

    async def list_ours(self) -> Listing:
        """Bent."""
        try:
            return await super().list_ours()
        except Unreachable:
            return Listing(self.stage.clock.now_us(), ())


class Dropper(ScriptedProvider):
    """Loses what ran while it was out of reach."""

    def go_unreachable(self, away: bool = True) -> None:
        """Bent."""
        if away:
            self.machines.kill()
        super().go_unreachable(away)


class Swallower(ScriptedProvider):
    """Reports "come back later" as out of reach."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        try:
            return await super().launch(orders)
        except Throttled as error:
            raise Unreachable("no reply") from error


class Shrinker(ScriptedProvider):
    """Takes money back from a bill that was already sent."""

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """Bent."""
        return _billed(await super().observe(cursor, wait_us), lambda c: 0 if c.final else c.microdollars)


class Overcharger(ScriptedProvider):
    """Bills twice the price that was agreed."""

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """Bent."""
        return _billed(await super().observe(cursor, wait_us), lambda c: 2 * c.microdollars)


def _billed(seen: Observation, amount: Callable[[Charge], int]) -> Observation:
    return but(seen, charges=tuple(but(c, microdollars=amount(c)) for c in seen.charges))


class Worrier(ScriptedProvider):
    """Finds something missing although all is well."""

    async def check(self) -> Sequence[str]:
        """Bent."""
        return ["credentials look odd; log in again"]


class Amnesiac(ScriptedProvider):
    """Acknowledges an offer whose delivery was once cut off, and never answers it."""

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """Bent."""
        cut: set[str] = self.__dict__.setdefault("cut", set())
        try:
            taken = {r.offer: r for r in await super().place_offers([o for o in offers if o.offer not in cut])}
        except asyncio.CancelledError:
            cut |= {offer.offer for offer in offers}
            raise
        return [taken.get(offer.offer, Receipt(offer.offer, "forgotten")) for offer in offers]


class Clinger(ScriptedProvider):
    """Goes on waiting when a long poll is cut off."""

    async def _news(self, wait_us: int) -> None:
        try:
            await super()._news(wait_us)
        except asyncio.CancelledError:
            await super()._news(wait_us)


class Denier(ScriptedProvider):
    """Calls a launch rejected when its credentials were turned down."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        try:
            return await super().launch(orders)
        except Misconfigured as error:
            return [Rejected(order.key, Reason.POLICY, detail=str(error)) for order in orders]


class Babbler(ScriptedProvider):
    """Has output of launches that never were."""

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """Bent."""
        if key not in self.machines.launches:
            yield b"no such launch\n"
        async for line in super().logs(key):
            yield line
