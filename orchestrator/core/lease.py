"""May we still act as the leader? What a lease is worth to its holder, by the holder's own clock alone.

Called by the engine's `lead`. The database decides who holds the lease, by its own clock; a holder only has to be
sure that it stops before the database gives the lease to another. So every moment counts from when a request was
*sent*: the database granted the whole life later than that. Clocks are never compared, only their pace is trusted, and
of that a tenth is not.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.core.windows import NEVER


class Lease(Struct, frozen=True):
    """What we know of our own lead. Microseconds, by our own clock."""

    term: int
    life: int | None
    """How long the database lets a lease live after each renewal; None: a lock that ends with the process."""
    sent_at: int
    """When the newest request was sent that the database has answered with yes."""


def ends_at(lease: Lease) -> int:
    """When we must have stopped, unless a renewal comes first."""
    return NEVER if lease.life is None else lease.sent_at + lease.life - lease.life // 10


def renew_at(lease: Lease) -> int:
    """When to ask for the next renewal: four more may fail before it is too late."""
    return NEVER if lease.life is None else lease.sent_at + lease.life // 5


def needed(lease: Lease) -> int:
    """What must be left of the lease when a call begins; one that lasts longer is cut when the lease ends."""
    return 0 if lease.life is None else lease.life // 5


def outlives(lease: Lease, now: int) -> bool:
    """Whether a call may begin now."""
    return now + needed(lease) <= ends_at(lease)


def renewed(lease: Lease, sent_at: int) -> Lease:
    """The database has said yes to a renewal sent then."""
    return lease if sent_at < lease.sent_at else Lease(lease.term, lease.life, sent_at)
