"""Providers that are wrong about offers, answers and the feed, each in one way. See the package."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from orchestrator.model.offer import (
    Capabilities,
    Observation,
    OfferOut,
    Receipt,
    Undelivered,
)
from orchestrator.ports.provider import Misconfigured
from orchestrator.testing.scripted import ScriptedProvider

but = msgspec.structs.replace


class Fickle(ScriptedProvider):
    """Promises another thing each time it is asked."""

    async def capabilities(self) -> Capabilities:
        """Bent."""
        said = await super().capabilities()
        return but(said, max_open_offers=64 + self.calls["capabilities"])


class Shuffler(ScriptedProvider):
    """Replies to a batch of offers backwards."""

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """Bent."""
        return [*await super().place_offers(offers)][::-1]


class Stamper(ScriptedProvider):
    """Gives a new reference at each delivery of the same offer."""

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """Bent."""
        receipts = await super().place_offers(offers)
        stamp = self.calls["place_offers"]
        return [but(r, ref=f"{r.ref}/{stamp}") if isinstance(r, Receipt) else r for r in receipts]


class Mute(ScriptedProvider):
    """Takes an offer and does not say which ledger head it came with."""

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """Bent."""
        return [but(r, ledger_head="") if isinstance(r, Receipt) else r for r in await super().place_offers(offers)]


class Forgetful(ScriptedProvider):
    """Tells an answer once; the same cursor again no longer has it."""

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """Bent."""
        seen = await super().observe(cursor, wait_us)
        told: set[str] = self.__dict__.setdefault("told", set())
        new = tuple(a for a in seen.answers if a.offer not in told)
        told.update(a.offer for a in new)
        return but(seen, answers=new)


class Mumbler(ScriptedProvider):
    """Says yes, but not to what."""

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """Bent."""
        seen = await super().observe(cursor, wait_us)
        return but(seen, answers=tuple(but(a, terms_hash=None) for a in seen.answers))


class Greedy(ScriptedProvider):
    """Takes more workers than it was offered."""

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """Bent."""
        seen = await super().observe(cursor, wait_us)
        more = (but(a, workers=a.workers + 2) if a.workers is not None else a for a in seen.answers)
        return but(seen, answers=tuple(more))


class Vague(ScriptedProvider):
    """Says no without a reason."""

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """Bent."""
        seen = await super().observe(cursor, wait_us)
        return but(seen, answers=tuple(but(a, reason=None) for a in seen.answers))


class Hoarder(ScriptedProvider):
    """Acknowledges a withdrawal, and releases an earmark on all that it has only when asked a second time."""

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """Bent."""
        asked: set[str] = self.__dict__.setdefault("asked", set())
        kept = {o for o in offers if self.offers.earmarked(o) == self.stage.gpus and o not in asked}
        asked |= kept
        await super().withdraw([o for o in offers if o not in kept])
        return [*offers]


class Deaf(ScriptedProvider):
    """Does not acknowledge the withdrawal of an offer that it does not know."""

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """Bent."""
        return [o for o in await super().withdraw(offers) if o in self.offers.puts]


class Stayer(ScriptedProvider):
    """Comes back from a long poll only when there is news."""

    async def _news(self, wait_us: int) -> None:
        await self.stage.news.wait()


class Sleeper(ScriptedProvider):
    """Comes back from a long poll only when the wait is over."""

    async def _news(self, wait_us: int) -> None:
        await asyncio.sleep(wait_us / 1_000_000)


class Boaster(ScriptedProvider):
    """Promises to answer by itself, and lets everybody wait for it."""

    async def capabilities(self) -> Capabilities:
        """Bent."""
        return but(await super().capabilities(), answers_itself=True)


class Fussy(ScriptedProvider):
    """Takes nothing to do for a mistake."""

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """Bent."""
        if not offers:
            raise Misconfigured("no offers given")
        return await super().withdraw(offers)
