"""Nodes that come, come back or are let in again are told as capacity; pools that may grow are never too small."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.cluster import Cluster as Seen
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.memory import Memory
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.reservations import Reservations
from orchestrator.adapters.providers.kubernetes.resources import NODE, Node
from orchestrator.adapters.providers.kubernetes.room import Room, Stock
from orchestrator.adapters.providers.kubernetes.watching import Mirror
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Reason
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_offer, some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.cluster import Cluster

IMAGES = {"image": "i", "agentImage": "a"}
TERMS = some_terms(workers=1, gpus_per_worker=1, cpus=1)
POOL = {"nodeSelector": {"pool": "h100"}}


def node(*, ready: bool = True, shut: bool = False) -> Node:
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]}
    return msgspec.convert({"metadata": {"name": "n"}, "spec": {"unschedulable": shut}, "status": status}, Node)


def test_a_node_is_news_when_it_takes_pods_and_did_not_before() -> None:
    memory, told = Memory(), []
    for seen, gone in (
        (node(ready=False), False), (node(), False), (node(), False), (node(ready=False), False), (node(), False),
        (node(shut=True), False), (node(), False), (node(), True), (node(), False),
    ):  # fmt: skip
        told.append(memory.node(seen, gone, 0))
    assert told == [False, True, False, False, True, False, True, False, True]


@pytest.mark.parametrize(("autoscaled", "reason"), [(False, Reason.SPEC), (True, Reason.CAPACITY)])
def test_an_empty_pool_that_may_grow_is_full_and_not_too_small(autoscaled: bool, reason: Reason) -> None:
    connection = parse_connection("k", IMAGES | {"accelerators": {"H100": POOL | {"autoscaled": autoscaled}}})
    answer = Room(connection, "job").receipt(an_offer(terms=TERMS), Stock([node()], []), 0).answer
    assert answer is not None and (answer.accepted, answer.reason) == (False, reason)


@pytest.mark.parametrize("autoscaled", [False, True])
def test_with_a_queue_a_pool_that_may_grow_is_kueues_to_answer_for(autoscaled: bool) -> None:
    told: dict[str, Any] = IMAGES | {"queue": "q", "accelerators": {"H100": POOL | {"autoscaled": autoscaled}}}
    client = Client("k", None, None)
    seen = Seen(client, parse_connection("k", told), lambda: 0)
    seen.nodes, seen.pods = Mirror(client, NODE.path(), Node, lambda *_: None), Mirror(client, "", Any, lambda *_: None)
    seen.quotas = seen.ranges = None
    tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="l")
    offers = Reservations(seen, None, tools, lambda _: None)  # type: ignore[arg-type]
    assert (offers._never("o", TERMS, "H100") is None) is autoscaled


@pytest.fixture
async def session(cluster: Cluster, kubelet: Kubelet) -> AsyncIterator[Session]:
    told = IMAGES | {"kubeconfig": str(cluster.kubeconfig), "namespace": kubelet.namespace, "runtime": "job"}
    provider = KubernetesProvider("k", told, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="l"))
    made = Session(Subject(provider=provider, terms=TERMS, poll_s=0.2))
    yield made
    await provider.aclose()


@pytest.mark.kubernetes
async def test_a_node_that_joins_is_told_as_capacity(session: Session, cluster: Cluster, kubelet: Kubelet) -> None:
    before = await session.provider.observe(None, 0)
    second = Kubelet(cluster, kubelet.namespace, f"second-{kubelet.namespace}")
    second.register()

    async def told() -> bool | None:
        since = await session.provider.observe(before.cursor, 0)
        return any(notice.kind == "capacity" for notice in since.notices) or None

    try:
        await session.wait(told, "a notice of capacity")
    finally:
        second.leave()
