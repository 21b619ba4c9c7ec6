"""Which pods find a place on which nodes, in what order, and what is left then?

Called where offers are answered. Pods that are alike share their list of nodes, so that a cluster of hundreds of nodes
with hundreds of promises answers in a fraction of a millisecond; a place that was taken can be given back. Not one
amount is kept twice: what the nodes have, and what is left of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from orchestrator.adapters.providers.kubernetes.capacity import Amounts, Ask, Short, amounts, requested, show
from orchestrator.adapters.providers.kubernetes.resources import Node, Pod

Taken: TypeAlias = list[tuple[Ask, str, int]]
"""(pods alike, node, how many of them)."""
_EPSILON = 1e-6


class Places:
    """The nodes of one look at a cluster, and what is left on them."""

    def __init__(self, nodes: Sequence[Node], pods: Iterable[Pod]) -> None:
        self._nodes = nodes
        self._empty = {node.metadata.name: amounts(node.status.allocatable) for node in nodes}
        self._left = {name: dict(room) for name, room in self._empty.items()}
        self._open: dict[Any, list[str]] = {}
        self._never: dict[Any, str] = {}
        for pod in pods:
            room = self._left.get(pod.spec.node_name)
            if room is not None and not pod.over:
                _change(room, requested(pod.spec), -1)

    def short(self, asked: Sequence[Ask]) -> Short | None:
        """Why these do not find places, now or ever; None: they do. Takes nothing."""
        short, taken = self.reserve(asked)
        self.give_back(taken)
        return short

    def reserve(self, asked: Sequence[Ask]) -> tuple[Short | None, Taken]:
        """Take places for all of these, or none: why there are none, and what was taken."""
        never = self._short_for_ever(asked)
        if never:
            return Short(never, ever=True), []
        lacking, taken = self.take(asked)
        if not lacking:
            return None, taken
        self.give_back(taken)
        return Short(lacking), []

    def take(self, asked: Iterable[Ask]) -> tuple[str, Taken]:
        """Take places for these, as many as there are; what is missing in words ("": nothing), and what was taken."""
        lacking, taken = "", Taken()
        for ask in asked:
            lacking = _place(ask, self._open_to(ask), self._left, taken) or lacking
        return lacking, taken

    def give_back(self, taken: Taken) -> None:
        """Undo it."""
        _give_back(taken, self._left)

    def _short_for_ever(self, asked: Sequence[Ask]) -> str:
        """What is missing of these even if nothing ran."""
        kind = tuple((ask.count, tuple(ask.takes.items()), _kind(ask)) for ask in asked)
        if kind not in self._never:
            lacking, taken = "", Taken()
            for ask in asked:
                names = [node.metadata.name for node in self._nodes if ask.belongs_on(node)]
                lacking = lacking or _place(ask, names, self._empty, taken)
            _give_back(taken, self._empty)
            self._never[kind] = lacking
        return self._never[kind]

    def _open_to(self, ask: Ask) -> list[str]:
        kind = _kind(ask)
        if kind not in self._open:
            self._open[kind] = [node.metadata.name for node in self._nodes if ask.may_run_on(node)]
        return self._open[kind]


def short_of_room(
    nodes: Sequence[Node], pods: Sequence[Pod], before: Sequence[Ask], asked: Sequence[Ask]
) -> Short | None:
    """Why `asked` does not fit once what was promised before (and pods that wait) have their places; None: it fits."""
    places = Places(nodes, pods)
    places.take(before)
    return places.short(asked)


def _kind(ask: Ask) -> Any:
    """Equal for pods that may run on the same nodes."""
    return tuple(ask.selector.items()), tuple(str(one) for one in ask.tolerations)


def _change(room: Amounts, takes: Mapping[str, float], sign: int) -> None:
    """Take one pod's amounts (-1), or give them back (+1); its place among the node's pods too."""
    for name in room:
        room[name] += sign * takes.get(name, 0)
    room["pods"] = room.get("pods", 0) + sign


def _place(ask: Ask, names: Sequence[str], left: Mapping[str, Amounts], taken: Taken) -> str:
    """Take the room for these pods out of `left`, and note it in `taken`; what is missing, in words."""
    needs = [*ask.takes.items(), ("pods", 1.0)]
    scarce = [name for name in ask.takes if "/" in name]
    # nodes that have least left of what is scarce come first, so that large gaps stay whole
    if ask.count == 1:
        fitting = _tightest(names, needs, scarce, left)
    else:
        fitting = [name for name in names if _fits(left[name], needs)]
        fitting.sort(key=lambda name: sum([left[name].get(what, 0) for what in scarce]))
    placed = 0
    for name in fitting:
        if placed == ask.count:
            break
        here = 0
        while placed + here < ask.count and _fits(left[name], needs):
            _change(left[name], ask.takes, -1)
            here += 1
        taken.append((ask, name, here))
        placed += here
    return "" if placed == ask.count else _words(ask, placed, [left[name] for name in names])


def _tightest(
    names: Sequence[str], needs: Sequence[tuple[str, float]], scarce: Sequence[str], left: Mapping[str, Amounts]
) -> list[str]:
    """The first of what all that fit would be sorted to, and nothing where none does: nearly every offer is of one pod,
    and all nodes are looked at for each."""
    best, least = [], math.inf
    for name in names:
        room, spare = left[name], 0.0
        for what in scarce:
            spare += room.get(what, 0)
        if spare < least and _fits(room, needs):
            best, least = [name], spare
    return best


def _fits(room: Mapping[str, float], needs: Sequence[tuple[str, float]]) -> bool:
    for what, much in needs:  # noqa: SIM110 - asked of every node for every offer, and the quickest so
        if room.get(what, 0) + _EPSILON < much:
            return False
    return True


def _give_back(taken: Taken, left: Mapping[str, Amounts]) -> None:
    for ask, name, count in taken:
        for _ in range(count):
            _change(left[name], ask.takes, +1)


def _words(ask: Ask, placed: int, rooms: Sequence[Mapping[str, float]]) -> str:
    where = ", ".join(f"{k}={v}" for k, v in sorted(ask.selector.items()))
    on = f"nodes with {where}" if where else "nodes"
    if not rooms:
        return f"{ask.count} pods have no place: none of the {on} is there, Ready and open to them"
    said = [f"{placed} of {ask.count} pods fit on {len(rooms)} {on}"]
    for name, much in sorted(ask.takes.items()):
        most_left = max(room.get(name, 0) for room in rooms)
        if most_left + _EPSILON < much:
            said.append(
                f"{name}: a pod takes {show(name, much)}, at most {show(name, max(0, most_left))} is free on one node"
            )
    return "; ".join(said) + f"; {ask.count - placed} pods have no place"
