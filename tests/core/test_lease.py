"""How long a lease is good for its holder, as a table: a life of 1,000, renewed at 200, over at 900."""

from __future__ import annotations

import pytest

from orchestrator.core.lease import Lease, ends_at, outlives, renew_at, renewed
from orchestrator.core.windows import NEVER

LEASE = Lease(term=3, life=1000, sent_at=50)


def test_it_is_renewed_well_inside_its_life_and_ends_before_the_database_s_does() -> None:
    assert (renew_at(LEASE), ends_at(LEASE)) == (250, 950)


@pytest.mark.parametrize(
    ("now", "may"), [(50, True), (250, True), (750, True), (751, False), (950, False), (10_000, False)]
)
def test_a_call_begins_only_while_enough_is_left(now: int, may: bool) -> None:
    assert outlives(LEASE, now) is may


@pytest.mark.parametrize(("sent_at", "ends"), [(250, 1150), (50, 950), (10, 950)])
def test_a_renewal_counts_from_when_it_was_sent_and_never_backwards(sent_at: int, ends: int) -> None:
    after = renewed(LEASE, sent_at)
    assert (ends_at(after), after.term) == (ends, 3)


def test_a_lock_outlives_everything() -> None:
    lock = Lease(term=1, life=None, sent_at=0)
    assert (ends_at(lock), renew_at(lock), outlives(lock, 1 << 60)) == (NEVER, NEVER, True)
