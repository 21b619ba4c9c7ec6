"""The inbox: how a server that does not lead hands a wish to the one that does, through the database of the ledger.

Put and waited for by `engine.follower`; taken by `engine.granting`, which replies in the commit that grants the wish
(`Batch.replies`): a wish is granted once, whoever leads when. Every method raises `LedgerUnavailable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Wished(Struct, frozen=True):
    """One wish that waits for its reply."""

    id: int
    kind: str
    """submit | cancel | resume | amend | own | record | answer | visit | providers"""
    body: bytes
    """JSON, as `engine.follower` wrote it."""
    tries: int = 1
    """In how many terms it was taken, this one included: what was taken often may be why they ended."""


class Reply(Struct, frozen=True):
    """The reply to one wish, durable with the batch that it is in."""

    wish: int
    body: bytes


class Inbox(Protocol):
    """Wishes on their way to the leader."""

    async def put(self, kind: str, body: bytes) -> int:
        """Leave a wish, durably, and tell the leader; gives its id."""
        ...

    async def reply(self, wish: int, patience_s: float) -> bytes | None:
        """Wait for it and take it away; None if there is none in time."""
        ...

    async def withdraw(self, wish: int) -> bool:
        """Take a wish back; False if a leader has taken it, and may still grant it."""
        ...

    async def take(self) -> Sequence[Wished]:
        """The leader's: wishes that this term has not taken yet, oldest first."""
        ...

    async def wait(self, patience_s: float) -> None:
        """Until something came, or for so long."""
        ...
