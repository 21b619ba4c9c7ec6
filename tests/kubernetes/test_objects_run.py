"""Both forms of a launch, on a real cluster: two pods become a Ray cluster, train, save to S3, and are done."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes.connection import Connection, parse_connection
from orchestrator.adapters.providers.kubernetes.objects import Runtime, manifests
from orchestrator.model.ids import new_job_id
from orchestrator.model.wire import Isolation, StoreRef
from orchestrator.runlog import paths
from orchestrator.runlog.log import JobLog, read
from orchestrator.runlog.store import Store
from orchestrator.sdk.pack import pack
from orchestrator.testing.builders import an_attempt, an_order
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.test_objects import containers

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
DONE_S = 300.0
"""Three times what a run takes on two quiet cores."""
pytestmark = [pytest.mark.kubernetes, pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest.fixture
def connection(namespace: str) -> Connection:
    """This cluster, and requests that fit into a small machine."""
    small = {"name": "ray", "resources": {"requests": {"cpu": "100m"}}}
    images = {
        "image": os.environ.get("KUBERNETES_TEST_IMAGE", "environment:1"),
        "agentImage": os.environ.get("KUBERNETES_TEST_AGENT_IMAGE", "orchestrator:1"),
    }
    template = {"spec": {"containers": [small]}}
    return parse_connection("b", images | {"namespace": namespace, "storeSecret": "store", "podTemplate": template})


def launched(connection: Connection, runtime: Runtime, job: str = "", **attempt: Any) -> tuple[Doc, ...]:
    """The objects of a launch with two workers of one GPU each."""
    job = job or new_job_id(time.time_ns() // 1000, secrets.token_bytes(10))
    told = an_attempt(job, **attempt).to_json()
    order = an_order(job, workers=2, gpus=1, cpus=1, memory=1 << 30, attempt=told)
    return manifests(order, connection, runtime, "ledger-1", workload=None, token=secrets.token_hex(16))


@pytest.mark.parametrize("runtime", ["kuberay", "job"])
def test_the_api_server_takes_every_object(cluster: Cluster, connection: Connection, runtime: Runtime) -> None:
    if runtime == "kuberay":
        must_have_kuberay(cluster)
    cluster.apply(*launched(connection, runtime), dry_run=True)


@pytest.mark.parametrize("runtime", ["kuberay", "job"])
def test_the_api_server_adds_nothing_to_a_container(cluster: Cluster, connection: Connection, runtime: Runtime) -> None:
    """Kueue compares containers with what was reserved for them before."""
    if runtime == "kuberay":
        must_have_kuberay(cluster)
    ours = launched(replace(connection, queue="gpus"), runtime)[0]
    text = cluster.kubectl("create", "-f", "-", "--dry-run=server", "-o", "json", stdin=json.dumps(ours))
    for said, kept in zip(containers(ours), containers(json.loads(text)), strict=True):
        assert said.keys() == kept.keys()
        assert all(kept[field] == said[field] for field in said if field != "resources")
        assert said["resources"]["requests"].keys() == kept["resources"]["requests"].keys()


@pytest.fixture
def start(
    cluster: Cluster, connection: Connection, store: Store, store_ref: StoreRef
) -> Callable[[Runtime, str], JobLog]:
    """Launch the digits in two pods, with more arguments; returns the job's run log."""

    def launch(runtime: Runtime, arguments: str) -> JobLog:
        if runtime == "kuberay":
            must_have_kuberay(cluster)
        code = pack(DIGITS)
        store.put(paths.package("default", code.digest), code.data)
        job = new_job_id(time.time_ns() // 1000, secrets.token_bytes(10))
        command = ("python", "train.py", *arguments.split())
        told = {"store": store_ref, "package": code.digest, "command": command, "isolation": Isolation(check_ms=2_000)}
        cluster.apply(*launched(connection, runtime, job, **told))
        return JobLog(store, "default", job)

    return launch


@pytest.mark.pods
@pytest.mark.parametrize("runtime", ["kuberay", "job"])
def test_digits_train_in_two_pods(cluster: Cluster, connection: Connection, start: Any, runtime: Runtime) -> None:
    log = start(runtime, "--steps 60")
    state = until(lambda: read(log).state, lambda state: state.done is not None, lambda: why(cluster, connection))
    assert state.done and (state.done.exit, len(state.checkpoints)) == (0, 3)
    output = b"".join(filter(None, map(log.store.get, log.store.list(paths.out("default", log.job, 1))))).decode()
    assert "held-out images after 60 steps" in output
    until(lambda: alive(cluster, connection), lambda pods: not pods, lambda: "pods are still alive")


@pytest.mark.pods
@pytest.mark.parametrize("runtime", ["kuberay", "job"])
def test_a_head_that_is_lost_stays_lost(cluster: Cluster, connection: Connection, start: Any, runtime: Runtime) -> None:
    log = start(runtime, "--steps 6000 --pause 0.5")
    until(lambda: read(log).state.starts, bool, lambda: why(cluster, connection))
    assert unlabelled(cluster, connection) == []
    head = "ray.io/node-type=head" if runtime == "kuberay" else "batch.kubernetes.io/job-completion-index=0"
    cluster.kubectl("delete", "pod", "-n", connection.namespace, "-l", head)
    for _ in range(20):
        assert cluster.get("pods", "-n", connection.namespace, "-l", head)["items"] == []
        time.sleep(1)
    state = read(log).state
    assert [type(entry).__name__ for entry in state.entries].count("Claim") == 1 and state.done is None


def must_have_kuberay(cluster: Cluster) -> None:
    if not cluster.has("rayjobs.ray.io"):
        pytest.skip("not run: kuberay: install KubeRay on the cluster")


def until(look: Callable[[], Any], enough: Callable[[Any], bool], otherwise: Callable[[], str]) -> Any:
    """What it sees once that is enough."""
    deadline = time.monotonic() + DONE_S
    while not enough(seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {DONE_S:.0f} s: {seen}\n{otherwise()}")
        time.sleep(1)
    return seen


def alive(cluster: Cluster, connection: Connection) -> list[str]:
    pods = cluster.get("pods", "-n", connection.namespace, "-l", "orchestrator.dev/key")["items"]
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] not in ("Succeeded", "Failed")]


def unlabelled(cluster: Cluster, connection: Connection) -> list[str]:
    """What was made in the namespace without our labels, and does not go with the launch either."""
    marks = {"orchestrator.dev/key", "orchestrator.dev/ledger", "app.kubernetes.io/managed-by"}
    kinds = "pods,services,secrets,jobs.batch"
    if cluster.has("rayjobs.ray.io"):
        kinds += ",rayjobs.ray.io,rayclusters.ray.io"
    there = [one["metadata"] for one in cluster.get(kinds, "-n", connection.namespace)["items"]]
    runs = [meta["name"] for meta in there if marks <= meta.get("labels", {}).keys()]
    bare = [meta for meta in there if meta["name"] not in runs and meta["name"] != "store"]
    return [meta["name"] for meta in bare if meta.get("ownerReferences", [{}])[0].get("name") not in runs]


def why(cluster: Cluster, connection: Connection) -> str:
    """What a person would look at."""
    said = [cluster.kubectl("get", "events,pods,jobs", "-n", connection.namespace, check=False)]
    for pod in cluster.get("pods", "-n", connection.namespace)["items"]:
        name = pod["metadata"]["name"]
        said.append(cluster.kubectl("logs", "-n", connection.namespace, name, "--all-containers", check=False)[-4000:])
    return "\n".join(said)
