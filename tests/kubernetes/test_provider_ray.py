"""Launches through KubeRay by the provider, with a real Ray: told, with its output, and over when its head is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Sighting, SightingState
from orchestrator.model.wire import AttemptEnv, Isolation, StoreRef
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_attempt, some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.queues import drop_queues, make_queues, needs_kueue
from tests.kubernetes.untracked import untracked

pytestmark = [pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.heavy, pytest.mark.timeout(600)]
TWO = some_terms(workers=2, gpus_per_worker=1, cpus=1, memory=0)


@pytest.fixture(params=["alone", "queued"])
def queued(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Iterator[bool]:
    """As it comes; and with what else has a say in a RayJob: a queue, and deploy/untracked.yaml."""
    if request.param == "alone":
        yield False
        return
    needs_kueue(cluster)
    make_queues(cluster, namespace, gpus=2)
    with untracked(cluster, namespace):
        yield True
    drop_queues(cluster, namespace)


@pytest.fixture
async def session(cluster: Cluster, namespace: str, queued: bool, store_ref: StoreRef) -> AsyncIterator[Session]:
    """A provider that launches through KubeRay."""
    if not cluster.has("rayjobs.ray.io"):
        pytest.skip("not run: kuberay: install KubeRay in the cluster")
    told: dict[str, Any] = {
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": namespace,
        "image": os.environ["KUBERNETES_TEST_IMAGE"],
        "agentImage": os.environ["KUBERNETES_TEST_AGENT_IMAGE"],
        "runtime": "kuberay",
        "storeSecret": "store",
        "podTemplate": {"spec": {"containers": [{"name": "ray", "resources": {"requests": {"cpu": "100m"}}}]}},
    }
    if queued:
        told["queue"] = "ours"

    def attempt(job: str, epoch: int) -> AttemptEnv:
        isolation = Isolation(check_ms=1_000, limit_ms=60_000, grace_ms=1_000)
        return an_attempt(job, epoch, store=store_ref, isolation=isolation, command=("sleep", "600"))

    provider = KubernetesProvider("k", told, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger"))
    s = Session(Subject(provider=provider, terms=TWO, attempt=attempt, patience_s=240, poll_s=1))
    yield s
    await s.clean()
    await s.provider.aclose()


async def test_a_head_that_is_lost_ends_the_launch_and_nothing_takes_its_place(
    session: Session, cluster: Cluster, namespace: str, queued: bool
) -> None:
    assert await session.provider.check() == []
    order = await session.running()
    seen = await told(session, order.key, SightingState.RUNNING)
    assert len(seen.machines) == 2 and seen.gpus == 2
    [ray_job] = cluster.get("rayjobs", "-n", namespace, "--show-managed-fields")["items"]
    assert ray_job["status"]["jobDeploymentStatus"] and ("managedFields" in ray_job["metadata"]) is not queued
    assert b"Ray" in b"".join([line async for line in session.provider.logs(order.key)])
    [head] = heads(cluster, namespace, order.key)
    cluster.kubectl("delete", "pod", head, "-n", namespace, "--wait=false")
    assert "pod with the agent has ended" in (await told(session, order.key, SightingState.ENDED)).detail
    await asyncio.sleep(5)
    assert not heads(cluster, namespace, order.key)
    await session.provider.stop([order.key])
    await told(session, order.key, SightingState.GONE)
    assert not heads(cluster, namespace, order.key)


def heads(cluster: Cluster, namespace: str, key: str) -> list[str]:
    selector = f"orchestrator.dev/key={key},ray.io/node-type=head"
    return [str(pod["metadata"]["name"]) for pod in cluster.get("pods", "-n", namespace, "-l", selector)["items"]]


async def told(session: Session, key: str, *states: SightingState) -> Sighting:
    """Wait until the feed says so."""

    async def said() -> Sighting | None:
        sightings = (await session.provider.observe(None, 0)).sightings
        return next((s for s in sightings if s.key == key and s.state in states), None)

    return await session.wait(said, f"{key} {states}")
