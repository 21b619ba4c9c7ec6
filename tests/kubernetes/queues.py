"""Queues of Kueue for tests: one that is ours alone, with our admission check, and one of another team's."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.queues import CONTROLLER
from orchestrator.adapters.providers.kubernetes.resources import ADMISSION_CHECK as KIND
from tests.kubernetes.cluster import Cluster, Doc


def needs_kueue(cluster: Cluster) -> None:
    """Skips where Kueue is not installed; waits until it answers."""
    if not cluster.has("workloads.kueue.x-k8s.io"):
        pytest.skip("not run: kueue: install Kueue 0.15 or later in the cluster")
    available = ("--for=condition=Available", "--timeout=110s")  # an earlier test may have cut its node off
    cluster.kubectl("wait", "deployment", "--all", "-n", "kueue-system", *available)


def _kueue(kind: str, name: str, spec: Doc, namespace: str = "") -> Doc:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": KIND.api_version, "kind": kind, "metadata": meta, "spec": spec}


def make_queues(cluster: Cluster, namespace: str, *, gpus: int) -> None:
    """LocalQueues `ours` (its ClusterQueue has our check and so many GPUs) and `theirs` (no check, plenty)."""
    flavor, check = f"flavor-{namespace}", f"check-{namespace}"

    def cluster_queue(name: str, amount: int, **more: Any) -> Doc:
        quotas = {"cpu": "100", "memory": "100Gi", "nvidia.com/gpu": str(amount)}
        resources = [{"name": name, "nominalQuota": value} for name, value in quotas.items()]
        group = {"coveredResources": [*quotas], "flavors": [{"name": flavor, "resources": resources}]}
        return _kueue("ClusterQueue", name, {"namespaceSelector": {}, "resourceGroups": [group], **more})

    ours, theirs = f"ours-{namespace}", f"theirs-{namespace}"
    cluster.apply(
        _kueue("ResourceFlavor", flavor, {}),
        _kueue("AdmissionCheck", check, {"controllerName": CONTROLLER}),
        cluster_queue(ours, gpus, admissionChecksStrategy={"admissionChecks": [{"name": check}]}),
        cluster_queue(theirs, gpus),
        _kueue("LocalQueue", "ours", {"clusterQueue": ours}, namespace),
        _kueue("LocalQueue", "theirs", {"clusterQueue": theirs}, namespace),
    )


def drop_queues(cluster: Cluster, namespace: str) -> None:
    """Forget what is not in the namespace."""
    for kind, name in (("clusterqueue", "ours"), ("clusterqueue", "theirs"), ("admissioncheck", "check")):
        cluster.kubectl("delete", kind, f"{name}-{namespace}", "--wait=false", "--ignore-not-found")
