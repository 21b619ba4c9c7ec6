"""A launch that the cluster refuses keeps nothing: no room on nodes, no quota of Kueue's, which a test plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.resources import ADMISSION_CHECK, CLUSTER_QUEUE, LOCAL_QUEUE, WORKLOAD
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Answer, OfferOut, Rejected
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.front import Front, a_front, write_kubeconfig
from tests.kubernetes.kinds import definition, forget, introduce
from tests.kubernetes.queues import drop_queues, make_queues

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]
ALL = some_terms(workers=1, gpus_per_worker=8, cpus=1)
KINDS = (WORKLOAD, LOCAL_QUEUE, CLUSTER_QUEUE, ADMISSION_CHECK, CLUSTER_QUEUE._replace(name="ResourceFlavor"))
KUEUE = [
    definition(kind.group, kind.name, kind.version, scope="Namespaced" if kind.namespaced else "Cluster", status=True)
    for kind in KINDS
]


class Site:
    """A provider before a node of eight GPUs, with a queue of ours or without."""

    def __init__(self, cluster: Cluster, kubelet: Kubelet, front: Front, told: dict[str, Any]) -> None:
        self.cluster, self.space, self.front = cluster, kubelet.namespace, front
        h100 = {"resource": "nvidia.com/gpu", "nodeSelector": kubelet.selector}
        told |= {"namespace": self.space, "image": "i", "agentImage": "a", "runtime": "job"}
        tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger")
        provider = KubernetesProvider("k", told | {"accelerators": {"H100": h100}}, tools)
        self.session = Session(Subject(provider=provider, terms=ALL, poll_s=0.2))

    def workloads(self) -> list[str]:
        return [one["metadata"]["name"] for one in self.cluster.get("workloads", "-n", self.space)["items"]]

    async def reserved(self) -> tuple[OfferOut, Answer]:
        """An offer that was accepted, by Kueue."""
        accepting = asyncio.ensure_future(self.session.accepted())

        async def asked() -> list[str] | None:
            return self.workloads() or None

        [name] = await self.session.wait(asked, "a Workload")
        status = {"conditions": [{"type": "QuotaReserved", "status": "True"}]}
        patch = ("patch", "workload", name, "-n", self.space, "--subresource=status", "--type=merge")
        self.cluster.kubectl(*patch, "-p", json.dumps({"status": status}))
        return await accepting

    async def rejected(self, offer: OfferOut, answer: Answer) -> None:
        """Its launch is refused by admission, for good; nobody who hears of room asks again at once."""
        before = (await self.session.provider.observe(None, 0)).cursor
        self.front.once("POST", "/jobs", 422)
        [reply] = await self.session.launch([self.session.order(offer, answer)])
        assert isinstance(reply, Rejected)
        assert not (await self.session.provider.observe(before, 1_000_000)).notices


@asynccontextmanager
async def a_site(cluster: Cluster, kubelet: Kubelet, folder: Path, **told: Any) -> AsyncIterator[Site]:
    async with a_front(cluster.kubeconfig) as front:
        config = write_kubeconfig(folder / "config", front.url, {"token": "one"})
        made = Site(cluster, kubelet, front, told | {"kubeconfig": str(config)})
        try:
            yield made
        finally:
            await made.session.provider.aclose()


@pytest.fixture
def queue(cluster: Cluster, namespace: str) -> Iterator[str]:
    introduce(cluster, *KUEUE)
    make_queues(cluster, namespace, gpus=8)
    yield "ours"
    drop_queues(cluster, namespace)
    forget(cluster, *KUEUE)


async def test_room_that_was_kept_for_a_launch_that_is_rejected_is_offered_again(
    cluster: Cluster, kubelet: Kubelet, tmp_path: Path
) -> None:
    async with a_site(cluster, kubelet, tmp_path) as site:
        await site.rejected(*await site.session.accepted())
        await site.session.accepted()


async def test_quota_that_was_reserved_for_a_launch_that_is_rejected_is_given_back(
    cluster: Cluster, kubelet: Kubelet, tmp_path: Path, queue: str
) -> None:
    async with a_site(cluster, kubelet, tmp_path, queue=queue) as site:
        await site.rejected(*await site.reserved())
        assert site.workloads() == []
