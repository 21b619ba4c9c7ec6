"""What is missing in this cluster, and what is the remedy? One line for each thing.

Called by `orchestrator providers check`. It asks and changes nothing: the cluster itself says which rights we have
(SelfSubjectAccessReview), whether namespace, kinds, queue and check are there, whether it would take what we make
(`judging`), and whether nodes have what the operator says that they have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from orchestrator.adapters.providers.kubernetes import judging
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused
from orchestrator.adapters.providers.kubernetes.objects import Runtime
from orchestrator.adapters.providers.kubernetes.queues import CONTROLLER, Queue, read_queue
from orchestrator.adapters.providers.kubernetes.resources import NAMESPACE, NODE, RAY_JOB, REVIEW, Many, Node, Thing
from orchestrator.adapters.providers.kubernetes.rights import Right, rights
from orchestrator.ports.provider import Misconfigured, ProviderError, Unreachable

PROFILE_LABEL = "pod-security.kubernetes.io/enforce"
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
    lacking = [right async for right in _lacking(client, connection, ray)]
    for right in lacking:
        yield (
            f"no right to {right.words} in {_place(connection, right)} ({right.why}); "
            f"add it to the Role of the server's account{', or set `connection.runtime: job`' * _of_ray(right)}"
        )
    async for line in _namespace(client, connection):
        yield line
    if not any(right.kind is NODE for right in lacking):
        async for line in _accelerators(client, connection):
            yield line
    if connection.queue:
        async for line in _queue(client, connection.namespace, connection.queue):
            yield line
    wanted: Runtime = "job" if connection.runtime == "job" or not ray else "kuberay"
    for lines in (judging.refused, judging.quotas):
        async for line in lines(client, connection, wanted):
            yield line


def _of_ray(right: Right) -> bool:
    return right.kind.group == RAY_JOB.group


def _place(connection: Connection, right: Right) -> str:
    if right.everywhere or not right.kind.namespaced:
        return "the whole cluster"
    return f"namespace {connection.namespace}"


async def _serves_ray(client: Client) -> bool:
    try:
        found: dict[str, Any] = await client.get(f"/apis/{RAY_JOB.group}/{RAY_JOB.version}", dict)
    except Absent:
        return False
    return any(one.get("name") == RAY_JOB.plural for one in found.get("resources", ()))


async def _lacking(client: Client, connection: Connection, ray: bool) -> AsyncIterator[Right]:
    needed = [*rights(connection, ray=ray)]
    for right, allowed in zip(
        needed, await asyncio.gather(*(_may(client, connection, r) for r in needed)), strict=True
    ):
        if not allowed:
            yield right


async def _may(client: Client, connection: Connection, right: Right) -> bool:
    asked = {"verb": right.verb, "group": right.kind.group, "resource": right.kind.plural, "subresource": right.sub}
    if right.kind.namespaced and not right.everywhere:
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


def faults(queue: Queue) -> list[str]:
    """What keeps this queue from answering offers."""
    said = []
    where = f"ClusterQueue {queue.cluster_queue}"
    if not queue.checks:
        said.append(
            f"{where} has no admission check of controller {CONTROLLER}, so that launches would start before they are "
            f"ordered; create an AdmissionCheck with that controllerName and name it in the queue's admission checks"
        )
    if queue.preempts:
        said.append(f"{where} preempts ({queue.preempts}); set its preemption to Never: an acceptance must hold")
    if not queue.active and not (queue.checks and "inactive AdmissionCheck" in queue.why):  # until a server serves it
        said.append(f"{where} is not active: {queue.why}; `kubectl describe clusterqueue {queue.cluster_queue}`")
    return said
