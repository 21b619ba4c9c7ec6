"""KubeRay that is installed while our server runs is used from within a minute on; what began without it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from orchestrator.adapters.providers.kubernetes import kueue
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.cluster import RAY_EVERY_US, RAY_POD
from orchestrator.adapters.providers.kubernetes.cluster import Cluster as Seen
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.resources import KEY, LEDGER, MANAGED_BY, US, WORKLOAD, Workload
from orchestrator.adapters.providers.kubernetes.watching import Mirror
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.model.offer import SightingState
from orchestrator.ports.provider import Misconfigured
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.bare.sitting import Later
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.front import Front, a_front, write_kubeconfig
from tests.kubernetes.kinds import definition

SERVED = "GET /apis/ray.io/v1"
MINUTE_US = RAY_EVERY_US


class Site:
    """A cluster without KubeRay, and a server that reaches it through a front."""

    def __init__(self, cluster: Cluster, kubelet: Kubelet, front: Front, told: dict[str, Any]) -> None:
        self.cluster, self.kubelet, self.front, self.clock = cluster, kubelet, front, Later()
        h100 = {"resource": "nvidia.com/gpu", "nodeSelector": kubelet.selector}
        told |= {"namespace": kubelet.namespace, "image": "i", "agentImage": "a", "accelerators": {"H100": h100}}
        self._told, self._tools = told, Tools(runtime=RayJobs(), clock=self.clock, ledger="kit-ledger")
        self.session = Session(
            Subject(
                provider=KubernetesProvider("k", told, self._tools),
                terms=some_terms(workers=1, gpus_per_worker=1, cpus=1),
                poll_s=0.2,
            )
        )

    def wants(self, runtime: str) -> None:
        """The operator says so, before anything was called."""
        self.session.provider = KubernetesProvider("k", self._told | {"runtime": runtime}, self._tools)

    async def install(self) -> None:
        """KubeRay comes, and the API server has made room for it."""
        self.cluster.apply(definition("ray.io", "RayJob", "v1"))

        async def served() -> bool | None:
            return "RayJobList" in self.cluster.kubectl("get", "--raw", "/apis/ray.io/v1/rayjobs", check=False) or None

        await self.session.wait(served, "the kind RayJob")

    async def minute(self) -> None:
        """A minute later, somebody calls."""
        self.clock.ahead_us += MINUTE_US
        await self.session.provider.observe(None, 0)

    def kinds(self, key: str) -> set[str]:
        """Kinds of main objects under this key."""
        asked = ["jobs", *(["rayjobs.ray.io"] if self.cluster.has("rayjobs.ray.io") else [])]
        names = [self.cluster.kubectl("get", what, "-n", self.kubelet.namespace, "-o", "name") for what in asked]
        return {what for what, there in zip(asked, names, strict=True) if name_of(key) in there}

    async def runs(self, key: str, *states: SightingState) -> None:
        """The feed says so."""

        async def said() -> bool | None:
            seen = (await self.session.provider.observe(None, 0)).sightings
            return any(s.key == key and s.state in states for s in seen) or None

        await self.session.wait(said, f"{key} {states}")


@pytest.fixture
def without_kuberay(cluster: Cluster) -> Iterator[None]:
    assert not cluster.has("rayjobs.ray.io")
    yield
    cluster.kubectl("delete", "crd", "rayjobs.ray.io", "--ignore-not-found", "--timeout=60s")


@pytest.fixture
async def site(cluster: Cluster, kubelet: Kubelet, without_kuberay: None, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_front(cluster.kubeconfig) as front:
        config = write_kubeconfig(tmp_path / "config", front.url, {"token": "one"})
        made = Site(cluster, kubelet, front, {"kubeconfig": str(config)})
        yield made
        await made.session.clean()
        await made.session.provider.aclose()


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
async def test_kuberay_installed_later_is_used_without_a_restart(site: Site) -> None:
    before, promised = await site.session.launched(), await site.session.accepted()
    await site.install()
    await site.session.provider.observe(None, 0)
    assert site.front.asked.count(SERVED) == 1  # nothing is asked more often than once a minute
    await site.minute()
    after = site.session.order(*promised)
    await site.session.launch([after, before])  # the reply to the first launch of one was lost, say
    assert (site.kinds(before.key), site.kinds(after.key)) == ({"jobs"}, {"rayjobs.ray.io"})
    status, where = '{"status": {"jobDeploymentStatus": "Running"}}', ["-n", site.kubelet.namespace]
    site.cluster.kubectl("patch", "rayjob", name_of(after.key), *where, "--type=merge", "-p", status)
    await site.runs(after.key, SightingState.RUNNING)
    await site.session.provider.stop([before.key, after.key])
    await site.runs(after.key, SightingState.GONE)
    assert not site.kinds(before.key) and not site.kinds(after.key)
    await site.minute()
    assert site.front.asked.count(SERVED) == 2  # found once, not looked for again


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
async def test_kuberay_whose_objects_we_may_not_read_changes_nothing_until_we_may(site: Site) -> None:
    await site.minute()
    await site.install()
    site.front.once("GET", "/rayjobs", 403)
    await site.minute()
    first = await site.session.launched()
    await site.minute()
    second = await site.session.launched()
    assert (site.kinds(first.key), site.kinds(second.key)) == ({"jobs"}, {"rayjobs.ray.io"})


def no_right_to_rayjobs(request: web.Request) -> web.Response | None:
    """Our account's Role is without them."""
    doc = {"kind": "Status", "code": 403, "message": 'rayjobs.ray.io is forbidden: User "u" cannot list'}
    return web.json_response(doc, status=403) if "/rayjobs" in request.path else None


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
@pytest.mark.parametrize("runtime", ["auto", "job", "kuberay"])
async def test_kuberay_that_is_there_and_not_ours_to_use_is_missed_only_where_it_is_wanted(
    site: Site, runtime: str
) -> None:
    site.front.mishaps.append(no_right_to_rayjobs)
    await site.install()
    site.wants(runtime)
    if runtime == "kuberay":
        with pytest.raises(Misconfigured, match="cannot list"):
            await site.session.provider.observe(None, 0)
        return
    order = await site.session.launched()
    assert site.kinds(order.key) == {"jobs"}


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
async def test_a_launch_of_kuberays_that_we_may_not_read_any_more_does_not_pass_for_one_that_ends(site: Site) -> None:
    site.front.mishaps.append(no_right_to_rayjobs)
    await site.install()
    labels = {MANAGED_BY: US, LEDGER: "kit-ledger", KEY: "k-e1", RAY_POD: "run-k-e1"}
    meta = {"name": "run-k-e1-head", "namespace": site.kubelet.namespace, "labels": labels}
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    context |= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [{"name": "ray", "image": "i", "securityContext": context}]}
    site.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    with pytest.raises(Misconfigured, match="cannot list"):
        await site.session.provider.list_ours()


