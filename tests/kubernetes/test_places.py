"""Pods find the places that a look at all nodes would find: the tightest first."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.adapters.providers.kubernetes.capacity import Ask
from orchestrator.adapters.providers.kubernetes.places import Places, Taken
from orchestrator.adapters.providers.kubernetes.resources import Node

GPU, HCA = "nvidia.com/gpu", "rdma/hca"
Room = Mapping[str, int]
ROOMS = st.fixed_dictionaries({"cpu": st.integers(0, 8), GPU: st.integers(0, 8), HCA: st.integers(0, 2)})
TAKES = st.fixed_dictionaries({"cpu": st.integers(0, 4)}, optional={GPU: st.integers(1, 4), HCA: st.integers(1, 2)})
ASKS = st.lists(st.tuples(st.integers(1, 4), TAKES), min_size=1, max_size=8)


def a_node(number: int, room: Room) -> Node:
    ready = [{"type": "Ready", "status": "True"}]
    amounts = {name: str(amount) for name, amount in (room | {"pods": 5}).items()}
    doc = {"metadata": {"name": f"n{number}"}, "status": {"allocatable": amounts, "conditions": ready}}
    return msgspec.convert(doc, Node)


class Plain:
    """The same by a look at all nodes for each pod."""

    def __init__(self, rooms: list[Room]) -> None:
        self.left = {f"n{number}": dict(room) | {"pods": 5} for number, room in enumerate(rooms)}

    def has_room(self, name: str, takes: Room) -> bool:
        return all(self.left[name][what] >= much for what, much in (takes | {"pods": 1}).items())

    def spare(self, name: str, takes: Room) -> int:
        return sum(self.left[name][what] for what in takes if "/" in what)

    def add(self, name: str, takes: Room, pods: int) -> None:
        for what, much in (takes | {"pods": 1}).items():
            self.left[name][what] += pods * much

    def tightest(self, takes: Room) -> int | None:
        """What the tightest node with room has left; None: there is none."""
        return min((self.spare(name, takes) for name in self.left if self.has_room(name, takes)), default=None)


@settings(deadline=None)
@given(rooms=st.lists(ROOMS, min_size=1, max_size=6), asks=ASKS, kept=st.lists(st.booleans(), min_size=8, max_size=8))
def test_the_tightest_node_with_room_is_taken(
    rooms: list[Room], asks: list[tuple[int, Room]], kept: list[bool]
) -> None:
    places, plain = Places([a_node(*each) for each in enumerate(rooms)], ()), Plain(rooms)
    for (count, takes), keep in zip(asks, kept, strict=False):
        lacking, taken = places.take([Ask(count, {what: float(much) for what, much in takes.items()})])
        found = follow(plain, taken, takes)
        assert found == count if not lacking else (found < count and plain.tightest(takes) is None)
        if not keep:
            places.give_back(taken)
            for _, name, pods in taken:
                plain.add(name, takes, pods)


def follow(plain: Plain, taken: Taken, takes: Room) -> int:
    """Take the same places there, each of which must be the tightest; how many pods have one."""
    for _, name, pods in taken:
        assert plain.has_room(name, takes) and plain.spare(name, takes) == plain.tightest(takes)
        for _ in range(pods):
            assert plain.has_room(name, takes)
            plain.add(name, takes, -1)
    return sum(pods for _, _, pods in taken)
