"""The provider port: batches out, one feed in. What must every supplier's adapter promise?

Called by the engine's lanes only; implemented by adapters and by `testing.ScriptedProvider`, proven by
`testing.check_provider`. An adapter translates, it never decides: it may repeat one call (tenacity), it never
moves a job. Every verb says what a crash of ours before, during and after it leaves behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from orchestrator.model.offer import (
    Capabilities,
    LaunchOrder,
    LaunchReply,
    Listing,
    Observation,
    OfferOut,
    Receipt,
    StopReply,
    Undelivered,
)


class ProviderError(Exception):
    """Something of one provider's went wrong; says whose fault, during what, and what to do next."""


class Unreachable(ProviderError):
    """No reply that we can trust. Nothing is known: neither that it was done nor that it was not."""


class Throttled(ProviderError):
    """The provider asks us to come back later; nothing was done."""

    def __init__(self, message: str, retry_after_us: int) -> None:
        super().__init__(message)
        self.retry_after_us = retry_after_us


class Misconfigured(ProviderError):
    """The operator must act: credentials, address, permissions. Nothing was done."""


@runtime_checkable
class Provider(Protocol):
    """One supplier. All verbs may raise `ProviderError`; a cancelled call counts as a crash during it."""

    name: str

    async def capabilities(self) -> Capabilities:
        """What this provider promises. Reads only."""
        ...

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """Deliver offers under their ids, one reply per offer in order. The same id again is the same offer.

        Crash before: nothing. During: any subset delivered; deliver all again. After: the receipt is lost, not the
        offer; delivering again returns it.
        """
        ...

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """Start attempts under their keys, one reply per order in order. The same key again is the same launch.

        `Confirmed` means the provider holds the launch, not that it runs. Crash before: nothing. During: any subset
        exists. After: all exist. Repeating is safe where `idempotency` is promised; elsewhere list first.
        """
        ...

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """Ask for the end of everything under these keys; unknown keys are acknowledged. Repeatable for ever.

        Crash anywhere: ask again. An acknowledgement proves nothing: only listings do, or a sighting as gone.
        """
        ...

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """Take offers back and release their earmarks; returns the ids acknowledged. Repeatable for ever."""
        ...

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """The feed since `cursor` (None: from the beginning of what is kept), waiting up to `wait_us` for news.

        An answer given before the call arrived is in the reply or was in an earlier one. Reads only.
        """
        ...

    async def list_ours(self) -> Listing:
        """Everything alive with our label and any ledger id. Reads only; may lag by `list_lag_us`."""
        ...

    def logs(self, key: str) -> AsyncIterator[bytes]:
        """Raw output of the launch as far as the provider still has it. Reads only."""
        ...

    async def check(self) -> Sequence[str]:
        """What is missing for this provider to work, each with its remedy; empty when all is well. Reads only."""
        ...

    async def aclose(self) -> None:
        """Let go of connections; stops nothing that runs."""
        ...


@runtime_checkable
class Placed(Protocol):
    """Optional beside `Provider`: one that tells its launches from other people's, not from those of another of ours.

    Two providers of one place are refused when the server starts: each would list, and sweep, the other's launches.
    """

    place: str
    """All that `list_ours` looks at, for people: equal for two providers that would list the same."""
