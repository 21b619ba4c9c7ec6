"""May we still act as the leader? What a lease is worth to its holder, by the holder's own clock alone.

Called by the engine's `leading`. The database decides who holds the lease, by its own clock; a holder only has to be
sure that it stops before the database gives the lease to another. So every moment counts from when a request was
*sent*: the database granted the whole life later than that. Clocks are never compared, only their pace is trusted, and
of that a tenth is not.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.core.windows import NEVER


class Tenure(Struct, frozen=True):
    """What we know of our own lead. Microseconds, by our own clock."""

    term: int
    life: int | None
    """How long the database lets a lease live after each renewal; None: a lock that ends with the process."""
    sent_at: int
    """When the newest request was sent that the database has answered with yes."""


def ends_at(tenure: Tenure) -> int:
    """When we must have stopped, unless a renewal comes first."""
    return NEVER if tenure.life is None else tenure.sent_at + tenure.life - tenure.life // 10


def renew_at(tenure: Tenure) -> int:
    """When to ask for the next renewal: four more may fail before it is too late."""
    return NEVER if tenure.life is None else tenure.sent_at + tenure.life // 5


def needed(tenure: Tenure) -> int:
    """What must be left of the lease when a call begins; one that lasts longer is cut when the lease ends."""
    return 0 if tenure.life is None else tenure.life // 5


def outlives(tenure: Tenure, now: int) -> bool:
    """Whether a call may begin now."""
    return now + needed(tenure) <= ends_at(tenure)


def renewed(tenure: Tenure, sent_at: int) -> Tenure:
    """The database has said yes to a renewal sent then."""
    return tenure if sent_at < tenure.sent_at else Tenure(tenure.term, tenure.life, sent_at)
