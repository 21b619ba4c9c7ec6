"""What this machine has room for, by its own count."""

from __future__ import annotations

import pytest

from orchestrator.adapters.providers.local.room import Room, Size
from orchestrator.model.offer import Reason
from orchestrator.testing.builders import an_offer, some_terms

GIB = 2**30


@pytest.mark.parametrize(("memory", "taken"), [(0, True), (4 * GIB, True), (5 * GIB, False), (10_000 * GIB, False)])
def test_more_memory_than_the_machine_has_is_refused(memory: int, taken: bool) -> None:
    room = Room(Size(64, 64), memory=8 * GIB)
    answer = room.receipt(an_offer(terms=some_terms(memory=memory, workers=2)), Size(0, 0), 0).answer
    assert answer is not None and answer.accepted == taken
    if not taken:
        assert answer.reason is Reason.SPEC and "this machine has 8 GiB of memory, asked for" in answer.detail
