"""An API server that nobody else works at: no controller, no scheduler, no kubelet. A test plays them.

Also where the other tests have a cluster of their own: there KUBERNETES_TEST_ASSETS names the folder of programs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.resources import ADMISSION_CHECK, CLUSTER_QUEUE, LOCAL_QUEUE, WORKLOAD
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.ports.runtime import Tools
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.bare.sitting import Later, Sitting
from tests.kubernetes.cluster import Cluster, a_bare_cluster, programs
from tests.kubernetes.front import Front, a_front, write_kubeconfig
from tests.kubernetes.kinds import definition, forget, introduce
from tests.kubernetes.queues import drop_queues, make_queues

KINDS = (WORKLOAD, LOCAL_QUEUE, CLUSTER_QUEUE, ADMISSION_CHECK, CLUSTER_QUEUE._replace(name="ResourceFlavor"))
KUEUE = [
    definition(kind.group, kind.name, kind.version, scope="Namespaced" if kind.namespaced else "Cluster", status=True)
    for kind in KINDS
]
"""Kueue's kinds, without Kueue."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """API server and etcd."""
    assets = programs()
    if assets is None:
        pytest.skip("not run: programs: set KUBEBUILDER_ASSETS (or KUBERNETES_TEST_ASSETS, beside KUBECONFIG)")
    with a_bare_cluster(tmp_path_factory.mktemp("bare"), assets) as found:
        yield found


@pytest.fixture
def kubelet(cluster: Cluster, namespace: str) -> Iterator[Kubelet]:
    """One node with GPUs, played by the test; gone afterwards."""
    made = Kubelet(cluster, namespace, f"node-{namespace}")
    made.register()
    yield made
    made.leave()


@pytest.fixture
async def front(cluster: Cluster) -> AsyncIterator[Front]:
    """A way to the API server that misbehaves on command."""
    async with a_front(cluster.kubeconfig) as made:
        yield made


@pytest.fixture
async def s(cluster: Cluster, namespace: str, front: Front, tmp_path: Path) -> AsyncIterator[Sitting]:
    """A server of ours, and one node on which pods are bound by hand."""
    config = write_kubeconfig(tmp_path / "config", front.url, {"token": "one"})
    told = {"kubeconfig": str(config), "namespace": namespace, "image": "i", "agentImage": "a", "runtime": "job"}
    clock = Later()
    tools = Tools(runtime=RayJobs(), clock=clock, ledger="ledger-1")
    room = {"cpu": "64", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "64"}
    ready = {"type": "Ready", "status": "True", "reason": "Kubelet", "message": ""}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}})
    patch = ("patch", "node", "node", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    cluster.kubectl(*patch)
    cluster.kubectl("taint", "nodes", "node", "node.kubernetes.io/not-ready-", check=False)  # from when it was made
    sitting = Sitting(cluster, namespace, clock, lambda: KubernetesProvider("k", told, tools))
    await sitting.provider.observe(None, 0)
    yield sitting
    await sitting.provider.aclose()


@pytest.fixture
def queue(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A LocalQueue of eight GPUs, of which only the test says what Kueue would."""
    introduce(cluster, *KUEUE)
    make_queues(cluster, namespace, gpus=8)
    yield "ours"
    drop_queues(cluster, namespace)
    forget(cluster, *KUEUE)