@pytest.mark.kubernetes
async def test_who_wants_jobs_does_not_look_for_kuberay(
    cluster: Cluster, kubelet: Kubelet, without_kuberay: None, tmp_path: Path
) -> None:
    async with a_front(cluster.kubeconfig) as front:
        config = write_kubeconfig(tmp_path / "config", front.url, {"token": "one"})
        site = Site(cluster, kubelet, front, {"kubeconfig": str(config), "runtime": "job"})
        for _ in range(3):
            await site.minute()
        assert front.asked.count(SERVED) == 1
        await site.session.provider.aclose()


def test_a_launch_is_made_for_the_pods_for_which_its_quota_was_reserved() -> None:
    told = {"image": "i", "agentImage": "a", "queue": "q", "namespace": "training"}
    connection, client = parse_connection("k", told), Client("k", None, None)
    seen = Seen(client, connection, lambda: 0)
    seen._workloads = Mirror(client, WORKLOAD.path("training"), Workload, lambda *_: None)
    for name, runtime in (("old", None), ("new", "job")):
        asked = kueue.Asked(offer=name, terms_hash="h", accelerator="", region="r", until=0, runtime=runtime)
        doc = kueue.document(asked, (), "training", "q", "l1")
        seen._workloads.objects["training", name] = msgspec.convert(doc, Workload)
    seen.runtime = "kuberay"
    assert [seen.runtime_of(name) for name in ("old", "new", "gone", None)] == ["kuberay", "job", "kuberay", "kuberay"]
