"""A real cluster behind the adapter keeps every promise of the provider port; in the pods sleeps a stand-in for Ray."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.ports.provider import Provider
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject, Verdict, check_provider
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.front import Front, a_front, write_kubeconfig
from tests.kubernetes.standin import connection

SMALL = some_terms(workers=1, gpus_per_worker=1, cpus=1)


@pytest.fixture
async def front(cluster: Cluster) -> AsyncIterator[Front]:
    async with a_front(cluster.kubeconfig) as made:
        yield made


def subject(cluster: Cluster, namespace: str, front: Front, folder: Path) -> Subject:
    config = write_kubeconfig(folder / "config", front.url, {"token": "one"})
    told = connection(cluster, namespace) | {"kubeconfig": str(config)}
    tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger")

    def connect() -> KubernetesProvider:
        return KubernetesProvider("kubernetes", told, tools)

    async def away(gone: bool) -> None:
        front.leave(gone)

    async def throttle() -> None:
        front.once("POST", "/jobs", 429, **{"Retry-After": "1"})

    async def reconnect() -> Provider:
        return connect()

    async def foreign() -> list[str]:
        names = cluster.kubectl("get", "jobs", "-n", namespace, "-o", "name", "-l", "whose=theirs").split()
        return [name.rpartition("/")[2].removeprefix("run-") for name in names]

    cluster.apply(foreign_job(namespace, "run-01kdvdna00aaaaaaaaaaaaaaaa-e1"))
    return Subject(
        provider=connect(),
        terms=SMALL,
        patience_s=60,
        poll_s=0.5,
        all_gpus=some_terms(workers=1, gpus_per_worker=gpus_of(cluster), cpus=1),
        declined=some_terms(workers=99),
        rejected=lambda order: replace(order, workers=99),
        away=away,
        throttle=throttle,
        reconnect=reconnect,
        foreign=foreign,
    )


def gpus_of(cluster: Cluster) -> int:
    return sum(int(n["status"]["allocatable"].get("nvidia.com/gpu", 0)) for n in cluster.get("nodes")["items"])


def all_free(cluster: Cluster) -> None:
    """Pods of the tests before may still be on their way out, with a GPU."""
    deadline = time.monotonic() + 240
    while held := [pod["metadata"]["name"] for pod in cluster.get("pods", "-A")["items"] if holds_gpus(pod)]:
        assert time.monotonic() < deadline, f"still there: {held}"
        time.sleep(1)


def holds_gpus(pod: Doc) -> bool:
    wanted = [one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"]]
    return pod["status"]["phase"] not in ("Succeeded", "Failed") and any("nvidia.com/gpu" in one for one in wanted)


def foreign_job(namespace: str, name: str) -> dict[str, object]:
    """Somebody else's, which never starts a pod."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}
    meta = {"name": name, "namespace": namespace, "labels": {"whose": "theirs"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


@pytest.mark.kubernetes
@pytest.mark.pods
@pytest.mark.timeout(900)
async def test_a_cluster_keeps_every_promise(cluster: Cluster, namespace: str, front: Front, tmp_path: Path) -> None:
    all_free(cluster)
    make: Callable[[], Subject] = lambda: subject(cluster, namespace, front, tmp_path)  # noqa: E731
    report = await check_provider(make)
    assert not report.broken, str(report)
    without = {"bills_only_grow", "bill_keeps_the_price", "locked_out_is_the_operators"}
    assert set(report.names(Verdict.NOT_JUDGED)) == without, str(report)
