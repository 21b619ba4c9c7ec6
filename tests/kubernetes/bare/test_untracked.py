"""deploy/untracked.yaml: the API server keeps no note of who set which field of a RayJob of ours, and of all others."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.providers.kubernetes.resources import MANAGED_BY, US
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.kinds import definition, forget, introduce

UNTRACKED = Path(__file__).parents[3] / "deploy" / "untracked.yaml"
IN_FORCE_S = 60.0
"""Policies are read a moment after they are made; one of a kind that is new itself may turn away until it is known."""
pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


@pytest.fixture
def policy(cluster: Cluster) -> Iterator[None]:
    """It is there, and RayJobs are served."""
    made = definition("ray.io", "RayJob", "v1")
    introduce(cluster, made)
    cluster.kubectl("apply", "-f", str(UNTRACKED))
    try:
        yield
    finally:
        cluster.kubectl("delete", "-f", str(UNTRACKED))
        forget(cluster, made)


def noted(cluster: Cluster, namespace: str, **labels: str) -> bool | None:
    """Whether of a RayJob with these labels it is noted who set which field; None: it was not let in."""
    meta: Doc = {"name": f"run-{secrets.token_hex(4)}", "namespace": namespace, "labels": labels}
    spec = {"entrypoint": "exec python3 -m orchestrator.agent"}
    made = json.dumps({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": meta, "spec": spec})
    if not cluster.kubectl("create", "-f", "-", stdin=made, check=False):
        return None
    where = ["rayjob", meta["name"], "-n", namespace]
    cluster.kubectl("patch", *where, "--type=merge", "-p", '{"status": {"jobDeploymentStatus": "Running"}}')
    found = cluster.get(*where, "--show-managed-fields")
    assert (found["spec"], found["status"]["jobDeploymentStatus"]) == (spec, "Running")
    return "managedFields" in found["metadata"]


@pytest.mark.usefixtures("policy")
def test_of_our_rayjobs_alone_it_is_not_noted_who_set_which_field(cluster: Cluster, namespace: str) -> None:
    until = time.monotonic() + IN_FORCE_S
    while noted(cluster, namespace, **{MANAGED_BY: US}) is not False:
        assert time.monotonic() < until, "the policy does not come into force"
        time.sleep(0.5)
    assert noted(cluster, namespace) and noted(cluster, namespace, **{MANAGED_BY: "somebody-else"})
