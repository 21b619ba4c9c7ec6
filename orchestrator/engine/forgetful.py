"""A provider that forgets launch keys: what of a batch was made before, and what may be launched now?

Called by the launch lane of a provider that does not promise `idempotency`, before each call. There the same key again
would be a second set of machines, so a launch that may have been sent is looked for by its label first, and sent again
only when a listing that could not have missed it does not show it.
"""

from __future__ import annotations

from orchestrator.engine.core import Core
from orchestrator.engine.stranger import calling
from orchestrator.model.offer import Confirmed, LaunchOrder
from orchestrator.ports.provider import Provider


class SentOrders:
    """What this process has sent to one provider, in its place."""

    def __init__(self, core: Core, provider: Provider) -> None:
        """Before this moment anything may have been sent, by the server before this one."""
        self._core, self._provider = core, provider
        self._since = core.now
        self._sent: dict[str, int] = {}

    async def sort(self, orders: list[LaunchOrder]) -> tuple[list[LaunchOrder], list[Confirmed]]:
        """(to be launched now, found to be there); the rest was sent too recently to be missed in a listing."""
        asked = [order for order in orders if self._last(order) is not None]
        if not asked:
            return orders, []
        with calling(self._provider):
            listing = await self._provider.list_ours()
        there = {sighting.key for sighting in listing.sightings}
        lag = self._core.book.providers[self._provider.name].capabilities.list_lag_us
        absent = [o for o in asked if o.key not in there and (self._last(o) or 0) + lag <= listing.as_of]
        never = [order for order in orders if order not in asked]
        return never + absent, [Confirmed(order.key) for order in asked if order.key in there]

    def note(self, orders: list[LaunchOrder], at: int) -> None:
        """These calls were made, whatever became of them; `at`: when the reply was given up or came."""
        self._sent.update((order.key, at) for order in orders)

    def _last(self, order: LaunchOrder) -> int | None:
        """When it may last have been sent; None: never, its intention is younger than this process."""
        row = self._core.row(order.job)
        decided = row.attempts[-1].intended_at if row is not None and row.attempts else 0
        return self._sent.get(order.key, None if decided > self._since else self._since)
