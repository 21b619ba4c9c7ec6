"""Which pods find a place on which nodes, in what order, and what is left then?

Called where offers are answered. Nodes stand on shelves by how much they have left of what is scarce, with shelves of
their own for pods that are alike: the tightest node that has room is found without a look at all of them, in a cluster
of hundreds of nodes with hundreds of promises. A place that was taken can be given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from orchestrator.adapters.providers.kubernetes.capacity import Amounts, Ask, Short, amounts, requested, show
from orchestrator.adapters.providers.kubernetes.resources import Node, Pod

Taken: TypeAlias = list[tuple[Ask, str, int]]
"""(pods alike, node, how many of them)."""
_EPSILON = 1e-6


class Places:
    """The nodes of one look at a cluster, and what is left on them."""

    def __init__(self, nodes: Sequence[Node], pods: Iterable[Pod]) -> None:
        empty = {node.metadata.name: amounts(node.status.allocatable) for node in nodes}
        left = {name: dict(room) for name, room in empty.items()}
        for pod in pods:
            room = left.get(pod.spec.node_name)
            if room is not None and not pod.over:
                _add(room, requested(pod.spec), -1)
        self._now = _Rooms(nodes, left, Ask.may_run_on)
        self._ever = _Rooms(nodes, empty, Ask.belongs_on, "left on one node, even where nothing else runs")
        self._never: dict[Any, str] = {}

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
        return self._now.take(asked)

    def give_back(self, taken: Taken) -> None:
        """Undo it."""
        self._now.give_back(taken)

    def _short_for_ever(self, asked: Sequence[Ask]) -> str:
        """What is missing of these even if nothing ran."""
        kind = tuple((ask.count, tuple(ask.takes.items()), _kind(ask)) for ask in asked)
        if kind not in self._never:
            self._never[kind], taken = self._ever.take(asked)
            self._ever.give_back(taken)
        return self._never[kind]


class _Rooms:
    """What is left on each node, and which of them suit whom."""

    def __init__(
        self,
        nodes: Sequence[Node],
        left: dict[str, Amounts],
        suits: Callable[[Ask, Node], bool],
        so: str = "free on one node",
    ) -> None:
        """`so`: what it means that an amount is in `left`."""
        self._nodes, self._left, self._suits, self._so = nodes, left, suits, so
        self._shelves: dict[Any, _Shelves] = {}

    def take(self, asked: Iterable[Ask]) -> tuple[str, Taken]:
        """As `Places.take`."""
        lacking, taken = "", Taken()
        for ask in asked:
            lacking = self._place(ask, taken) or lacking
        return lacking, taken

    def give_back(self, taken: Taken) -> None:
        """As `Places.give_back`."""
        for ask, name, count in taken:
            self._add(name, ask, count)

    def _place(self, ask: Ask, taken: Taken) -> str:
        """Take the room for these pods, and note it in `taken`; what is missing, in words."""
        shelves, placed = self._shelves_of(ask), 0
        while placed < ask.count and (name := shelves.tightest(ask)) is not None:
            here = 0
            while placed + here < ask.count and _fits(self._left[name], ask):
                _add(self._left[name], ask.takes, -1)
                here += 1
            self._moved(name)
            taken.append((ask, name, here))
            placed += here
        return "" if placed == ask.count else _words(ask, placed, [self._left[name] for name in shelves.at], self._so)

    def _add(self, name: str, ask: Ask, pods: int) -> None:
        _add(self._left[name], ask.takes, pods)
        self._moved(name)

    def _moved(self, name: str) -> None:
        for shelves in self._shelves.values():
            shelves.moved(name)

    def _shelves_of(self, ask: Ask) -> _Shelves:
        scarce = tuple(what for what in ask.takes if "/" in what)
        kind = _kind(ask), scarce
        if kind not in self._shelves:
            names = [node.metadata.name for node in self._nodes if self._suits(ask, node)]
            self._shelves[kind] = _Shelves(names, scarce, self._left)
        return self._shelves[kind]


class _Shelves:
    """Nodes by how much they have left of what is scarce. The tightest come first, so that large gaps stay whole."""

    def __init__(self, names: Iterable[str], scarce: Sequence[str], left: Mapping[str, Amounts]) -> None:
        self._scarce, self._left = scarce, left
        self._shelves: dict[float, dict[str, None]] = {}
        self.at = dict.fromkeys(names, -1.0)
        """Node → its shelf."""
        for name in self.at:
            self.moved(name)

    def moved(self, name: str) -> None:
        """What is left on this node has changed."""
        before = self.at.get(name)
        if before is None:
            return
        room, now = self._left[name], 0.0
        for what in self._scarce:
            now += room.get(what, 0)
        if now != before:
            self._shelves.get(before, {}).pop(name, None)
            self._shelves.setdefault(now, {})[name] = None
            self.at[name] = now

    def tightest(self, ask: Ask) -> str | None:
        """The node with room for one of these that has least left."""
        least = sum(ask.takes[what] for what in self._scarce)
        for spare in sorted(self._shelves):
            if spare + _EPSILON >= least:
                for name in self._shelves[spare]:
                    if _fits(self._left[name], ask):
                        return name
        return None


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


def _add(room: Amounts, takes: Mapping[str, float], pods: int) -> None:
    """So many pods' amounts are free again (negative: are taken); their places among the node's pods too."""
    for name in room:
        room[name] += pods * takes.get(name, 0)
    room["pods"] = room.get("pods", 0) + pods


def _fits(room: Mapping[str, float], ask: Ask) -> bool:
    """Whether there is room for one."""
    if room.get("pods", 0) + _EPSILON < 1:
        return False
    return all(room.get(what, 0) + _EPSILON >= much for what, much in ask.takes.items())


def _words(ask: Ask, placed: int, rooms: Sequence[Mapping[str, float]], so: str) -> str:
    where = ", ".join(f"{k}={v}" for k, v in sorted(ask.selector.items()))
    on = f"nodes with {where}" if where else "nodes"
    if not rooms:
        return f"{ask.count} pods have no place: none of the {on} is there, Ready and open to them"
    said = [f"{placed} of {ask.count} pods fit on {len(rooms)} {on}"]
    for name, much in sorted(ask.takes.items()):
        most_left = max(room.get(name, 0) for room in rooms)
        if most_left + _EPSILON < much:
            said.append(f"{name}: a pod takes {show(name, much)}, at most {show(name, max(0, most_left))} is {so}")
    return "; ".join(said) + f"; {ask.count - placed} pods have no place"
