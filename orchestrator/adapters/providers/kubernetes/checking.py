"""What is missing in this cluster, and what is the remedy? One line for each thing.

Called by `orchestrator providers check`. It asks and changes nothing: the cluster itself says which rights we have
(SelfSubjectAccessReview), whether namespace, kinds, queue and check are there, whether it would take what we make
(`judging`), and whether nodes have what the operator says that they have.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.adapters.providers.kubernetes import judging
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused
from orchestrator.adapters.providers.kubernetes.objects import Runtime
from orchestrator.adapters.providers.kubernetes.queues import CONTROLLER, LocalQueue, Queue, read_queue
from orchestrator.adapters.providers.kubernetes.resources import (
    LOCAL_QUEUE,
    NAMESPACE,
    NODE,
    RAY_JOB,
    REVIEW,
    WORKLOAD,
    Many,
    Node,
    Thing,
    Workload,
)
from orchestrator.adapters.providers.kubernetes.rights import Right, rights
from orchestrator.ports.provider import Misconfigured, ProviderError, Unreachable

PROFILE_LABEL = "pod-security.kubernetes.io/enforce"
SETTLE_S = 2.0
"""Kueue writes down how many workloads wait in a queue within a second, and in one before the other."""
HOLDS = "what others queue there would never start (see “With Kueue” in examples/kubernetes/README.md)"
"""Why a ClusterQueue with our check is for our LocalQueue alone."""
_STRICT = ("privileged", "baseline", "restricted")


class _Allowed(Struct, frozen=True):
    allowed: bool = False


class _Review(Struct, frozen=True):
    status: _Allowed = _Allowed()


async def missing(client: Client, connection: Connection) -> list[str]:
    """Everything that is missing, each with its remedy; empty: all is well."""
    try:
        await client.alive()
        return [line async for line in _missing(client, connection)]
    except Unreachable as error:
        return [f"{error}; start the cluster, open the way to it, or correct `connection.kubeconfig` and its context"]
    except (ProviderError, Refused, Absent) as error:
        return [str(error)]


async def _missing(client: Client, connection: Connection) -> AsyncIterator[str]:
    ray = await _serves_ray(client)
    if connection.runtime == "kuberay" and not ray:
        yield "the kind RayJob (ray.io/v1) is not served; install KubeRay, or set `connection.runtime: job`"
    needed = [*rights(connection, ray=ray)]
    lacking = [right async for right in _lacking(client, connection, needed)]
    for line in ungranted(connection, needed, lacking):
        yield line
    async for line in _namespace(client, connection):
        yield line
    if not any(right.kind is NODE for right in lacking):
        async for line in _accelerators(client, connection):
            yield line
    if connection.queue and not any(right.kind is LOCAL_QUEUE for right in lacking):
        async for line in _queue(client, connection.namespace, connection.queue):
            yield line
    wanted: Runtime = "job" if connection.runtime == "job" or not ray else "kuberay"
    for lines in (judging.refused, judging.quotas):
        async for line in lines(client, connection, wanted):
            yield line


def ungranted(connection: Connection, needed: Collection[Right], lacking: Collection[Right]) -> Iterator[str]:
    """What is said of rights that we lack: one by one, or all at once where nothing is granted in the namespace."""
    there = {right for right in needed if not _cluster_wide(right)}
    if there <= set(lacking):
        nor = ", nor in the whole cluster" * (len(lacking) == len(needed))
        yield (
            f"no right at all in namespace {connection.namespace}{nor}: it is not there, or nothing was granted in it; "
            f"create it and name it in `kubernetes.namespaces` of the chart's values (without the chart: bind the Role "
            f"of the server's account there), or correct `connection.namespace`"
        )
        lacking = [] if nor else [right for right in lacking if right not in there]
    for right in lacking:
        where = "the whole cluster" if _cluster_wide(right) else f"namespace {connection.namespace}"
        yield (
            f"no right to {right.words} in {where} ({right.why}); "
            f"add it to the Role of the server's account{', or set `connection.runtime: job`' * _of_ray(right)}"
        )


def _of_ray(right: Right) -> bool:
    return right.kind.group == RAY_JOB.group


def _cluster_wide(right: Right) -> bool:
    return right.everywhere or not right.kind.namespaced


async def _serves_ray(client: Client) -> bool:
    try:
        found: dict[str, Any] = await client.get(f"/apis/{RAY_JOB.group}/{RAY_JOB.version}", dict)
    except Absent:
        return False
    return any(one.get("name") == RAY_JOB.plural for one in found.get("resources", ()))


async def _lacking(client: Client, connection: Connection, needed: Sequence[Right]) -> AsyncIterator[Right]:
    for right, allowed in zip(
        needed, await asyncio.gather(*(_may(client, connection, r) for r in needed)), strict=True
    ):
        if not allowed:
            yield right


async def _may(client: Client, connection: Connection, right: Right) -> bool:
    asked = {"verb": right.verb, "group": right.kind.group, "resource": right.kind.plural, "subresource": right.sub}
    if not _cluster_wide(right):
        asked["namespace"] = connection.namespace
    body = {"apiVersion": REVIEW.api_version, "kind": REVIEW.name, "spec": {"resourceAttributes": asked}}
    return (await client.create(REVIEW.path(), body, _Review)).status.allowed


async def _namespace(client: Client, connection: Connection) -> AsyncIterator[str]:
    try:
        found = await client.get(NAMESPACE.path(name=connection.namespace), Thing)
    except Absent:
        yield f"there is no namespace {connection.namespace}; create it, or correct `connection.namespace`"
        return
    except Misconfigured:
        return  # it may be there without our being allowed to see it
    enforced = found.metadata.label(PROFILE_LABEL) or "privileged"
    if enforced in _STRICT and _STRICT.index(enforced) > _STRICT.index(connection.profile):
        yield (
            f"namespace {connection.namespace} enforces Pod Security {enforced}, and pods keep to {connection.profile} "
            f"only; set `connection.profile: {enforced}`, or relax the namespace's label"
        )


async def _accelerators(client: Client, connection: Connection) -> AsyncIterator[str]:
    nodes = (await client.get(NODE.path(), Many[Node], limit=5000)).items
    for name, accelerator in connection.accelerators.items():
        labels = accelerator.node_selector.items()
        fitting = [n for n in nodes if all((n.metadata.labels or {}).get(k) == v for k, v in labels)]
        has = [n for n in fitting if str((n.status.allocatable or {}).get(accelerator.resource, "0")) != "0"]
        if not has and (fitting or not accelerator.autoscaled):
            where = " ".join(f"{k}={v}" for k, v in labels) or "any label"
            yield (
                f"accelerator {name}: of {len(fitting)} nodes with {where} none offers {accelerator.resource}; install "
                f"its device plugin, or correct `connection.accelerators.{name}`"
            )


async def _queue(client: Client, namespace: str, name: str) -> AsyncIterator[str]:
    if line := await judging.too_old(client):
        yield line
        return
    try:
        queue = await read_queue(client, namespace, name)
    except (Absent, Refused, Misconfigured) as error:
        yield f"{error}; install Kueue and create LocalQueue {name}, or leave `connection.queue` out"
        return
    for line in faults(queue):
        yield line
    async for line in shared(client, namespace, queue):
        yield line


def faults(queue: Queue) -> list[str]:
    """What keeps this queue from answering offers."""
    said = []
    where = f"ClusterQueue {queue.cluster_queue}"
    if not queue.checks:
        said.append(
            f"{where} has no admission check of controller {CONTROLLER}, so that launches would start before they are "
            f"ordered; create an AdmissionCheck with that controllerName and name it in the admission checks of a "
            f"ClusterQueue for LocalQueue {queue.name} alone: {HOLDS}"
        )
    if queue.preempts:
        said.append(f"{where} preempts ({queue.preempts}); set its preemption to Never: an acceptance must hold")
    if not queue.active and not (queue.checks and "inactive AdmissionCheck" in queue.why):  # until a server serves it
        said.append(f"{where} is not active: {queue.why}; `kubectl describe clusterqueue {queue.cluster_queue}`")
    return said


async def shared(client: Client, namespace: str, queue: Queue) -> AsyncIterator[str]:
    """Who else queues where our check lets nothing of theirs start, as far as we may see it."""
    where, own = f"ClusterQueue {queue.cluster_queue}", f"LocalQueue {namespace}/{queue.name}"
    try:
        there = await client.items(LOCAL_QUEUE.path(), Many[LocalQueue])
        alike = [one.metadata for one in there if one.spec.cluster_queue == queue.cluster_queue]
        names = {f"{one.namespace}/{one.name}" for one in alike} - {f"{namespace}/{queue.name}"}
        others = f"of LocalQueue {', '.join(sorted(names))}" * bool(names)
    except Misconfigured:  # as with the chart's rights; how many there are is told by our own two queues
        others = await _counted(client, namespace, queue)
    if others:
        yield f"{where} takes workloads {others} too; make one for {own} alone: {HOLDS}"
    with contextlib.suppress(Misconfigured):
        found = await client.items(WORKLOAD.path(namespace), Many[Workload])
        strangers = sum(one.spec.queue_name == queue.name and not one.metadata.ours for one in found)
        if strangers:
            yield f"{own} holds {strangers} workloads that are not ours; move them to a queue of their own: {HOLDS}"


async def _counted(client: Client, namespace: str, queue: Queue) -> str:
    """That more workloads are in the ClusterQueue than came by our LocalQueue; empty: not so, or not for long."""
    if not queue.others:
        return ""
    await asyncio.sleep(SETTLE_S)
    again = (await read_queue(client, namespace, queue.name)).others
    return f"({min(again, queue.others)} now) of other LocalQueues" if again else ""
