"""Providers that are wrong about launches, stops and listings, each in one way. See the package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from orchestrator.model.offer import (
    Confirmed,
    LaunchOrder,
    LaunchReply,
    Listing,
    Observation,
    Rejected,
    Sighting,
    SightingState,
    StopReply,
)
from orchestrator.testing.scripted import ScriptedProvider

but = msgspec.structs.replace


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


class Lazy(ScriptedProvider):
    """Confirms every launch of a batch and makes the first."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Bent."""
        made = await super().launch(orders[:1])
        return [*made, *(Confirmed(order.key) for order in orders[1:])]


class Selfish(ScriptedProvider):
    """Lists what was launched for the first ledger that it has met."""

    async def list_ours(self) -> Listing:
        """Bent."""
        listing = await super().list_ours()
        first = next((x.order.ledger for x in self.machines.launches.values()), "")
        return but(listing, sightings=tuple(x for x in listing.sightings if x.ledger == first))


class Curious(ScriptedProvider):
    """Ends what it is asked to read from."""

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """Bent."""
        self.machines.kill(key)
        async for line in super().logs(key):
            yield line
