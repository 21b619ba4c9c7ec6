"""Which machines of one launch may still be alive? A machine is a pod, and only its kubelet can say that it ended.

Called by `sightings` with what was read and what is remembered. Pure. The rules: a terminal phase counts while the
pod's node is Ready, for nobody else may write it then; a pod that is no longer there counts as ended only if it was
seen ended before, was never on a node, or its node has been Ready since it was missed for as long as being cut off may
stay unseen, and for the pod's grace. A kubelet says that a pod ended before it lets it go (Kubernetes 1.27 and later);
whoever deletes one by force says nothing, and both look the same otherwise. A node that is not Ready, or is no longer
there, confirms nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes.resources import Halt, Node, Pod, PodStatus

SETTLE_S = 10
"""Beyond a pod's grace, what a kubelet that is back needs to end pods that were deleted while it was away."""
AWAY_S = 60
"""How long a node that was cut off may still pass for Ready: 50 s (NodeMonitorGracePeriod of kube-controller-manager,
in older ones 40 s: pkg/controller/nodelifecycle/config/v1alpha1/defaults.go), a look every 5 s, a margin."""
NODE_TYPE = "ray.io/node-type"
"""KubeRay's label."""
REASON = 400
"""Characters of a kubelet's reason and message: an image that cannot be pulled is named early."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""A person's word that this node is switched off."""


class Machine(Struct, frozen=True):
    """One pod as remembered: by its uid elsewhere."""

    name: str
    node: str
    grace_s: int = 30
    ended: bool = False
    """Its end was confirmed."""
    head: bool = False
    """The agent runs there."""
    began: int = 0
    """Microseconds UTC by the cluster's clock: it was bound to its node. 0: unknown."""
    over: int = 0
    """Likewise: its containers ended. 0: not yet."""
    said: bool = True
    """That end is its kubelet's word; False: nobody said when, and it is when we noticed, by our clock."""


class Fate(Enum):
    """What is known of one machine."""

    ALIVE = "alive"
    ENDED = "ended"
    LOST = "lost"
    """Nothing is known: its node does not answer, or has not answered for long enough."""


def remembered(pod: Pod) -> Machine:
    """What to keep of a pod that is bound to a node."""
    grace_s, head = pod.spec.termination_grace_period_seconds, pod.metadata.label(NODE_TYPE) == "head"
    return Machine(pod.metadata.name, pod.spec.node_name, grace_s, head=head, began=began(pod))


def began(pod: Pod) -> int:
    """When its node was set aside for it: bound, or taken in by the kubelet, whichever is told first."""
    bound = (c.last_transition_time for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "True")
    return moment(next(bound, None) or pod.status.start_time)


def ended(machine: Machine, pod: Pod) -> Machine:
    """The machine of a pod whose end is confirmed, with when its last container ended, if its kubelet says so."""
    ends = [c.state.terminated for c in pod.status.container_statuses]
    last = max((moment(end.finished_at) for end in ends if end), default=0)
    return replace(machine, ended=True, began=machine.began or began(pod), over=last, said=bool(last))


def moment(text: str | None) -> int:
    """A time as Kubernetes writes it, in microseconds UTC; 0: none."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e6) if text else 0
    except ValueError:
        return 0


def fate(pod: Pod, node: Node | None) -> Fate:
    """Of a pod that is there."""
    if not pod.spec.node_name:
        return Fate.ENDED if pod.over else Fate.ALIVE
    if node is None or not node.ready:
        return Fate.ENDED if _switched_off(node) else Fate.LOST
    return Fate.ENDED if pod.over else Fate.ALIVE


def fate_of_missing(machine: Machine, node: Node | None, missing_us: int, ready_us: int) -> Fate:
    """Of a pod that is no longer there. Microseconds since it was missed, and since when its node is seen Ready.

    A node that still passes for Ready was cut off less than `AWAY_S` ago, if at all: before that its kubelet heard of
    every deletion.
    """
    if machine.ended or not machine.node or _switched_off(node):
        return Fate.ENDED
    if node is None or not node.ready:
        return Fate.LOST
    settled = min(missing_us, ready_us) >= (AWAY_S + machine.grace_s + SETTLE_S) * 1_000_000
    return Fate.ENDED if settled else Fate.LOST


def witnesses(known: Iterable[Mapping[str, Machine]], pods: Iterable[Pod]) -> set[str]:
    """The nodes whose word decides whether a machine has ended. `known`: machines by uid, of each launch; `pods`: all
    that are there."""
    there = {pod.metadata.uid: pod for pod in pods}
    machines = {uid: machine for some in known for uid, machine in some.items()}
    alive = {uid for uid, pod in there.items() if not pod.over}
    node_of = {uid: pod.spec.node_name for uid, pod in there.items()} | {uid: m.node for uid, m in machines.items()}
    return {node for uid, node in node_of.items() if node and uid not in alive and not _ended(machines.get(uid))}


def _ended(machine: Machine | None) -> bool:
    return machine is not None and machine.ended


def _switched_off(node: Node | None) -> bool:
    return node is not None and any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)


def to_text(machines: Mapping[str, Machine]) -> str:
    """As a record holds them: JSON by uid."""
    return msgspec.json.encode(machines, order="sorted").decode()


def from_text(text: str) -> dict[str, Machine]:
    """What `to_text` wrote; nothing where somebody has spoilt it."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Machine])
    except msgspec.MsgspecError:
        return {}


def reasons(pods: Iterable[Pod], nodes: Mapping[str, Node]) -> str:
    """Why machines do not run, or why nothing is known of them; for people. Empty: nothing to say."""
    said = []
    for pod in pods:
        node = nodes.get(pod.spec.node_name)
        if pod.spec.node_name and (node is None or not node.ready):
            said.append(f"{pod.metadata.name}: node {pod.spec.node_name} is not Ready, nothing is known of it")
        elif pod.status.reason or pod.status.message:
            said.append(f"{pod.metadata.name}: {pod.status.reason} {pod.status.message}".strip())
        else:
            said += waits(pod)
    return "; ".join(said)


def waits(pod: Pod) -> list[str]:
    """Why this pod's containers do not run, each by its name, in the words of whoever keeps them from it."""
    bad = [c for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"]
    said = [f"{pod.metadata.name}: {c.reason}: {c.message}" for c in bad]
    for name, halt in _halts(pod.status):
        if halt.reason not in ("ContainerCreating", "PodInitializing", "Completed"):
            exit_code = "" if halt.exit_code is None else f" exit {halt.exit_code}"
            why = f"{halt.reason}{exit_code}: {halt.message}".removesuffix(": ")
            said.append(f"{pod.metadata.name}/{name}: {why[:REASON]}")
    return said


def _halts(status: PodStatus) -> Iterator[tuple[str, Halt]]:
    for one in (*status.init_container_statuses, *status.container_statuses):
        yield from ((one.name, halt) for halt in (one.state.waiting, one.state.terminated) if halt)
