"""A namespace's quota on limits: what we answer is what the API server then does with the pods, read or not read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.objects import pod_sets
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Answer, Receipt
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_offer, some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.front import Front, a_front, write_kubeconfig

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]
TERMS = some_terms(workers=1, gpus_per_worker=1, cpus=1)


class Site:
    """A provider before a namespace with a quota of 8 CPUs as limits."""

    def __init__(self, cluster: Cluster, kubelet: Kubelet, front: Front, config: Path) -> None:
        self.cluster, self.space, self.front, self.offers = cluster, kubelet.namespace, front, 0
        h100 = {"resource": "nvidia.com/gpu", "nodeSelector": kubelet.selector}
        told = {"kubeconfig": str(config), "namespace": self.space, "image": "i", "agentImage": "a", "runtime": "job"}
        self.told = told | {"accelerators": {"H100": h100}}
        tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="l")
        self.session = Session(Subject(provider=KubernetesProvider("k", self.told, tools), terms=TERMS, poll_s=0.2))
        hard = {"limits.cpu": "8"}
        quota = self.doc("ResourceQuota", "team") | {"spec": {"hard": hard}}
        cluster.apply(quota)
        status = json.dumps({"status": {"hard": hard, "used": {"limits.cpu": "0"}}})  # nobody else writes it here
        patch = ("patch", "resourcequota", "team", "-n", self.space, "--subresource=status", "--type=merge")
        cluster.kubectl(*patch, "-p", status)

    def doc(self, kind: str, name: str) -> Doc:
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": self.space}}

    async def answer(self) -> Answer:
        self.offers += 1
        [receipt] = await self.session.provider.place_offers([an_offer(n=self.offers, terms=TERMS)])
        assert isinstance(receipt, Receipt) and receipt.answer is not None
        return receipt.answer

    def pod(self) -> str:
        """What the API server says to the pod of a launch."""
        [pods] = pod_sets("o", TERMS, "H100", parse_connection("k", self.told), "job")
        pod = self.doc("Pod", "trial") | {"spec": msgspec.to_builtins(pods["template"]["spec"])}
        try:
            self.cluster.apply(pod, dry_run=True)
        except AssertionError as refused:
            return str(refused)
        return ""


@pytest.fixture
async def site(cluster: Cluster, kubelet: Kubelet, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_front(cluster.kubeconfig) as front:
        made = Site(cluster, kubelet, front, write_kubeconfig(tmp_path / "config", front.url, {"token": "one"}))
        yield made
        await made.session.provider.aclose()


async def test_a_quota_on_limits_is_a_no_until_the_namespace_gives_limits(site: Site) -> None:
    said = await site.answer()
    assert not said.accepted and "quota team: limits.cpu: container ray sets no such limit" in said.detail
    assert "must specify limits.cpu" in site.pod()
    limits = {"limits": [{"type": "Container", "default": {"cpu": "2"}}]}
    site.cluster.apply(site.doc("LimitRange", "defaults") | {"spec": limits})

    async def accepted() -> bool | None:
        return (await site.answer()).accepted or None

    await site.session.wait(accepted, "a yes")
    assert site.pod() == ""


async def test_who_may_not_read_limit_ranges_leaves_such_quotas_to_admission(site: Site) -> None:
    def refuse(request: web.Request) -> web.Response | None:
        return web.json_response({"code": 403}, status=403) if "/limitranges" in request.path else None

    site.front.mishaps.append(refuse)
    assert (await site.answer()).accepted
