"""Pods that a namespace refuses: the events of what should make them are told in the launch's sighting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.adapters.providers.kubernetes.complaints import EVERY_US
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.model.offer import LaunchOrder
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.bare.sitting import Later
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.front import Front, a_front, write_kubeconfig

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]
REFUSED = 'Error creating: pods "run-x-0" is forbidden: violates PodSecurity "restricted:latest": privileged'


@dataclass(frozen=True)
class Site:
    """A server before a cluster in which no controller makes pods; a test writes what one would say."""

    session: Session
    kubelet: Kubelet
    front: Front
    clock: Later

    async def detail(self, key: str) -> str:
        """What the feed says of this launch, a while later."""
        self.clock.ahead_us += EVERY_US
        seen = (await self.session.provider.observe(None, 0)).sightings
        return next(s.detail for s in seen if s.key == key)

    def event(self, order: LaunchOrder, message: str, at: str, kind: str = "Warning") -> None:
        """The Job controller says so."""
        space, job = self.kubelet.namespace, name_of(order.key)
        about = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "namespace": space}
        meta = {"name": f"{at[14:16]}-{kind.lower()}", "namespace": space}
        says = {"type": kind, "reason": "FailedCreate", "message": message, "lastTimestamp": at}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": about}
        self.kubelet.cluster.apply(event | says)


@pytest.fixture
async def site(cluster: Cluster, kubelet: Kubelet, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_front(cluster.kubeconfig) as front:
        config = write_kubeconfig(tmp_path / "config", front.url, {"token": "one"})
        h100 = {"resource": "nvidia.com/gpu", "nodeSelector": kubelet.selector}
        told = {"kubeconfig": str(config), "namespace": kubelet.namespace, "image": "i", "agentImage": "a"}
        told |= {"runtime": "job", "accelerators": {"H100": h100}}
        clock = Later()
        provider = KubernetesProvider("k", told, Tools(runtime=RayJobs(), clock=clock, ledger="kit-ledger"))
        session = Session(
            Subject(provider=provider, terms=some_terms(workers=1, gpus_per_worker=1, cpus=1), poll_s=0.2)
        )
        yield Site(session, kubelet, front, clock)
        await session.clean()
        await provider.aclose()


async def test_why_a_launch_has_no_pods_is_told_and_forgotten_once_it_has(site: Site) -> None:
    order = await site.session.launched()
    assert "FailedCreate" not in await site.detail(order.key)
    site.event(order, "quota, before", "2026-03-01T10:00:00Z")
    site.event(order, REFUSED, "2026-03-01T10:05:00Z")
    site.event(order, "all is well", "2026-03-01T10:09:00Z", "Normal")
    assert f"FailedCreate: {REFUSED}" in await site.detail(order.key)
    site.kubelet.runs("job", name_of(order.key), "pod-1", "2026-03-01T10:10:00Z")

    async def forgotten() -> bool | None:
        return "FailedCreate" not in await site.detail(order.key) or None

    await site.session.wait(forgotten, "a sighting without it")
    site.kubelet.ended("pod-1", "2026-03-01T10:11:00Z")  # there is nobody else to end it


async def test_what_is_said_of_several_launches_is_read_at_once(site: Site) -> None:
    orders = [await site.session.launched() for _ in range(2)]
    for minute, order in enumerate(orders):
        assert "FailedCreate" not in await site.detail(order.key)
        site.event(order, f"no room for {order.key}", f"2026-03-01T10:0{minute}:00Z")
    site.front.asked.clear()
    site.clock.ahead_us += EVERY_US
    seen = {s.key: s.detail for s in (await site.session.provider.observe(None, 0)).sightings}
    assert all(f"FailedCreate: no room for {order.key}" in seen[order.key] for order in orders)
    assert len([asked for asked in site.front.asked if "/events" in asked]) == 1


async def test_events_that_we_may_not_read_are_not_asked_for_again_and_again(site: Site) -> None:
    def refuse(request: web.Request) -> web.Response | None:
        return web.json_response({"code": 403}, status=403) if "/events" in request.path else None

    site.front.mishaps.append(refuse)
    order = await site.session.launched()
    for _ in range(5):
        assert "FailedCreate" not in await site.detail(order.key)
    assert len([asked for asked in site.front.asked if "/events" in asked]) == 1
