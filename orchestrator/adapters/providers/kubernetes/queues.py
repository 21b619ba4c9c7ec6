"""Which ClusterQueue answers our offers, by which admission check do we let launches start, and is it all in order?

Called when a queue is first used, and by the check of the connection. The queue is the operator's and dedicated to us:
other teams' queues have no check of ours, so that they never wait for this server.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.resources import ADMISSION_CHECK, CLUSTER_QUEUE, LOCAL_QUEUE, Condition

CONTROLLER = "orchestrator.dev/offers"
"""`controllerName` of the AdmissionChecks that this adapter serves."""


class Queue(Struct, frozen=True, kw_only=True):
    """A LocalQueue and what stands behind it."""

    name: str
    cluster_queue: str
    checks: tuple[str, ...]
    """Admission checks of ours."""
    active: bool
    why: str = ""
    preempts: str = ""
    """Which preemption is on; empty: none."""


async def read_queue(client: Client, namespace: str, name: str) -> Queue:
    """The queue as it is now. Raises as the client does: `Absent` where Kueue or the queue is not there."""
    local: dict[str, Any] = await client.get(LOCAL_QUEUE.path(namespace, name), dict)
    behind = str(local["spec"]["clusterQueue"])
    cluster: dict[str, Any] = await client.get(CLUSTER_QUEUE.path(name=behind), dict)
    spec = cluster.get("spec", {})
    checks = []
    for check in _named(spec):
        found: dict[str, Any] = await client.get(ADMISSION_CHECK.path(name=check), dict)
        if found["spec"]["controllerName"] == CONTROLLER:
            checks.append(check)
    active = _active(cluster)
    return Queue(
        name=name, cluster_queue=behind, checks=tuple(checks), active=active is None or active.status == "True",
        why=active.message if active else "", preempts=_preempts(spec.get("preemption", {})),
    )  # fmt: skip


async def serve(client: Client, queue: Queue, now: str) -> None:
    """Say that our checks are served; Kueue admits nothing to a queue whose check nobody serves."""
    for check in queue.checks:
        condition = {
            "type": "Active", "status": "True", "reason": "Served", "message": "offers are answered by this check",
            "lastTransitionTime": now,
        }  # fmt: skip
        body = {
            "apiVersion": ADMISSION_CHECK.api_version, "kind": ADMISSION_CHECK.name, "metadata": {"name": check},
            "status": {"conditions": [condition]},
        }  # fmt: skip
        await client.apply(ADMISSION_CHECK.path(name=check, sub="status"), body, dict)


def _named(spec: dict[str, Any]) -> list[str]:
    strategy = spec.get("admissionChecksStrategy", {}).get("admissionChecks", ())
    return [*spec.get("admissionChecks", ()), *(str(one["name"]) for one in strategy)]


def _active(cluster: dict[str, Any]) -> Condition | None:
    for one in cluster.get("status", {}).get("conditions", ()):
        if one["type"] == "Active":
            return Condition(one["type"], one["status"], one.get("reason", ""), one.get("message", ""))
    return None


def _preempts(preemption: dict[str, Any]) -> str:
    on = []
    for name in ("withinClusterQueue", "reclaimWithinCohort"):
        if preemption.get(name, "Never") != "Never":
            on.append(f"{name}: {preemption[name]}")
    if preemption.get("borrowWithinCohort", {}).get("policy", "Never") != "Never":
        on.append("borrowWithinCohort")
    return ", ".join(on)
