"""Which Kubernetes do tests get, and what do they need of the machine around it? Everything by environment variables.

In this order: KUBECONFIG with USE_EXISTING_CLUSTER=true; KUBEBUILDER_ASSETS (a folder with etcd and kube-apiserver:
no pod ever starts there); kind; else none. Tests that run pods also read

    KUBERNETES_TEST_AGENT_IMAGE, KUBERNETES_TEST_IMAGE   images that the cluster has (deploy/, examples/kubernetes)
    KUBERNETES_TEST_HOST                                 the address of this machine, as pods reach it
    KUBERNETES_TEST_{CABLE,API}_{DOWN,UP}                commands that cut off the node, or end the API server; undo it
    KUBERNETES_TEST_ASSETS                               as KUBEBUILDER_ASSETS, for tests that want nobody else there
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.rayhead.plan import free_ports

REMEDY = "set KUBECONFIG and USE_EXISTING_CLUSTER=true, or KUBEBUILDER_ASSETS, or install kind"
KIND = "orchestrator-tests"
UP_S = 60.0
Doc = dict[str, Any]


def how(variables: Mapping[str, str] = os.environ) -> str | None:
    """`existing`, `assets`, `kind`, or None: no cluster."""
    if variables.get("USE_EXISTING_CLUSTER") == "true" and variables.get("KUBECONFIG"):
        return "existing"
    if variables.get("KUBEBUILDER_ASSETS"):
        return "assets"
    return "kind" if shutil.which("kind") and shutil.which("docker") else None


def programs(variables: Mapping[str, str] = os.environ) -> Path | None:
    """A folder with etcd and kube-apiserver, also beside a cluster that is used; None: nobody names one."""
    named = variables.get("KUBEBUILDER_ASSETS") or variables.get("KUBERNETES_TEST_ASSETS")
    return Path(named) if named else None


def runs_pods(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether pods start there, and images and an address for them are known."""
    named = ("KUBERNETES_TEST_AGENT_IMAGE", "KUBERNETES_TEST_IMAGE", "KUBERNETES_TEST_HOST")
    return how(variables) in ("existing", "kind") and all(variables.get(name) for name in named)


@dataclass(frozen=True)
class Cluster:
    """An API server, and its administrator's kubeconfig."""

    kubeconfig: Path
    kubectl_program: str = "kubectl"

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints; an error of its is raised with what it said."""
        command = [self.kubectl_program, f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *documents: Doc, dry_run: bool = False) -> None:
        """Create or change these, as the API server sees them; `dry_run`: only whether it would."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
        self.kubectl("apply", "-f", "-", *(["--dry-run=server"] if dry_run else []), stdin=text)

    def get(self, *arguments: str) -> Doc:
        """`kubectl get … -o json`."""
        found: Doc = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def has(self, resource: str) -> bool:
        """Whether the API server knows this kind of object, e.g. `rayjobs.ray.io`."""
        return resource in self.kubectl("get", "crd", "-o", "name", check=False)


def kubectl_program() -> str:
    """KUBECTL, one beside the API server's program, or the one on the path."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    beside = Path(assets) / "kubectl"
    return os.environ.get("KUBECTL") or (str(beside) if assets and beside.exists() else "kubectl")


@contextmanager
def a_cluster(folder: Path) -> Iterator[Cluster]:
    """The one that was found, for as long as the tests run. `folder`: for what it keeps."""
    match how():
        case "existing":
            yield Cluster(Path(os.environ["KUBECONFIG"]), kubectl_program())
        case "assets":
            with a_bare_cluster(folder, Path(os.environ["KUBEBUILDER_ASSETS"])) as cluster:
                yield cluster
        case "kind":
            with _kind(folder) as cluster:
                yield cluster
        case _:
            raise AssertionError(f"no cluster: {REMEDY}")


@contextmanager
def _kind(folder: Path) -> Iterator[Cluster]:
    kubeconfig = folder / "kind.kubeconfig"
    try:
        run = ["kind", "create", "cluster", "--name", KIND, "--kubeconfig", str(kubeconfig), "--wait", "120s"]
        subprocess.run(run, check=True, timeout=600)
        for image in filter(None, map(os.environ.get, ("KUBERNETES_TEST_AGENT_IMAGE", "KUBERNETES_TEST_IMAGE"))):
            subprocess.run(["kind", "load", "docker-image", image, "--name", KIND], check=True, timeout=600)
        yield Cluster(kubeconfig)
    finally:
        subprocess.run(["kind", "delete", "cluster", "--name", KIND], check=False, timeout=120)


@contextmanager
def a_bare_cluster(folder: Path, assets: Path) -> Iterator[Cluster]:
    """etcd and an API server alone: no controller, no node."""
    client, peer, port = free_ports(3)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    etcd = [f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{client}", "--unsafe-no-fsync=true"]
    etcd += [f"--advertise-client-urls=http://127.0.0.1:{client}", f"--listen-peer-urls=http://127.0.0.1:{peer}"]
    server = [f"--etcd-servers=http://127.0.0.1:{client}", "--bind-address=127.0.0.1", f"--secure-port={port}"]
    server += [f"--cert-dir={folder}/certs", f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC"]
    server += [f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"]
    server += ["--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16"]
    server += ["--disable-admission-plugins=ServiceAccount"]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(_config(port, token)))
    with (folder / "log").open("ab") as log:
        programs = ([assets / "etcd", *etcd], [assets / "kube-apiserver", *server])
        running = [subprocess.Popen(program, stdout=log, stderr=log) for program in programs]
    try:
        cluster = Cluster(kubeconfig, str(assets / "kubectl"))
        _wait(lambda: cluster.kubectl("get", "--raw", "/readyz", check=False) == "ok", f"{folder}/log")
        yield cluster
    finally:
        for process in reversed(running):
            process.kill()  # nothing of it is kept
            process.wait(timeout=30)


def _config(port: int, token: str) -> Doc:
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    }


def _wait(true: Any, where: str) -> None:
    until = time.monotonic() + UP_S
    while not true():
        if time.monotonic() > until:
            raise AssertionError(f"the API server is not ready after {UP_S:.0f} s; see {where}")
        time.sleep(0.2)
