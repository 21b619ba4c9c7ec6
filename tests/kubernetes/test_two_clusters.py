"""Two clusters, one contract: a has the first right and no free GPU; b takes the job, and is lost bit by bit.

b's API server dies: the job is unknown there, seen alive through its run log, and not moved. b's node is cut off for
longer than `limit`, with a checkpoint entry of its on the way: the job is fenced there, a is asked first again, and it
resumes at a from its last checkpoint; the entry arrives then, and is refused. The real servers, real pods, a real Ray:
one server's job goes through KubeRay with Kueue answering for b, the other's with neither. Each has namespaces, a
contract and a store of its own; that they share the clusters and what befalls them costs one wait for each fault
instead of two. b is the cluster that KUBECONFIG names, a the one that KUBERNETES_TEST_SECOND names.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.stage import PYTHON, Part
from orchestrator.model.documents import job_from, with_package
from orchestrator.model.documents.text import plain
from orchestrator.model.documents.views import ExplainView
from orchestrator.model.wire import StoreRef
from orchestrator.rayhead.plan import free_ports
from orchestrator.runlog.log import JobLog, read
from orchestrator.runlog.rules import RunLog
from orchestrator.runlog.store import open_store
from orchestrator.sdk import Client, Job
from tests.kubernetes.cluster import Cluster, Doc, kubectl_program
from tests.kubernetes.conftest import a_namespace, an_s3_server
from tests.kubernetes.customs import Customs, a_customs_post
from tests.kubernetes.queues import drop_queues, make_queues, needs_kueue

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes"
LIMIT_S = 30
REQUEST = {"cpu": "100m"}
"""What a pod asks for, so that one node of two cores has room for those of both jobs."""
NEEDS = ("SECOND", "SECOND_HOST", "API_DOWN", "API_UP", "CABLE_DOWN", "CABLE_UP")
pytestmark = [pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.heavy, pytest.mark.timeout(1800)]


def told(name: str) -> str:
    return os.environ[f"KUBERNETES_TEST_{name}"]


@dataclass
class Stage:
    """Both clusters, the store, the server."""

    folder: Path
    clusters: dict[str, Cluster]
    spaces: dict[str, str]
    store: StoreRef
    customs: Customs
    """On the way to the store."""
    runtime: str
    queue: Doc
    """What b's connection says of Kueue: its queue, or nothing."""
    parts: list[Part] = field(default_factory=list)

    def providers(self) -> Doc:
        """The example's, at these clusters."""
        document, _ = plain((EXAMPLE / "providers.yaml").read_text())
        for name, provider in document["spec"]["providers"].items():
            here = {"kubeconfig": str(self.clusters[name].kubeconfig), "namespace": self.spaces[name]}
            images = {"image": told("IMAGE"), "agentImage": told("AGENT_IMAGE")}
            provider["connection"] = provider["connection"] | here | images | {"runtime": self.runtime}
            provider["connection"]["storeSecret"] = "store"
            provider["connection"]["podTemplate"]["spec"]["containers"][0]["resources"]["requests"] = REQUEST
            del provider["connection"]["context"]
        document["spec"]["providers"]["b"]["connection"] |= self.queue
        isolation = {"check": "2s", "limit": f"{LIMIT_S}s", "grace": "5s"}
        document["spec"]["policies"]["default"]["isolation"] = isolation
        made: Doc = document
        return made

    def serve(self) -> Client:
        """Start the server; a client of it."""
        home = self.folder / "home"
        home.mkdir()
        (home / "providers.json").write_text(json.dumps(self.providers(), default=float))
        settings = {
            "ORCHESTRATOR_HOME": str(home),
            "ORCHESTRATOR_PORT": str(free_ports(1)[0]),
            "ORCHESTRATOR_CONTRACTS": str(EXAMPLE / "contracts.yaml"),
            "ORCHESTRATOR_PROVIDERS": str(home / "providers.json"),
            "ORCHESTRATOR_STORE": self.store.url,
            "ORCHESTRATOR_STORE_OPTIONS": json.dumps(dict(self.store.options)),
            "ORCHESTRATOR_STORE_SECRETS": json.dumps(dict(self.store.secrets)),
        }
        server = Part("server", [*PYTHON, "orchestrator.cli.main", "serve"], settings, self.folder / "server.log")
        self.parts.append(server)
        server.start()
        server.wait_for((home / "server.json").exists)
        url = json.loads((home / "server.json").read_text())["url"]
        token = json.loads((home / "tokens.json").read_text())["tokens"][0]["token"]
        return Client(url, token, patience_s=60)

    def log(self, job: Job) -> RunLog:
        """The job's run log, read from its store."""
        return read(JobLog(open_store(self.store), "default", job.id)).state


@pytest.fixture
def stages(cluster: Cluster, tmp_path: Path) -> Iterator[list[Stage]]:
    absent = [name for name in NEEDS if not os.environ.get(f"KUBERNETES_TEST_{name}")]
    if absent:
        pytest.skip(f"not run: two clusters: KUBERNETES_TEST_{absent[0]} is not set")
    clusters = {"a": Cluster(Path(told("SECOND")), kubectl_program()), "b": cluster}
    if not all(one.has("rayjobs.ray.io") for one in clusters.values()):
        pytest.skip("not run: kuberay: install KubeRay on both clusters")
    needs_kueue(cluster)
    with ExitStack() as stack:
        yield [stack.enter_context(a_stage(clusters, runtime, tmp_path / runtime)) for runtime in ("kuberay", "job")]


