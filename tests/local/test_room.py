"""What this machine has room for, by its own count."""

from __future__ import annotations

import pytest

from orchestrator.adapters.providers.local.room import Room, Size, machine, visible
from orchestrator.model.offer import Reason
from orchestrator.ports.provider import Misconfigured
from orchestrator.testing.builders import an_offer, some_terms

GIB = 2**30


@pytest.mark.parametrize(("memory", "taken"), [(0, True), (4 * GIB, True), (5 * GIB, False), (10_000 * GIB, False)])
def test_more_memory_than_the_machine_has_is_refused(memory: int, taken: bool) -> None:
    room = Room(Size(64, 64), memory=8 * GIB)
    answer = room.receipt(an_offer(terms=some_terms(memory=memory, workers=2)), Size(0, 0), 0).answer
    assert answer is not None and answer.accepted == taken
    if not taken:
        assert answer.reason is Reason.SPEC and "this machine has 8 GiB of memory, asked for" in answer.detail


@pytest.mark.parametrize(("shown", "found", "ours"), [
    (None, 3, "0 1 2"),
    ("4,5", 8, "4 5"), ("5, 4", 8, "5 4"), ("4,4", 8, "4"),
    ("GPU-aa,MIG-bb", 1, "GPU-aa MIG-bb"),
    ("", 8, ""), ("-1", 8, ""), ("NoDevFiles", 8, ""), ("1,-1,0", 8, "1"), ("0,8", 8, "0"), ("0,GPU-aa", 0, ""),
])  # fmt: skip
def test_of_the_gpus_that_are_here_those_are_ours_that_the_server_is_shown(
    shown: str | None, found: int, ours: str
) -> None:
    assert visible(shown, found) == ours.split()


def test_a_number_of_gpus_counts_among_those_that_the_server_is_shown() -> None:
    assert machine({"cpus": 1, "gpus": 2}, None) == (Size(1, 2), ["0", "1"])
    assert machine({"cpus": 1, "gpus": 2}, "4,5,6") == (Size(1, 2), ["4", "5"])
    with pytest.raises(Misconfigured, match="gpus is 4, and CUDA_VISIBLE_DEVICES shows this server 2"):
        machine({"gpus": 4}, "4,5")
