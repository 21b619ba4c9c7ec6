"""What changes where a supplier's people answer offers by hand? Its adapter is not asked; everything else is its own.

Made by `bootstrap` around the provider's own adapter (`answers: by_hand` in the providers file). An offer is laid out:
`GET /v1/offers` shows it, and a webhook tells of it where there is one. The answer does not come through here: it is a
wish at the desk, durable before its author has a reply. So the feed holds no answers, and launches are not earmarked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from orchestrator.adapters.byhand.webhook import Undeliverable, Webhook
from orchestrator.model.offer import (
    Capabilities,
    Firmness,
    LaunchOrder,
    LaunchReply,
    Listing,
    Observation,
    OfferOut,
    Receipt,
    StopReply,
    Undelivered,
)
from orchestrator.ports.access import Access
from orchestrator.ports.provider import Provider, Unreachable

AT_ONCE = 16
"""Calls of one webhook that are under way together."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
"""Between two tries of one withdrawal: the engine asks each second for as long as it takes; a webhook is spared."""
_WAYS_IN = ("ranks", "run_in", "connect", "output", "stacks")


class ByHand:
    """`ports.provider.Provider` whose answers come from people; `inner` starts and ends what they accept."""

    def __init__(self, inner: Provider, webhook: Webhook | None = None) -> None:
        """Without a webhook an offer counts as delivered once it is laid out."""
        self.name = inner.name
        self._inner, self._webhook = inner, webhook
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._spared: dict[str, tuple[float, float]] = {}
        """Offer → (not told again before, the pause before that)."""
        if isinstance(inner, Access):
            for way in _WAYS_IN:
                setattr(self, way, getattr(inner, way))

    async def capabilities(self) -> Capabilities:
        """See Provider. Nothing is earmarked by a word of people, as far as the adapter knows."""
        return replace(await self._inner.capabilities(), firm=Firmness.NONE, answers_itself=False)

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See Provider."""
        return await asyncio.gather(*map(self._place, offers))

    async def _place(self, offer: OfferOut) -> Receipt | Undelivered:
        if self._webhook is None:
            return offer.receipt(f"laid out:{offer.offer}")
        async with self._gate:
            try:
                echo = await self._webhook.tell_offer(offer)
            except Undeliverable as error:
                return Undelivered(offer.offer, str(error))
        receipt = offer.receipt(f"webhook:{offer.offer}")
        return receipt if echo is None else replace(receipt, ordinal=echo.ordinal, ledger_head=echo.head)

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See Provider. Acknowledged when the webhook was; without one, when it is no longer laid out: at once."""
        told = await asyncio.gather(*map(self._withdraw, offers))
        return [offer for offer, done in zip(offers, told, strict=True) if done]

    async def _withdraw(self, offer: str) -> bool:
        now, (until, pause) = asyncio.get_running_loop().time(), self._spared.get(offer, (0.0, FIRST_PAUSE_S / 2))
        if self._webhook is None or now < until:
            return self._webhook is None
        async with self._gate:
            try:
                await self._webhook.tell_withdrawn(offer)
            except Undeliverable:
                pause = min(pause * 2, LONGEST_PAUSE_S)
                self._spared[offer] = now + pause, pause
                return False
        self._spared.pop(offer, None)
        return True

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See Provider: the adapter's feed."""
        return replace(await self._inner.observe(cursor, wait_us), answers=())

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See Provider."""
        return await self._inner.launch(orders)

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See Provider."""
        return await self._inner.stop(keys)

    async def list_ours(self) -> Listing:
        """See Provider."""
        return await self._inner.list_ours()

    def logs(self, key: str) -> AsyncIterator[bytes]:
        """See Provider."""
        return self._inner.logs(key)

    async def check(self) -> Sequence[str]:
        """See Provider; and whether the webhook's secret is there."""
        lacking = [] if self._webhook is None else self._webhook.lacking()
        try:
            return [*await self._inner.check(), *lacking]
        except Unreachable as error:
            return [str(error), *lacking]

    async def aclose(self) -> None:
        """See Provider."""
        if self._webhook is not None:
            await self._webhook.aclose()
        await self._inner.aclose()