@contextmanager
def a_stage(clusters: dict[str, Cluster], runtime: str, folder: Path) -> Iterator[Stage]:
    """Everything but the clusters is this one's alone; what its server said last is printed in the end."""
    folder.mkdir()
    host = told("SECOND_HOST")
    with ExitStack() as stack:
        spaces = {name: stack.enter_context(a_namespace(one)) for name, one in clusters.items()}
        whole = stack.enter_context(an_s3_server(host, folder / "s3.log"))
        customs, store = stack.enter_context(a_customs_post(host, whole))
        queue = stack.enter_context(a_queue(clusters["b"], spaces["b"], runtime))
        made = Stage(folder, clusters, spaces, store, customs, runtime, queue)
        try:
            yield made
        finally:
            for part in reversed(made.parts):
                part.stop()
            print((folder / "server.log").read_text()[-3000:])


@contextmanager
def a_queue(cluster: Cluster, namespace: str, runtime: str) -> Iterator[Doc]:
    """Kueue, where KubeRay is: a queue in front of all GPUs."""
    if runtime != "kuberay":
        yield {}
        return
    make_queues(cluster, namespace, gpus=4)
    try:
        yield {"queue": "ours"}
    finally:
        drop_queues(cluster, namespace)


@pytest.mark.fault("provider returning with a zombie")
def test_jobs_move_between_clusters_and_are_never_in_both(stages: list[Stage]) -> None:
    with filled(stages[0]):
        jobs = [submit(stage.serve()) for stage in stages]
        for job in jobs:
            until(job, lambda view: view.job.state == "running" and view.job.provider == "b", 300)
            assert any("a declined" in line.text for line in job.explain().lines)

        with fault("API_DOWN", "API_UP"):
            saved = [len(stage.log(job).checkpoints) for stage, job in zip(stages, jobs, strict=True)]
            for stage, job, before in zip(stages, jobs, saved, strict=True):
                until(job, lambda _, s=stage, j=job, n=before: len(s.log(j).checkpoints) > n + 1, 120)
            time.sleep(LIMIT_S)
            for job in jobs:
                view = job.explain()
                assert (view.job.provider, len(view.job.attempts)) == ("b", 1), view.why

    for stage in stages:
        stage.customs.wanted.set()
    for stage in stages:
        assert stage.customs.held.wait(60), f"{stage.runtime}: b saves nothing any more"
    with fault("CABLE_DOWN", "CABLE_UP"):
        for job in jobs:
            until(job, lambda view: view.job.state == "running" and view.job.provider == "a", 600)
    for stage, job in zip(stages, jobs, strict=True):
        stage.customs.open.set()  # what b had sent before it was cut off arrives behind the fence
        assert job.wait(600).state == "succeeded"
        assert stage.customs.answered == [412]
        log = stage.log(job)
        epochs = [point.epoch for point in log.checkpoints]
        assert epochs == sorted(epochs) and set(epochs) == {1, 2}
        assert "resumed after step" in "".join(job.logs())
        until(job, lambda _, s=stage: not pods(s, "a") and not pods(s, "b"), 600)


@contextmanager
def filled(stage: Stage) -> Iterator[None]:
    """Every GPU of a is taken."""
    at_a = stage.clusters["a"]
    gpus = sum(int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in at_a.get("nodes")["items"])
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    context |= {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "filler", "image": told("IMAGE"), "command": ["sleep", "3600"], "securityContext": context}
    container |= {"imagePullPolicy": "IfNotPresent", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    meta = {"name": "filler", "namespace": stage.spaces["a"]}
    at_a.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    at_a.kubectl("wait", "pod/filler", "-n", stage.spaces["a"], "--for=condition=Ready", "--timeout=100s")
    yield
    at_a.kubectl("delete", "pod", "filler", "-n", stage.spaces["a"], "--wait=true")


def submit(client: Client) -> Job:
    """The example's job, slow enough to be lost half-way."""
    document, _ = plain((EXAMPLE / "job.yaml").read_text())
    document["spec"]["run"]["command"] = ["python", "train.py", "--steps", "700", "--pause", "0.2"]
    digest = client.upload(EXAMPLE.parent / "digits")
    del document["spec"]["run"]["package"]
    return client.submit(with_package(job_from(document), f"sha256:{digest.removeprefix('sha256:')}"))


@contextmanager
def fault(down: str, up: str) -> Iterator[None]:
    """A command of the environment, and its undoing."""
    subprocess.run(told(down), shell=True, check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(told(up), shell=True, check=True, timeout=300, stdout=subprocess.DEVNULL)


def until(job: Job, true: Callable[[ExplainView], Any], seconds: float) -> ExplainView:
    deadline = time.monotonic() + seconds
    while not true(view := job.explain()):
        lines = "\n".join(line.text for line in view.lines)
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {view.why}\n{lines}"
        time.sleep(1)
    return view


def pods(stage: Stage, name: str) -> list[str]:
    """Pods of jobs there that have not ended."""
    found = stage.clusters[name].get("pods", "-n", stage.spaces[name], "-l", "orchestrator.dev/key")["items"]
    return [pod["metadata"]["name"] for pod in found if pod["status"]["phase"] not in ("Succeeded", "Failed")]
