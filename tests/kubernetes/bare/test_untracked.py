"""deploy/untracked.yaml: the API server keeps no note of who set which field of a RayJob of ours, and of all others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from orchestrator.adapters.providers.kubernetes.resources import MANAGED_BY, US
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.kinds import definition, forget, introduce
from tests.kubernetes.untracked import a_rayjob, untracked

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


@pytest.fixture
def policy(cluster: Cluster, namespace: str) -> Iterator[None]:
    """It is there, and RayJobs are served."""
    made = definition("ray.io", "RayJob", "v1")
    introduce(cluster, made)
    try:
        with untracked(cluster, namespace):
            yield
    finally:
        forget(cluster, made)


def noted(cluster: Cluster, namespace: str, **labels: str) -> bool:
    """Whether of a RayJob with these labels, whose status somebody sets, it is noted who set which field."""
    made = a_rayjob(namespace, **labels)
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(made))
    where = ["rayjob", made["metadata"]["name"], "-n", namespace]
    cluster.kubectl("patch", *where, "--type=merge", "-p", '{"status": {"jobDeploymentStatus": "Running"}}')
    found = cluster.get(*where, "--show-managed-fields")
    assert (found["spec"], found["status"]["jobDeploymentStatus"]) == (made["spec"], "Running")
    return "managedFields" in found["metadata"]


@pytest.mark.usefixtures("policy")
def test_of_our_rayjobs_alone_it_is_not_noted_who_set_which_field(cluster: Cluster, namespace: str) -> None:
    assert not noted(cluster, namespace, **{MANAGED_BY: US})
    assert noted(cluster, namespace) and noted(cluster, namespace, **{MANAGED_BY: "somebody-else"})
