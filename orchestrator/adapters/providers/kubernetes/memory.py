"""Which machines were ever seen under which key, since when are some missing, since when does each node answer?

Called by the provider with everything that is read, in whatever order. It holds what a single look cannot tell. After a
restart it begins with what the records say, and every wait begins anew: the safe side. Times are microseconds of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes.billing import ANNOTATION
from orchestrator.adapters.providers.kubernetes.machines import Fate, Machine, ended, fate, fate_of_missing, remembered
from orchestrator.adapters.providers.kubernetes.resources import KEY, LEDGER, Meta, Node, Pod


class Memory:
    """All machines of all keys that are not closed."""

    def __init__(self) -> None:
        self.machines: dict[str, dict[str, Machine]] = {}
        """key → uid → machine."""
        self.unwritten: dict[str, str] = {}
        """Keys whose record lacks a machine, or is missing; each with the ledger that it belongs to."""
        self.agreed: dict[str, str] = {}
        """key → what its main object says was agreed on the price, though it may have been deleted since."""
        self.coming: set[str] = set()
        """Keys whose record was made by us, and has not been told yet."""
        self.closed: set[str] = set()
        """Keys whose record is closed, while something of the launch is there still."""
        self.half: dict[str, str] = {}
        """Keys whose launch may be half made, each with why it could not be completed; empty: not tried yet."""
        self._missing: dict[str, int] = {}
        self._ready: dict[str, tuple[str, int]] = {}
        """Of nodes that are Ready: since when, by their own word; when we first read that."""
        self._open: dict[str, bool] = {}

    def node(self, node: Node, gone: bool, now_us: int) -> bool:
        """A node was read; whether it takes pods and did not a moment ago: it has come, is back or is let in again."""
        name, before = node.metadata.name, self._open.get(node.metadata.name, False)
        if gone or not node.ready:
            self._ready.pop(name, None)
        elif name not in self._ready or self._ready[name][0] != node.ready_since:  # it may have been away in between
            self._ready[name] = node.ready_since, now_us
        self._open[name] = node.ready and not node.spec.unschedulable
        if gone:
            del self._open[name]
        return not gone and self._open[name] and not before

    def pod(self, pod: Pod, nodes: Mapping[str, Node]) -> None:
        """A pod of ours was read, perhaps for the last time."""
        key, uid = pod.metadata.label(KEY), pod.metadata.uid
        if not key or not pod.spec.node_name:
            return
        known = self.machines.setdefault(key, {})
        if uid not in known:
            known[uid] = remembered(pod)
            self.unwritten[key] = pod.metadata.label(LEDGER)
        if not known[uid].ended and fate(pod, nodes.get(pod.spec.node_name)) is Fate.ENDED:
            known[uid] = ended(known[uid], pod)
            self.unwritten[key] = pod.metadata.label(LEDGER)  # its node may be gone by the time a server after us asks

    def main(self, meta: Meta) -> None:
        """A main object of ours was read."""
        if meta.label(KEY) and ANNOTATION in (meta.annotations or {}):
            self.agreed[meta.label(KEY)] = (meta.annotations or {})[ANNOTATION]

    def record(self, key: str, told: Mapping[str, Machine]) -> None:
        """A record was read."""
        known = self.machines.setdefault(key, {})
        for uid, machine in told.items():
            if machine.ended or uid not in known:
                known[uid] = machine
        if known == dict(told):
            self.unwritten.pop(key, None)

    def unrecorded(self) -> dict[str, str]:
        """Keys with machines that no record holds yet, each with its ledger: only we know of them, once they vanish."""
        return {key: ledger for key, ledger in self.unwritten.items() if ledger and self.machines.get(key)}

    def forget(self, key: str) -> None:
        """Its record is closed, or was deleted."""
        for uid in self.machines.pop(key, ()):
            self._missing.pop(uid, None)
        self.unwritten.pop(key, None)
        self.agreed.pop(key, None)

    def fates(self, key: str, pods: Iterable[Pod], nodes: Mapping[str, Node], now_us: int) -> dict[str, Fate]:
        """Of the pods that are there and of every machine that no longer is."""
        there = {pod.metadata.uid: pod for pod in pods}
        known = self.machines.get(key, {})
        found = {uid: self._fate(pod, known.get(uid), nodes) for uid, pod in there.items()}
        for uid, machine in known.items():
            if uid in there:
                self._missing.pop(uid, None)
                continue
            missed = self._missing.setdefault(uid, now_us)
            ready = now_us - self._ready.get(machine.node, ("", now_us))[1]
            found[uid] = fate_of_missing(machine, nodes.get(machine.node), now_us - missed, ready)
        for uid, machine in known.items():
            gone = uid not in there or found[uid] is Fate.ENDED
            if gone and not machine.over:  # nobody says when
                known[uid] = replace(machine, over=now_us, said=False)
                self.unwritten.setdefault(key, "")  # its record is there, or has its ledger here already
            elif not gone and machine.over:  # a watch that lagged behind a listing
                known[uid] = replace(machine, over=0, said=True)
        return found

    def _fate(self, pod: Pod, known: Machine | None, nodes: Mapping[str, Node]) -> Fate:
        return Fate.ENDED if known is not None and known.ended else fate(pod, nodes.get(pod.spec.node_name))
