"""A provider before a node of eight GPUs, with a queue of Kueue's, which a test plays, or without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
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

ALL = some_terms(workers=1, gpus_per_worker=8, cpus=1)


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
