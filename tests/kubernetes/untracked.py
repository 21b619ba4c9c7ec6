"""deploy/untracked.yaml on a cluster, in force, for as long as a test wants it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.adapters.providers.kubernetes.resources import MANAGED_BY, US
from tests.kubernetes.cluster import Cluster, Doc

UNTRACKED = Path(__file__).parents[2] / "deploy" / "untracked.yaml"
IN_FORCE_S = 60.0
"""Policies are read a moment after they are made; one of a kind that is new itself may turn away until it is known."""


def a_rayjob(namespace: str, **labels: str) -> Doc:
    """One that nobody has made yet."""
    meta: Doc = {"name": f"run-{secrets.token_hex(4)}", "namespace": namespace, "labels": labels}
    spec = {"entrypoint": "exec python3 -m orchestrator.agent"}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": meta, "spec": spec}


@contextmanager
def untracked(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Of RayJobs of ours it is not noted who set which field. Skips where the cluster knows no such policy."""
    if "mutatingadmissionpolicies" not in cluster.kubectl("get", "--raw", "/apis/admissionregistration.k8s.io/v1"):
        pytest.skip("not run: policies: Kubernetes 1.36 or later")
    cluster.kubectl("apply", "-f", str(UNTRACKED))
    try:
        until = time.monotonic() + IN_FORCE_S
        while not in_force(cluster, namespace):
            assert time.monotonic() < until, "the policy does not come into force"
            time.sleep(0.5)
        yield
    finally:
        cluster.kubectl("delete", "-f", str(UNTRACKED))


def in_force(cluster: Cluster, namespace: str) -> bool:
    """Whether the API server would let a RayJob of ours in, and without the note."""
    ours = json.dumps(a_rayjob(namespace, **{MANAGED_BY: US}))
    ask = ("create", "-f", "-", "--dry-run=server", "-o", "json", "--show-managed-fields")
    made = cluster.kubectl(*ask, stdin=ours, check=False)
    return bool(made) and "managedFields" not in json.loads(made)["metadata"]
