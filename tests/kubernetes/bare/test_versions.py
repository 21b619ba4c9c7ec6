"""A KubeRay or Kueue that is too old for what we make is named by `providers check`, with the version that is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.ports.runtime import Tools
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.kinds import definition

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]
KNOWN = ("submissionMode", "jobId", "entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished")
KNOWN += ("rayClusterSpec", "activeDeadlineSeconds")
"""Fields of a RayJob that we set, but for the newest."""
NEWEST = "preRunningDeadlineSeconds"


class Site:
    """A cluster without operators, into which definitions of their kinds are put."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace, self._made = cluster, namespace, list[str]()

    def install(self, document: Doc) -> None:
        self._made.append(document["metadata"]["name"])
        self.cluster.apply(document)
        spec = document["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        until = time.monotonic() + 60
        while spec["names"]["listKind"] not in self.cluster.kubectl("get", "--raw", path, check=False):
            assert time.monotonic() < until, f"{path} is not served"
            time.sleep(0.1)

    def remove(self) -> None:
        for name in self._made:
            self.cluster.kubectl("delete", "crd", name, "--timeout=60s")

    async def check(self, **told: Any) -> list[str]:
        images = {"image": "i", "agentImage": "a"}
        here = {"kubeconfig": str(self.cluster.kubeconfig), "namespace": self.namespace}
        provider = KubernetesProvider(
            "k", images | here | told, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="l")
        )
        try:
            return [*await provider.check()]
        finally:
            await provider.aclose()


@pytest.fixture
def site(cluster: Cluster, namespace: str) -> Iterator[Site]:
    made = Site(cluster, namespace)
    yield made
    made.remove()


async def test_a_kuberay_that_would_drop_what_a_launch_says_is_named(site: Site) -> None:
    site.install(definition("ray.io", "RayJob", "v1", *KNOWN))
    [said] = await site.check()
    assert f'unknown field "spec.{NEWEST}"' in said and "install KubeRay 1.6 or later" in said
    assert await site.check(runtime="job") == []


async def test_a_kuberay_that_knows_all_of_it_lacks_nothing_and_nothing_is_made(site: Site) -> None:
    site.install(definition("ray.io", "RayJob", "v1", *KNOWN, NEWEST))
    assert await site.check() == []
    assert not site.cluster.get("rayjobs", "-n", site.namespace)["items"]


async def test_an_older_kueue_is_named_and_not_taken_for_none(site: Site) -> None:
    site.install(definition("kueue.x-k8s.io", "Workload", "v1beta1"))
    [said] = [line for line in await site.check(queue="q", runtime="job") if "ueue" in line]
    assert said.startswith("Kueue serves v1beta1 of kueue.x-k8s.io, and not v1beta2; install Kueue 0.15 or later")


async def test_a_kueue_that_would_drop_what_an_offer_asks_is_named(site: Site) -> None:
    site.install(definition("kueue.x-k8s.io", "Workload", "v1beta2", "queueName"))
    [said] = [line for line in await site.check(queue="q", runtime="job") if "Workload" in line]
    assert 'unknown field "spec.podSets"' in said and "install Kueue 0.15 or later" in said
