"""What `orchestrator providers check` says of a cluster in which something is missing, each with its remedy."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes import queues, rights
from orchestrator.adapters.providers.kubernetes.checking import faults
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.ports.runtime import Tools
from orchestrator.testing.clock import FakeClock
from tests.kubernetes.cluster import Cluster, Doc

IMAGES = {"image": "i", "agentImage": "a"}


async def check(**connection: Any) -> list[str]:
    provider = KubernetesProvider("k", IMAGES | connection, Tools(runtime=RayJobs(), clock=FakeClock(), ledger="l"))
    try:
        return [*await provider.check()]
    finally:
        await provider.aclose()


def account(cluster: Cluster, namespace: str, folder: Path, *rules: Doc) -> str:
    """The kubeconfig of a service account that may do this much in its namespace, and nothing in the cluster."""
    kind = "rbac.authorization.k8s.io"
    meta = {"name": "server", "namespace": namespace}
    subject = {"kind": "ServiceAccount", **meta}
    binding = {"roleRef": {"apiGroup": kind, "kind": "Role", "name": "server"}, "subjects": [subject]}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{kind}/v1", "kind": "Role", "metadata": meta, "rules": list(rules)},
        {"apiVersion": f"{kind}/v1", "kind": "RoleBinding", "metadata": meta} | binding,
    )
    token = cluster.kubectl("create", "token", "server", "-n", namespace).strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    (folder / "config").write_text(json.dumps(config))
    return str(folder / "config")


@pytest.mark.kubernetes
async def test_an_administrator_of_a_plain_cluster_lacks_nothing(cluster: Cluster, namespace: str) -> None:
    assert await check(kubeconfig=str(cluster.kubeconfig), namespace=namespace) == []


@pytest.mark.kubernetes
async def test_each_right_that_is_missing_is_named(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    config = account(cluster, namespace, tmp_path, {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]})
    said = await check(kubeconfig=config, namespace=namespace, runtime="job")
    wanted = rights.rights(parse_connection("k", IMAGES | {"runtime": "job"}), ray=cluster.has("rayjobs.ray.io"))
    for right in wanted:
        named = any(line.startswith(f"no right to {right.words} in ") for line in said)
        assert named is (right.kind.plural != "configmaps"), right.words
    assert all("add it to the Role" in line for line in said if line.startswith("no right"))


@pytest.mark.kubernetes
async def test_what_is_not_there_is_named(cluster: Cluster, namespace: str) -> None:
    accelerators = {"H100": {"nodeSelector": {"gpu": "none-such"}}}
    said = "\n".join(
        await check(
            kubeconfig=str(cluster.kubeconfig), namespace="nowhere", queue="none-such", accelerators=accelerators
        )
    )
    assert "there is no namespace nowhere; create it" in said
    assert "create LocalQueue none-such" in said
    assert (
        "accelerator H100: of 0 nodes with gpu=none-such none offers nvidia.com/gpu; install its device plugin" in said
    )


@pytest.mark.kubernetes
async def test_pods_that_a_namespace_would_refuse_are_foreseen(cluster: Cluster, namespace: str) -> None:
    [said] = await check(kubeconfig=str(cluster.kubeconfig), namespace=namespace, profile="baseline")
    assert f"namespace {namespace} enforces Pod Security restricted" in said


@pytest.mark.kubernetes
async def test_quotas_that_refuse_every_launch_are_named(cluster: Cluster, namespace: str) -> None:
    hards = {"limits": {"limits.cpu": "8"}, "none": {"requests.nvidia.com/gpu": "0"}, "much": {"requests.cpu": "99"}}
    for name, hard in hards.items():
        meta = {"name": name, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})
        patch = ("patch", "resourcequota", name, "-n", namespace, "--subresource=status", "--type=merge")
        cluster.kubectl(*patch, "-p", json.dumps({"status": {"hard": hard}}))  # in a cluster without controllers
    told = {"kubeconfig": str(cluster.kubeconfig), "namespace": namespace, "accelerators": {"H100": {}}}
    said = [line for line in await check(**told, runtime="job") if line.startswith("quota")]
    assert sorted(line.split(":")[0] for line in said) == ["quota limits", "quota none"]
    assert any("container ray sets no such limit" in line and "LimitRange" in line for line in said)
    assert any("requests.nvidia.com/gpu: 1 and 0 in use would pass 0" in line and "raise it" in line for line in said)


@pytest.mark.kubernetes
async def test_kuberay_that_is_asked_for_and_not_there(cluster: Cluster, namespace: str) -> None:
    said = await check(kubeconfig=str(cluster.kubeconfig), namespace=namespace, runtime="kuberay")
    assert bool(said) is not cluster.has("rayjobs.ray.io")
    assert all("install KubeRay" in line or "no right" in line for line in said)


async def test_a_cluster_that_is_away_is_said(tmp_path: Path) -> None:
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "c", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    [said] = await check(kubeconfig=str(tmp_path / "config"))
    assert "no reply" in said and "correct `connection.kubeconfig`" in said


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}}, "exec plugin false gave no"),
        ({"client-certificate-data": base64.b64encode(b"x").decode(), "client-key-data": "eA=="}, "cannot be used"),
    ],
)
async def test_credentials_that_cannot_be_used_are_the_operators_matter(
    tmp_path: Path, user: dict[str, Any], says: str
) -> None:
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "c", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    [said] = await check(kubeconfig=str(tmp_path / "config"))
    assert says in said and "connection.kubeconfig" in said


async def test_a_kubeconfig_that_is_not_there_is_said(tmp_path: Path) -> None:
    [said] = await check(kubeconfig=str(tmp_path / "none"))
    assert "there is no such file" in said


def test_a_queue_that_cannot_answer_is_explained() -> None:
    queue = queues.Queue(
        name="ours", cluster_queue="big", checks=(), active=False, why="no flavor", preempts="within: Any"
    )
    said = faults(queue)
    assert "create an AdmissionCheck with that controllerName" in said[0]
    assert "set its preemption to Never" in said[1] and "is not active: no flavor" in said[2]
