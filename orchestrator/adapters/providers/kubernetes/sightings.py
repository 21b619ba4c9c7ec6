"""What is to be said of one launch: provisioning, running, ended, stopping, gone?

Called by the provider with the launch's record, main object and pods. Pure. An object's status says whether a launch
goes on; only its machines say whether it is gone (`machines`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from orchestrator.adapters.providers.kubernetes.capacity import GPU_SUFFIX, requested
from orchestrator.adapters.providers.kubernetes.machines import Fate, Machine, reasons
from orchestrator.adapters.providers.kubernetes.resources import LEDGER, Main, Node, Pod, Record
from orchestrator.model.offer import KEPT, Sighting, SightingState

STATE = "state"
"""In a record's data: what we last meant to do under this key."""
LAUNCHED = "launched"
STOPPED = "stopped"
EVICTED = "evicted"
"""Kueue took its quota back: it must never start again."""
MADE = "made"
"""In a record's data: there was a main object. An earlier version made the record first, and did not say so."""
FINISHED = frozenset({"Complete", "Failed", "ValidationFailed"})

LOGS = ", last available logs"
"""Where they begin in KubeRay's message of a job that failed, which holds 20,000 characters of them."""


class Launch(Struct, frozen=True, kw_only=True):
    """All that is there under one key, and the fate of every machine that ever was."""

    key: str
    record: Record | None
    main: Main | None
    pods: tuple[Pod, ...] = ()
    machines: Mapping[str, Machine] = {}
    fates: Mapping[str, Fate] = {}
    """By uid, of pods that are there and of machines that are missing."""
    agreed: str = ""
    """What its main object said of the price (`billing`), if it was ever read."""
    complaint: str = ""
    """Why it has no pods, as an event says (`complaints`)."""
    kept: str = ""
    """Its ledger, where we remember machines of it that no record holds."""

    @property
    def state(self) -> str:
        """What the record says; without one, what is there speaks for itself; empty: nothing of ours is."""
        if self.record is None or not self.record.metadata.ours:
            return LAUNCHED if self.ledger else ""
        return (self.record.data or {}).get(STATE, LAUNCHED)

    @property
    def ledger(self) -> str:
        """Whose launch it is; empty: nothing of ours is under this key."""
        carriers = [thing for thing in (self.record, self.main, *self.pods) if thing is not None]
        return next((thing.metadata.label(LEDGER) for thing in carriers if thing.metadata.ours), self.kept)

    @property
    def left(self) -> bool:
        """Whether a machine is alive, or may be."""
        return any(fate is not Fate.ENDED for fate in self.fates.values())

    @property
    def headless(self) -> bool:
        """Whether the machine with the agent ended. KubeRay does not always notice, and nothing takes its place."""
        return any(m.head and self.fates.get(uid) is Fate.ENDED for uid, m in self.machines.items())

    @property
    def made(self) -> bool:
        """Whether it surely had a main object."""
        said = self.record is not None and MADE in (self.record.data or {})
        return said or self.main is not None or bool(self.machines) or bool(self.pods)


def running(main: Main) -> bool:
    """Whether the whole gang was up and the entrypoint was handed over."""
    if main.kind == "RayJob":
        return main.status.job_deployment_status == "Running"
    return bool(main.status.ready) and main.status.ready >= (main.spec.completions or 1)


def finished(main: Main) -> bool:
    """Whether it does nothing any more by its own word."""
    if main.kind == "RayJob":
        return main.status.job_deployment_status in FINISHED
    return any(c.type in FINISHED and c.status == "True" for c in main.status.conditions)


def state(launch: Launch) -> SightingState:
    """The ladder."""
    main, left = launch.main, launch.left
    if launch.state == STOPPED or (main is not None and main.metadata.deletion_timestamp):
        return SightingState.STOPPING if left or main is not None else SightingState.GONE
    if main is None and launch.state == LAUNCHED and not launch.made:
        return SightingState.PROVISIONING  # its making was cut off, by an earlier version
    if main is None:
        return SightingState.STOPPING if left else SightingState.GONE
    if finished(main) or launch.state == EVICTED or launch.headless:
        return SightingState.ENDED if left else SightingState.GONE
    return SightingState.RUNNING if running(main) else SightingState.PROVISIONING


def sighting(launch: Launch, nodes: Mapping[str, Node], seen_at: int) -> Sighting | None:
    """What is to be said; None: nothing of ours is under this key."""
    if not launch.ledger:
        return None
    there = [pod.metadata.name for pod in launch.pods]
    missing = [m.name for uid, m in launch.machines.items() if launch.fates.get(uid) is Fate.LOST]
    names = tuple(sorted({*there, *missing}))
    gpus = sum(_gpus(pod) for pod in launch.pods if launch.fates.get(pod.metadata.uid) is not Fate.ENDED)
    return Sighting(launch.key, state(launch), seen_at, launch.ledger, names, gpus, _detail(launch, nodes, missing))


def _detail(launch: Launch, nodes: Mapping[str, Node], missing: Collection[str]) -> str:
    said = []
    if launch.state == EVICTED and launch.record is not None:
        said.append((launch.record.data or {}).get("why", "evicted"))
    if launch.main is not None and (finished(launch.main) or not running(launch.main)):
        status = launch.main.status
        said.append(brief(": ".join(filter(None, (status.job_deployment_status, status.reason, status.message)))))
        said += [f"{c.type}: {c.reason} {c.message}".strip() for c in status.conditions if c.status == "True"]
    if state(launch) is SightingState.PROVISIONING:
        said.append(launch.complaint)
    if launch.headless:
        said.append("the pod with the agent has ended")
    if launch.main is None and launch.state == LAUNCHED and launch.made:
        said.append("its object was deleted, and not by us")
    said.append(reasons(launch.pods, nodes))
    if missing:
        names = ", ".join(sorted(missing))
        remedy = f"once its node is surely off, delete ConfigMap {launch.key}"
        said.append(f"{names}: deleted without its kubelet's word, nothing is known of it for now; {remedy}")
    return "; ".join(filter(None, said))[:1000]


def brief(text: str) -> str:
    """What can be kept of a text with logs: how it begins, and their last lines, for there stands what went wrong."""
    first, _, rest = text.partition(LOGS)
    if len(text) <= KEPT or not rest:
        return text
    room, last = KEPT - len(f"{first}: …"), ""
    for line in reversed(rest.partition("\n")[2].split("\n")):
        if last and len(line) + len(last) + 1 > room:
            break
        last = f"{line.strip()} {last}".strip()
    return f"{first}: …{last[-room:]}" if last and room > 0 else first


def _gpus(pod: Pod) -> int:
    return sum(int(amount) for name, amount in requested(pod.spec).items() if name.endswith(GPU_SUFFIX))
