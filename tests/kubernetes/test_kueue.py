"""Kueue answers offers: quota reserved is a yes, its own words are a no, an eviction is an end; others never wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.security import container_context, pod_context
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Confirmed, OfferOut, Reason, Rejected, Scope, SightingState
from orchestrator.ports.provider import Provider
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject, check_provider
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.queues import drop_queues, make_queues, needs_kueue
from tests.kubernetes.standin import connection

pytestmark = [pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.timeout(600)]
SMALL = some_terms(workers=1, gpus_per_worker=1, cpus=1)
ALL = some_terms(workers=1, gpus_per_worker=4, cpus=1)


@pytest.fixture
def told(cluster: Cluster, namespace: str) -> Iterator[dict[str, Any]]:
    """A connection to a queue of four GPUs."""
    needs_kueue(cluster)
    make_queues(cluster, namespace, gpus=4)
    yield connection(cluster, namespace, queue="ours")
    drop_queues(cluster, namespace)


def connect(told: dict[str, Any]) -> KubernetesProvider:
    return KubernetesProvider("queued", told, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger"))


@pytest.fixture
async def session(told: dict[str, Any]) -> AsyncIterator[Session]:
    s = Session(Subject(provider=connect(told), terms=SMALL, patience_s=60, poll_s=0.3))
    yield s
    await s.clean()
    await s.provider.aclose()


async def test_a_queue_keeps_every_promise(told: dict[str, Any]) -> None:
    async def reconnect() -> Provider:
        return connect(told)

    def subject() -> Subject:
        declined = some_terms(workers=99, gpus_per_worker=1)
        return Subject(
            provider=connect(told), terms=SMALL, patience_s=90, all_gpus=ALL, declined=declined, reconnect=reconnect
        )

    report = await check_provider(subject)
    assert not report.broken, str(report)


async def test_nothing_starts_before_the_launch_is_ordered(session: Session, cluster: Cluster, namespace: str) -> None:
    offer, answer = await session.accepted()
    workload = cluster.get("workload", offer.offer.lower(), "-n", namespace)
    assert workload["status"]["admissionChecks"][0]["state"] == "Pending"
    assert not cluster.get("pods", "-n", namespace)["items"]
    await session.run([session.order(offer, answer)])
    workload = cluster.get("workload", offer.offer.lower(), "-n", namespace)
    assert workload["status"]["admissionChecks"][0]["state"] == "Ready"


async def test_a_full_queue_says_no_with_kueues_own_words_when_the_window_ends(session: Session) -> None:
    await session.accepted(ALL)
    late = session.offer(SMALL)
    answer = (await session.place([late_window(late, 3)]))[late.offer]
    assert (answer.accepted, answer.reason, answer.scope) == (False, Reason.CAPACITY, Scope.ACCELERATOR)
    assert "insufficient unused quota for nvidia.com/gpu" in answer.detail and "1 more needed" in answer.detail


async def test_quota_that_comes_free_inside_the_window_is_a_yes(session: Session) -> None:
    first, _ = await session.accepted(ALL)
    second = late_window(session.offer(ALL), 30)
    placed = asyncio.ensure_future(session.place([second]))
    await asyncio.sleep(1)
    await session.provider.withdraw([first.offer])
    assert (await placed)[second.offer].accepted


async def test_quota_taken_between_answer_and_launch_is_a_rejection(
    session: Session, cluster: Cluster, namespace: str
) -> None:
    offer, answer = await session.accepted()
    stop_queue(cluster, namespace, "HoldAndDrain")
    await session.wait(lambda: unreserved(cluster, namespace, offer.offer), "the end of the reservation")
    [reply] = await session.launch([session.order(offer, answer)])
    assert isinstance(reply, Rejected) and reply.reason is Reason.CAPACITY


async def test_an_eviction_ends_the_attempt_and_it_never_runs_again(
    session: Session, cluster: Cluster, namespace: str
) -> None:
    order = await session.running()
    stop_queue(cluster, namespace, "HoldAndDrain")
    await session.wait(lambda: told_gone(session, order.key), "the end of what was evicted")
    stop_queue(cluster, namespace, "None")
    [reply] = await session.launch([order])
    assert isinstance(reply, Confirmed)
    await asyncio.sleep(5)
    pods = cluster.get("pods", "-n", namespace)["items"]
    assert not [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]


async def test_other_teams_start_as_ever_while_we_are_away(
    cluster: Cluster, namespace: str, told: dict[str, Any]
) -> None:
    cluster.apply(their_job(namespace, told["image"]))
    cluster.kubectl("wait", "job/theirs", "-n", namespace, "--for=condition=Complete", "--timeout=60s")


def their_job(namespace: str, image: str) -> Doc:
    """Another team's, in its own queue, with a GPU."""
    takes = {"nvidia.com/gpu": "1"}
    container = {"name": "c", "image": image, "command": ["true"], "resources": {"requests": takes, "limits": takes}}
    pod = {"restartPolicy": "Never", "containers": [container | {"securityContext": container_context("restricted")}]}
    pod["securityContext"] = pod_context("restricted")
    meta = {"name": "theirs", "namespace": namespace, "labels": {"kueue.x-k8s.io/queue-name": "theirs"}}
    spec = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def late_window(offer: OfferOut, seconds: int) -> OfferOut:
    return replace(offer, window_us=seconds * 1_000_000)


def stop_queue(cluster: Cluster, namespace: str, policy: str) -> None:
    change = json.dumps({"spec": {"stopPolicy": policy}})
    cluster.kubectl("patch", "clusterqueue", f"ours-{namespace}", "--type=merge", "-p", change)


async def unreserved(cluster: Cluster, namespace: str, offer: str) -> bool | None:
    conditions = cluster.get("workload", offer.lower(), "-n", namespace)["status"]["conditions"]
    return not any(c["type"] == "QuotaReserved" and c["status"] == "True" for c in conditions) or None


async def told_gone(session: Session, key: str) -> bool | None:
    sightings = (await session.provider.observe(None, 0)).sightings
    return any(s.key == key and s.state is SightingState.GONE for s in sightings) or None
