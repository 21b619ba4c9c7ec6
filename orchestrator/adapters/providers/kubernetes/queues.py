"""Which ClusterQueue answers our offers, by which admission check do we let launches start, and is it all in order?

Called where offers wait for a queue, and by the check of the connection. The queue is the operator's and dedicated to
us: other teams' queues have no check of ours, so that they never wait for this server. Queue and checks may be changed,
or deleted and made again, at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.errors import Absent
from orchestrator.adapters.providers.kubernetes.resources import (
    ADMISSION_CHECK,
    CLUSTER_QUEUE,
    LOCAL_QUEUE,
    Condition,
    Meta,
)
from orchestrator.ports.provider import Misconfigured

CONTROLLER = "orchestrator.dev/offers"
"""`controllerName` of the AdmissionChecks that this adapter serves."""
EVERY_US = 60_000_000
"""How old what is known of a queue may be; each reading is three requests."""
AGAIN_US = 2_000_000
"""The same while Kueue says that the queue is inactive, as it is where a check was made anew and nobody serves it."""


class Behind(Struct, frozen=True, rename="camel"):
    """Which ClusterQueue a LocalQueue leads to."""

    cluster_queue: str = ""


class LocalQueue(Struct, frozen=True):
    """A LocalQueue, whosever it is."""

    metadata: Meta
    spec: Behind = Behind()


class Queue(Struct, frozen=True, kw_only=True):
    """A LocalQueue and what stands behind it."""

    name: str
    cluster_queue: str
    checks: tuple[str, ...]
    """Admission checks of ours."""
    unserved: tuple[str, ...] = ()
    """Those of them that nobody has said are served."""
    active: bool
    why: str = ""
    preempts: str = ""
    """Which preemption is on; empty: none."""
    others: int = 0
    """Workloads in the ClusterQueue beyond those of this LocalQueue, as Kueue counted them a moment ago."""


async def read_queue(client: Client, namespace: str, name: str) -> Queue:
    """The queue as it is now. Raises as the client does: `Absent` where Kueue or the queue is not there."""
    local: dict[str, Any] = await client.get(LOCAL_QUEUE.path(namespace, name), dict)
    behind = str(local.get("spec", {}).get("clusterQueue", ""))
    if not behind:
        raise Absent(f"LocalQueue {namespace}/{name} names no ClusterQueue in spec.clusterQueue")
    cluster: dict[str, Any] = await client.get(CLUSTER_QUEUE.path(name=behind), dict)
    spec = cluster.get("spec", {})
    checks, unserved = [], []
    for check in _named(spec):
        try:
            found: dict[str, Any] = await client.get(ADMISSION_CHECK.path(name=check), dict)
        except Absent:
            continue  # until it is made, the ClusterQueue is not active and says so
        if found["spec"]["controllerName"] == CONTROLLER:
            checks.append(check)
            said = _active(found)
            if said is None or said.status != "True":
                unserved.append(check)
    active = _active(cluster)
    return Queue(
        name=name, cluster_queue=behind, checks=tuple(checks), unserved=tuple(unserved),
        active=active is None or active.status == "True", why=active.message if active else "",
        preempts=_preempts(spec.get("preemption", {})), others=max(0, _count(cluster) - _count(local)),
    )  # fmt: skip


async def serve(client: Client, queue: Queue, now: str) -> None:
    """Say that our checks are served; Kueue admits nothing to a queue whose check nobody serves."""
    for check in queue.unserved:
        condition = {
            "type": "Active", "status": "True", "reason": "Served", "message": "offers are answered by this check",
            "lastTransitionTime": now,
        }  # fmt: skip
        body = {
            "apiVersion": ADMISSION_CHECK.api_version, "kind": ADMISSION_CHECK.name, "metadata": {"name": check},
            "status": {"conditions": [condition]},
        }  # fmt: skip
        with contextlib.suppress(Absent):  # deleted since it was read
            await client.apply(ADMISSION_CHECK.path(name=check, sub="status"), body, dict)


class Serving:
    """One queue, whose checks are served for as long as somebody asks for it."""

    def __init__(self, client: Client, namespace: str, name: str, now: Callable[[], int]) -> None:
        self._client, self._namespace, self._name, self._now = client, namespace, name, now
        self._reading = asyncio.Lock()
        self._queue: Queue | None = None
        self._read_at = 0

    async def queue(self) -> Queue:
        """The queue, as it was a minute ago at most. Raises `Misconfigured` where it is not there."""
        async with self._reading:
            if self._queue is None or self._older(EVERY_US):
                return await self._read()
            return self._queue

    async def look(self, *, inactive: bool) -> None:
        """Somebody waits for this queue (`inactive`: as Kueue says): serve what is not served any more."""
        async with self._reading:
            if self._older(AGAIN_US if inactive else EVERY_US):
                await self._read()

    def _older(self, than_us: int) -> bool:
        return not 0 <= self._now() - self._read_at < than_us

    async def _read(self) -> Queue:
        self._queue, self._read_at = None, self._now()
        try:
            found = await read_queue(self._client, self._namespace, self._name)
        except Absent as error:
            remedy = f"create LocalQueue {self._namespace}/{self._name}, or correct `connection.queue`"
            raise Misconfigured(f"{error}; {remedy}") from error
        await serve(self._client, found, timestamp(self._now()))
        if found.checks:  # else the operator is about to name one, and the next offer should find it
            self._queue = found
        return found


def timestamp(at_us: int) -> str:
    """A time of ours as Kubernetes writes it."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _named(spec: dict[str, Any]) -> list[str]:
    strategy = spec.get("admissionChecksStrategy", {}).get("admissionChecks", ())
    return [*spec.get("admissionChecks", ()), *(str(one["name"]) for one in strategy)]


def _count(queue: dict[str, Any]) -> int:
    """Workloads that wait in a queue or have quota by it."""
    status = queue.get("status", {})
    return int(status.get("pendingWorkloads", 0)) + int(status.get("reservingWorkloads", 0))


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
