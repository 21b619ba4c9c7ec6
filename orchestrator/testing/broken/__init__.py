"""Providers that are wrong on purpose, each in one way: the kit must name exactly the promise that each breaks.

`BROKEN` maps the promise's name to classes. Each is a `ScriptedProvider` with one verb bent; never used otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from orchestrator.model.offer import (
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
    Rejected,
    Sighting,
    SightingState,
    StopReply,
    Undelivered,
)
from orchestrator.ports.provider import Throttled, Unreachable
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


class Backwards(ScriptedProvider):
    """Replies to a batch of launches backwards."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        return [*await super().launch(orders)][::-1]


class Twice(ScriptedProvider):
    """Recognises a key from call to call, but not inside one batch."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        replies = await super().launch(orders)
        for key in [order.key for order in orders][len({order.key for order in orders}) :]:
            self.machines.launches[key].machines += (f"{key}-again",)
        return replies


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


class Shy(ScriptedProvider):
    """Lists a launch only once it runs."""

    async def list_ours(self) -> Listing:
        """Bent."""
        listing = await super().list_ours()
        kept = tuple(x for x in listing.sightings if x.state is not SightingState.PROVISIONING)
        return but(listing, sightings=kept)


class Nameless(ScriptedProvider):
    """Lists launches without the ledger that they belong to."""

    async def list_ours(self) -> Listing:
        """Bent."""
        listing = await super().list_ours()
        return but(listing, sightings=tuple(but(x, ledger="") for x in listing.sightings))


class Quiet(ScriptedProvider):
    """Says nothing in the feed when a launch begins to run."""

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """Bent."""
        seen = await super().observe(cursor, wait_us)
        return but(seen, sightings=tuple(x for x in seen.sightings if x.state is not SightingState.RUNNING))


class Leftover(ScriptedProvider):
    """Rejects a launch and leaves its machines running."""

    async def list_ours(self) -> Listing:
        """Bent."""
        listing = await super().list_ours()
        rejected = [x for x in self.machines.launches.values() if isinstance(x.reply, Rejected) and not x.stops]
        left = [Sighting(x.order.key, SightingState.RUNNING, listing.as_of, x.order.ledger) for x in rejected]
        return but(listing, sightings=(*listing.sightings, *left))

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """Not bent: what was left behind can at least be stopped."""
        for key in set(keys) & set(self.machines.launches):
            self.machines.launches[key].stops += 1
        return await super().stop(keys)


class Pedant(ScriptedProvider):
    """Does not acknowledge the stop of something that never was."""

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """Bent."""
        return [but(r, acknowledged=r.key in self.machines.launches) for r in await super().stop(keys)]


class Brittle(ScriptedProvider):
    """Takes the repetition of a stop for an error."""

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """Bent."""
        again = {k for k in keys if k in self.machines.launches and self.machines.launches[k].stops}
        return [but(r, acknowledged=r.key not in again) for r in await super().stop(keys)]


class Resurrector(ScriptedProvider):
    """Forgets a key as soon as its launch is gone, and launches it anew."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        for order in orders:
            known = self.machines.launches.get(order.key)
            if known is not None and not known.alive and isinstance(known.reply, Confirmed):
                del self.machines.launches[order.key]
        return await super().launch(orders)


class Butcher(ScriptedProvider):
    """Stops everything of ours when asked to stop one."""

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """Bent."""
        self.machines.kill()
        return await super().stop(keys)


class Reaper(ScriptedProvider):
    """Ends whatever bears a name that it is given, ours or not."""

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """Bent."""
        self.machines.foreign -= set(keys)
        return await super().stop(keys)


class Undying(ScriptedProvider):
    """Promises `delete_after` and does not look at it."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        return await super().launch([but(order, delete_after_ms=10**9) for order in orders])


class Closer(ScriptedProvider):
    """Takes everything down when the connection is closed."""

    async def aclose(self) -> None:
        """Bent."""
        self.machines.kill()


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


BROKEN: dict[str, list[type[ScriptedProvider]]] = {
    "capabilities_constant": [Fickle],
    "receipts_in_order": [Shuffler],
    "same_offer_id_same_offer": [Stamper],
    "receipts_echo": [Mute],
    "no_answer_lost": [Forgetful],
    "acceptance_names_terms": [Mumbler],
    "declines_are_typed": [Vague],
    "withdrawal_repeatable": [Deaf],
    "withdrawal_releases": [Hoarder],
    "long_poll_bounded": [Stayer],
    "launch_replies_in_order": [Backwards],
    "same_key_same_launch": [Twice],
    "confirmed_is_listed": [Shy],
    "listing_carries_ledger": [Nameless],
    "feed_tells_running": [Quiet],
    "rejected_leaves_nothing": [Leftover],
    "stop_of_unknown_acknowledged": [Pedant],
    "stop_until_gone": [Brittle],
    "gone_key_stays_gone": [Resurrector],
    "stop_touches_its_key_only": [Butcher],
    "foreign_untouched": [Reaper],
    "delete_after_kept": [Undying],
    "closing_stops_nothing": [Closer],
    "cancelled_launch_repeatable": [Careless],
    "unreachable_is_not_a_no": [Liar, Blank],
    "back_in_reach_goes_on": [Dropper],
    "throttling_is_typed": [Swallower],
    "bills_only_grow": [Shrinker],
    "bill_keeps_the_price": [Overcharger],
    "check_says_remedies": [Worrier],
}
"""Promise → providers that break it and no other."""
