"""A cluster with our CRDs, a server, and the controller as a process of its own between them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rayhead.plan import free_ports
from tests.kubernetes.cluster import Cluster, Doc, a_cluster
from tests.served import Served, served

ROOT = Path(__file__).parents[2]
UP_S, SOON_S = 90.0, 60.0


def until(true: Callable[[], Any], what: str, seconds: float = SOON_S) -> Any:
    """What `true` gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


@dataclass
class Space:
    """A namespace of the cluster, hence a project of the server."""

    cluster: Cluster
    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin, check=check)

    def apply(self, name: str, *, labels: Mapping[str, str] | None = None, **spec: Any) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(training_job(name, labels or {}, spec)))

    def refused(self, document: Doc) -> str:
        """What kubectl says of an object that does not come in."""
        command = [self.cluster.kubectl_program, f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={self.name}"]
        done = subprocess.run(
            [*command, "apply", "-f", "-"], input=json.dumps(document), capture_output=True, text=True
        )
        assert done.returncode, f"it came in: {done.stdout}"
        return done.stderr

    def status(self, name: str) -> Doc:
        found: Doc = self.cluster.get(f"--namespace={self.name}", "trainingjob", name).get("status", {})
        return found

    def reaches(self, name: str, state: str, seconds: float = SOON_S) -> Doc:
        """Its status, once the state is this."""
        seen: list[Doc] = [{}]

        def there() -> bool:
            seen[0] = self.status(name)
            return bool(seen[0].get("state") == state)

        try:
            until(there, f"{name} is {state}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {seen[0]}") from None
        return seen[0]

    def told(self, name: str) -> list[tuple[str, str, str]]:
        """(type, reason, message) of its events."""
        items = self.cluster.get(f"--namespace={self.name}", "events")["items"]
        mine = [item for item in items if item["involvedObject"]["name"] == name]
        return [(item["type"], item["reason"], item["message"]) for item in mine]


def training_job(name: str, labels: Mapping[str, str], spec: Mapping[str, Any]) -> Doc:
    meta: Doc = {"name": name, **({"labels": dict(labels)} if labels else {})}
    whole = {"run": {"command": ["python", "train.py"]}, **spec}
    return {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "TrainingJob", "metadata": meta, "spec": whole}


def condition(status: Doc, kind: str) -> Doc:
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


CONFIGURATION = "orchestrator-tests"


@dataclass
class Controller:
    """`orchestrator controller` as a process that may be ended and started again."""

    cluster: Cluster
    home: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None
    options: Sequence[str] = (f"--webhook-configuration={CONFIGURATION}",)

    def start(self) -> None:
        """Start it, and wait until it judges."""
        self.launch()
        until(self._judges, f"the controller judges; see {self.home}/controller.log", UP_S)

    def launch(self) -> None:
        host = os.environ.get("KUBERNETES_TEST_HOST", "127.0.0.1")
        command = [sys.executable, "-m", "orchestrator.cli.main", "controller", f"--webhook-port={self.port}"]
        command += [f"--webhook-host={host}", *self.options]
        given = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "ORCHESTRATOR_HOME": str(self.home)}
        for name in ("ORCHESTRATOR_URL", "ORCHESTRATOR_TOKEN"):
            given.pop(name, None)
        with (self.home / "controller.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=given, stderr=log, stdout=log)

    def service_paths(self, configuration: str) -> list[str]:
        """Below its Service, the paths that the API server is told to ask; none before it is told."""
        get = ("get", "validatingwebhookconfiguration", configuration, "--ignore-not-found", "-o", "json")
        found = self.cluster.kubectl(*get)
        return [one["clientConfig"]["service"]["path"] for one in json.loads(found or "{}").get("webhooks", [])]

    def _judges(self) -> bool:
        """Whether the webhook of this very process answers: a bad object is refused by it."""
        assert self.process is not None and self.process.poll() is None, (self.home / "controller.log").read_text()
        bad = training_job("probe", {}, {"maxRuntime": "1d", "data": [{"name": "d", "at": "/d"}]})
        command = [
            self.cluster.kubectl_program,
            f"--kubeconfig={self.cluster.kubeconfig}",
            "create",
            "--dry-run=server",
        ]
        done = subprocess.run([*command, "-f", "-"], input=json.dumps(bad), capture_output=True, text=True)
        return "is not honoured" in done.stderr

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that the environment names, with our CRDs."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as found:
        found.kubectl("apply", "-k", str(ROOT / "deploy" / "crds"))
        found.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield found


@contextmanager
def controlled(cluster: Cluster, home: Path) -> Iterator[Controller]:
    """A controller between the cluster and the server of this home. Nobody is asked to judge for it afterwards, which
    would keep other tests' objects out."""
    controller = Controller(cluster, home)
    try:
        controller.start()
        yield controller
    finally:
        controller.end(signal.SIGKILL)
        for kind in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
            cluster.kubectl("delete", kind, CONFIGURATION, "--ignore-not-found", "--wait=false", check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Served]:
    """A server over a desk whose jobs live the lives that the test tells."""
    with served(home) as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Served]:
    """The same for one test alone, which may spoil it."""
    with served(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def controller(cluster: Cluster, server: Served, home: Path) -> Iterator[Controller]:
    with controlled(cluster, home) as running:
        yield running


@pytest.fixture
def space(cluster: Cluster) -> Iterator[Space]:
    """A fresh namespace. Its objects are let go of at the end, whatever became of them."""
    name = f"team-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    found = Space(cluster, name)
    yield found
    free = '{"metadata":{"finalizers":null}}'
    for one in found.kubectl("get", "trainingjobs", "-o", "name").split():
        found.kubectl("patch", one, "--type=merge", "-p", free, check=False)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
