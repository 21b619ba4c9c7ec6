"""What `orchestrator providers check` says of a cluster in which something is missing, each with its remedy."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.adapters.providers.kubernetes import queues, rights
from orchestrator.adapters.providers.kubernetes.checking import faults, shared, ungranted
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.resources import (
    ADMISSION_CHECK,
    CLUSTER_QUEUE,
    LEDGER,
    LOCAL_QUEUE,
    MANAGED_BY,
    US,
    WORKLOAD,
)
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.ports.runtime import Tools
from orchestrator.testing.clock import FakeClock
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.paper import PaperApi

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
async def test_a_namespace_that_was_not_granted_does_not_drown_what_else_is_missing(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    config = account(cluster, namespace, tmp_path)
    for queue in (None, "gpus"):
        said = await check(kubeconfig=config, namespace="u-missing", runtime="job", queue=queue)
        assert len(said) == 1 and "no right at all in namespace u-missing, nor in the whole cluster" in said[0]


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
    hards["full"] = {"count/configmaps": "0"}
    for name, hard in hards.items():
        meta = {"name": name, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})
        patch = ("patch", "resourcequota", name, "-n", namespace, "--subresource=status", "--type=merge")
        status = {"hard": hard, "used": dict.fromkeys(hard, "0")}  # in a cluster without controllers
        cluster.kubectl(*patch, "-p", json.dumps({"status": status}))
    told = {"kubeconfig": str(cluster.kubeconfig), "namespace": namespace, "accelerators": {"H100": {}}}
    lines = await check(**told, runtime="job")
    assert any("a ConfigMap like ours would not be made" in line and "exceeded quota: full" in line for line in lines)
    said = [line for line in lines if line.startswith("quota")]
    assert sorted(line.split(":")[0] for line in said) == ["quota full", "quota limits", "quota none"]
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
    assert "a ClusterQueue for LocalQueue ours alone: what others queue there would never start" in said[0]
    assert "set its preemption to Never" in said[1] and "is not active: no flavor" in said[2]


FLAVOR = LOCAL_QUEUE._replace(name="ResourceFlavor", plural="resourceflavors", namespaced=False)
KUEUE = f"/apis/{LOCAL_QUEUE.api_version}"


def a_shared_queue(*others: str, waiting: int = 0) -> PaperApi:
    """LocalQueue n/ours, and others of the same ClusterQueue in which so many workloads wait."""
    api = PaperApi()
    api.put(f"{KUEUE}/clusterqueues/big", spec={}, status={"pendingWorkloads": waiting, "reservingWorkloads": 2})
    api.put(f"{KUEUE}/namespaces/m/localqueues/elsewhere", spec={"clusterQueue": "small"})
    for name in ("n/ours", *others):
        space, queue = name.split("/")
        spec, status = {"clusterQueue": "big"}, {"pendingWorkloads": 0, "reservingWorkloads": 2}
        api.put(f"{KUEUE}/namespaces/{space}/localqueues/{queue}", spec=spec, status=status)
    return api


async def who_shares(api: PaperApi) -> list[str]:
    client: Any = api
    return [line async for line in shared(client, "n", await queues.read_queue(client, "n", "ours"))]


async def test_the_queue_of_the_example_lacks_nothing() -> None:
    api: Any = PaperApi()
    for doc in yaml.safe_load_all((Path(__file__).parents[2] / "examples/kubernetes/queues.yaml").read_text()):
        kind = next(kind for kind in (LOCAL_QUEUE, CLUSTER_QUEUE, ADMISSION_CHECK, FLAVOR) if kind.name == doc["kind"])
        api.put(kind.path(doc["metadata"].get("namespace", ""), doc["metadata"]["name"]), spec=doc["spec"])
    queue = await queues.read_queue(api, "training", "gpus")
    assert (queue.checks, faults(queue)) == (("orchestrator",), [])


async def test_others_whose_workloads_our_check_would_hold_are_named() -> None:
    assert await who_shares(a_shared_queue()) == []
    [said] = await who_shares(a_shared_queue("m/theirs", "n/too", waiting=3))
    assert said.startswith(
        "ClusterQueue big takes workloads of LocalQueue m/theirs, n/too too; make one for LocalQueue n/"
    )


@pytest.mark.looptime
async def test_who_may_not_list_queues_counts_what_is_in_them() -> None:
    for waiting, told in ((3, ["(3 now) of other LocalQueues"]), (0, [])):
        api = a_shared_queue("m/theirs", waiting=waiting)
        api.deny(LOCAL_QUEUE.path())
        assert [words in line for line, words in zip(await who_shares(api), told, strict=True)] == [True] * len(told)


async def test_workloads_of_others_in_our_own_queue_are_counted() -> None:
    api = a_shared_queue()
    path = WORKLOAD.path("n")
    api.put(f"{path}/theirs", spec={"queueName": "ours"})
    api.put(f"{path}/elsewhere", spec={"queueName": "other"})
    meta = {"name": "mine", "namespace": "n", "labels": {MANAGED_BY: US, LEDGER: "l"}}
    api.put(f"{path}/mine", metadata=meta, spec={"queueName": "ours"})
    [said] = await who_shares(api)
    assert said.startswith("LocalQueue n/ours holds 1 workloads that are not ours; move them to a queue of their own")


@pytest.mark.parametrize("queue", [None, "gpus"])
def test_a_namespace_in_which_nothing_is_granted_is_one_line(queue: str | None) -> None:
    connection = parse_connection("k", IMAGES | {"namespace": "u-missing", "queue": queue})
    needed = [*rights.rights(connection, ray=True)]
    [said] = ungranted(connection, needed, needed)
    assert said.startswith(
        "no right at all in namespace u-missing, nor in the whole cluster: it is not there, or nothing"
    )
    here = [right for right in needed if right.kind.namespaced and not right.everywhere]
    [said] = ungranted(connection, needed, here)
    assert "u-missing: it is not there" in said and "`kubernetes.namespaces` of the chart's values" in said
    assert len([*ungranted(connection, needed, here[1:])]) == len(here) - 1
