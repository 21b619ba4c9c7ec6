"""How is the server put on a cluster in a test, and how is it spoken to there? Helm, kubectl, and a forwarded port."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.model.wire import StoreRef
from orchestrator.sdk import Client
from tests.deploy.helm import CHART, ROOT, Doc
from tests.kubernetes.cluster import Cluster

UP = "110s"
TOKENS = "orchestrator-tokens"
STORE = "orchestrator-store"
ISOLATION = {"check": "1s", "limit": "15s", "grace": "2s"}


def image() -> tuple[str, str]:
    """(repository, tag) of the image that is tried: the agent's is the server's."""
    name, _, tag = os.environ["KUBERNETES_TEST_AGENT_IMAGE"].rpartition(":")
    return name, tag


@dataclass
class Deployed:
    """A server in a namespace of a cluster."""

    cluster: Cluster
    namespace: str
    store: StoreRef
    name: str = "orchestrator"
    tokens: dict[str, str] = field(default_factory=dict)

    # ---- what it needs around it -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Tokens, the store's credentials, and where the cluster makes no volumes by itself, one of this machine."""
        make = [sys.executable, str(ROOT / "deploy" / "make_tokens.py"), "--namespace", self.namespace]
        secret = json.loads(subprocess.run(make, capture_output=True, text=True, check=True).stdout)
        self.tokens = secret["stringData"]
        meta = {"name": STORE, "namespace": self.namespace}
        keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
        self.cluster.apply(secret, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": keys})

    def providers(self) -> Doc:
        """This cluster by the service account of the server's own pod, and the tests' store."""
        ray = {"name": "ray", "resources": {"requests": {"cpu": "100m"}}}
        here = {
            "adapter": "kubernetes",
            "connection": {
                "namespace": self.namespace, "image": os.environ["KUBERNETES_TEST_IMAGE"],
                "agentImage": os.environ["KUBERNETES_TEST_AGENT_IMAGE"], "storeSecret": STORE,
                "podTemplate": {"spec": {"containers": [ray]}},
            },
            "regions": {"here": "EU"}, "operatorJurisdiction": "EU", "seal": 4, "accelerators": {"gpu": 1},
        }  # fmt: skip
        store = {"url": self.store.url, "jurisdiction": "EU", "options": {**self.store.options, **self.store.secrets}}
        spec = {
            "providers": {"here": here},
            "stores": {"main": store},
            "policies": {"default": {"isolation": ISOLATION}},
        }
        return {
            "apiVersion": "orchestrator.dev/v1alpha1",
            "kind": "ProviderSet",
            "metadata": {"name": "t"},
            "spec": spec,
        }

    def port_of_store(self) -> int:
        return int(re.findall(r":(\d+)", self.store.options["aws_endpoint"])[0])

    def values(self) -> Doc:
        repository, tag = image()
        persistence = {"size": "64Mi"}
        return {
            "fullnameOverride": self.name,
            "image": {"repository": repository, "tag": tag},
            "providers": {"document": json.dumps(self.providers())},
            "tokens": {"existingSecret": TOKENS},
            "store": {"existingSecret": STORE},
            "persistence": persistence if self.makes_volumes() else {**persistence, "storageClass": ""},
            "networkPolicy": {"egressPorts": [443, 6443, self.port_of_store()]},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        }

    def makes_volumes(self) -> bool:
        classes = self.cluster.get("storageclass")["items"]
        default = "storageclass.kubernetes.io/is-default-class"
        return any(c["metadata"].get("annotations", {}).get(default) == "true" for c in classes)

    @contextmanager
    def volume(self) -> Iterator[None]:
        """A folder of this machine, which then has to be the node's, for the claim of the server."""
        if self.makes_volumes():
            yield
            return
        folder = tempfile.mkdtemp(prefix="volume-")
        (node,) = [n["metadata"]["name"] for n in self.cluster.get("nodes")["items"]]
        host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        spec = {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            "claimRef": {"name": self.name, "namespace": self.namespace},
        }  # fmt: skip
        name = f"{self.namespace}-{secrets.token_hex(3)}"
        self.cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
        try:
            yield
        finally:
            self.cluster.kubectl("delete", "pv", name, "--wait=false")
            shutil.rmtree(folder, ignore_errors=True)

    # ---- doing -----------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, check=check)

    def helm(self, verb: str, *arguments: str) -> str:
        command = [os.environ.get("HELM", "helm"), verb, "desk", *arguments, "--namespace", self.namespace]
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}\n{self.why()}"
        return done.stdout

    def install(self, folder: Path, verb: str = "install", *options: str) -> str:
        values = folder / "values.json"
        values.write_text(json.dumps(self.values()))
        return self.helm(verb, str(CHART), "--values", str(values), "--wait", "--timeout", UP, *options)

    def wait_ready(self) -> None:
        said = self.kubectl("rollout", "status", f"deployment/{self.name}", f"--timeout={UP}", check=False)
        assert "successfully rolled out" in said, self.why()

    def pod(self) -> str:
        selector = "app.kubernetes.io/component=server"
        names = self.kubectl("get", "pods", "-l", selector, "--field-selector=status.phase=Running", "-o", "name")
        return names.split()[-1]

    def why(self) -> str:
        """What a person would look at."""
        said = [self.kubectl("get", "pods,pvc,events", "-o", "wide", check=False)]
        said.append(self.kubectl("logs", f"deployment/{self.name}", "--tail=60", check=False))
        return "\n".join(said)

    @contextmanager
    def client(self, token: str = "owner") -> Iterator[Client]:
        """A client by a port that kubectl forwards, to the pod that runs now."""
        command = [self.cluster.kubectl_program, f"--kubeconfig={self.cluster.kubeconfig}", "-n", self.namespace,
                   "port-forward", self.pod(), ":7380"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
            try:
                assert forward.stdout is not None
                line = forward.stdout.readline()
                port = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert port, line + self.why()
                with Client(f"http://127.0.0.1:{port[1]}", self.tokens[token], patience_s=20) as client:
                    yield client
            finally:
                forward.terminate()

    def main_objects(self) -> list[str]:
        """Every launch that there ever was, as long as nobody cleared it away: names of RayJobs and Jobs."""
        kinds = "jobs,rayjobs" if self.cluster.has("rayjobs.ray.io") else "jobs"
        found = self.cluster.get(kinds, "-n", self.namespace, "-l", "orchestrator.dev/key")["items"]
        return sorted({one["metadata"]["labels"]["orchestrator.dev/key"] for one in found})


def until(true: Callable[[], Any], otherwise: Callable[[], str], seconds: float = 180) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.5)
    return found
