"""The way to the API server fails in one place: what was asked again, and is anything there twice?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Confirmed, SightingState
from orchestrator.ports.provider import Throttled, Unreachable
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.bare.sitting import Sitting
from tests.kubernetes.front import Front, write_kubeconfig

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


@pytest.fixture
async def session(kubelet: Kubelet, front: Front, tmp_path: Path) -> AsyncIterator[Session]:
    config = write_kubeconfig(tmp_path / "config", front.url, {"token": "one"})
    h100 = {"resource": "nvidia.com/gpu", "nodeSelector": kubelet.selector}
    told = {"kubeconfig": str(config), "namespace": kubelet.namespace, "image": "i", "agentImage": "a"}
    told |= {"runtime": "job", "accelerators": {"H100": h100}}
    provider = KubernetesProvider("k", told, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger"))
    terms = some_terms(workers=1, gpus_per_worker=1, cpus=1)
    made = Session(Subject(provider=provider, terms=terms, patience_s=30, poll_s=0.2))
    await provider.observe(None, 0)
    yield made
    await made.clean()
    await provider.aclose()


def listings(front: Front) -> list[str]:
    """Listings of all Jobs, not watches."""
    return [asked for asked in front.asked if "/jobs?limit=" in asked]


@pytest.mark.parametrize("inside", [False, True], ids=["refused", "inside-the-stream"])
async def test_a_watch_that_is_too_old_begins_with_a_listing(session: Session, front: Front, inside: bool) -> None:
    front.asked.clear()
    if inside:
        front.expire("/jobs")
    else:
        front.once("GET", "/jobs?watch=true", 410)
    front.cut()

    async def listed() -> bool | None:
        return bool(listings(front)) or None

    await session.wait(listed, "a listing of Jobs")
    order = await session.launched()
    assert len(listings(front)) == 1 and not front.mishaps

    async def said() -> bool | None:
        seen = (await session.provider.observe(None, 0)).sightings
        return any(s.key == order.key and s.state is SightingState.PROVISIONING for s in seen) or None

    await session.wait(said, "the launch, by the watch after that listing")


async def test_turned_away_is_throttled_until_when_the_server_says(session: Session, front: Front) -> None:
    front.once("GET", "/jobs?", 429, **{"Retry-After": "3"})
    with pytest.raises(Throttled) as turned:
        await session.provider.list_ours()
    assert turned.value.retry_after_us == 3_000_000


async def test_who_has_just_replied_is_not_asked_whether_they_answer(s: Sitting, front: Front) -> None:
    s.clock.stood_us = s.clock.now_us()
    front.asked.clear()
    for _ in range(3):
        await s.provider.list_ours()
    assert [asked for asked in front.asked if "/version" in asked] == []
    assert len(listings(front)) == 3


async def test_who_has_not_replied_is_asked_whether_they_answer(session: Session, front: Front) -> None:
    await session.provider.observe(None, 0)  # nothing is asked in it, so that the next one must
    front.leave(True)
    with pytest.raises(Unreachable):
        await session.provider.observe(None, 0)
    front.leave(False)
    await session.provider.observe(None, 0)


async def test_a_record_is_looked_for_unless_the_offer_was_just_accepted(
    session: Session, front: Front, kubelet: Kubelet
) -> None:
    order = session.order(*await session.accepted())
    record = f"GET /api/v1/namespaces/{kubelet.namespace}/configmaps/{order.key}"
    front.asked.clear()
    first = await session.launch([order])
    assert record not in front.asked
    assert await session.launch([order]) == first
    assert record in front.asked


@pytest.mark.parametrize("part", ["/jobs", "/secrets", "/services"])
async def test_a_launch_that_is_turned_away_half_way_is_one_launch_when_it_is_made_again(
    session: Session, front: Front, kubelet: Kubelet, part: str
) -> None:
    offer, answer = await session.accepted()
    order = session.order(offer, answer)
    front.once("POST", part, 429, **{"Retry-After": "3"})
    with pytest.raises(Throttled if part == "/jobs" else Unreachable):  # nothing was made; it is half made
        await session.launch([order])
    first = [*made(kubelet)]
    assert first == [] if part == "/jobs" else f"Job/{name_of(order.key)}" in first
    assert isinstance((await session.launch([order]))[0], Confirmed)
    assert made(kubelet) == [
        f"Job/{name_of(order.key)}",
        f"Secret/{offer.offer.lower()}",
        f"Service/{name_of(order.key)}",
    ]


def made(kubelet: Kubelet) -> list[str]:
    """Everything of ours that there is."""
    mine = ("jobs,secrets,services", "-n", kubelet.namespace, "-l", "orchestrator.dev/key", "-o", "json")
    found = json.loads(kubelet.cluster.kubectl("get", *mine))["items"]
    return sorted(f"{item['kind']}/{item['metadata']['name']}" for item in found)
