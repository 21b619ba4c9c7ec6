"""An API server that nobody else works at: no controller, no scheduler, no kubelet. A test plays them.

Also where the other tests have a cluster of their own: there KUBERNETES_TEST_ASSETS names the folder of programs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.cluster import Cluster, a_bare_cluster, programs


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
