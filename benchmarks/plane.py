"""A real API server to measure against: etcd and kube-apiserver as processes of ours, and what they cost.

Called by `clustered`. Nothing else of a control plane runs: no scheduler, no kubelet, no garbage collector; nodes are
objects. etcd keeps its data in the benchmark's folder and syncs it to the disk, as in production. The programs are
those of a KUBEBUILDER_ASSETS folder (`setup-envtest use -p path`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import Unfit

UP_S = 60.0
TICK_S = os.sysconf("SC_CLK_TCK")
ASSETS = "KUBEBUILDER_ASSETS"
PARTS = ("etcd", "kube-apiserver", "kubectl")
COLLECTOR = "400"
"""GOGC of both, unless the environment names another: by how many per cent the heap grows between two collections.
Go's 100 took a third more CPU for each RayJob: a fresh API server's heap is small, and would be collected all the time.
"""
ETCD_CORES = "1"
"""GOMAXPROCS of etcd, likewise: it needs a third of a core, and on both it took a fifth more."""
QUIET = ["--disable-admission-plugins=ServiceAccount"]
"""Nobody makes service accounts here, and without one no pod would come in."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A control plane that answers."""

    kubeconfig: Path
    kubectl: Path
    pids: dict[str, int]
    """Part → process id."""

    def apply(self, *documents: Any, file: Path | None = None) -> None:
        """Have these there. Raises `Unfit` with what the API server says."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}) if file is None else None
        words = ["apply", "--server-side", "-f", str(file or "-")]
        self._run(words, text)

    def established(self, name: str, kind: str) -> None:
        """Wait until this kind is served; kubectl gives up where a definition has no conditions at all yet."""
        self._run(["wait", f"--for=jsonpath={{.status.acceptedNames.kind}}={kind}", "--timeout=60s", f"crd/{name}"])
        self._run(["wait", "--for=condition=Established", "--timeout=60s", f"crd/{name}"])

    def _run(self, words: list[str], text: str | None = None) -> None:
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise Unfit(f"kubectl {words[0]}: {done.stderr.strip()}")

    def cpu(self) -> dict[str, float]:
        """Part → CPU seconds so far."""
        return {part: cpu_of(pid) for part, pid in self.pids.items()}


def cpu_of(pid: int) -> float:
    """CPU seconds that this process, all of its threads together, has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK_S


def collector() -> str:
    """What both are started with."""
    return os.environ.get("GOGC", COLLECTOR)


def etcd_cores() -> str:
    """What etcd is started with."""
    return os.environ.get("GOMAXPROCS", ETCD_CORES)


def assets() -> Path:
    """The folder with the programs. Raises `Unfit` with what is missing and how it is got."""
    named = os.environ.get(ASSETS, "")
    missing = [part for part in PARTS if not (Path(named) / part).exists()] if named else list(PARTS)
    if missing:
        where = f"{named} lacks {', '.join(missing)}" if named else f"{ASSETS} is not set"
        raise Unfit(f"{where}: a folder with {', '.join(PARTS)} is needed; `setup-envtest use -p path` prints one")
    return Path(named)


@contextmanager
def plane(folder: Path) -> Iterator[Plane]:
    """Start both below `folder`; they end with the block, and nothing of them is kept."""
    programs = assets()
    client, peer, port = _free_ports(3)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},benchmark,benchmark,system:masters\n")
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(_config(port, token)))
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    with ExitStack() as running, (folder / "log").open("ab") as log:
        pids, env = {}, {**os.environ, "GOGC": collector()}
        parts = (
            ("etcd", _etcd(folder, client, peer), env | {"GOMAXPROCS": etcd_cores()}),
            ("kube-apiserver", _server(folder, client, port), env),
        )
        for part, words, variables in parts:
            process = subprocess.Popen([programs / part, *words], stdout=log, stderr=log, env=variables)
            running.callback(process.wait, timeout=30)
            running.callback(process.kill)
            pids[part] = process.pid
        found = Plane(kubeconfig, programs / "kubectl", pids)
        _until_ready(found, folder / "log")
        yield found


def _etcd(folder: Path, client: int, peer: int) -> list[str]:
    here, others = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        f"--data-dir={folder}/etcd", f"--listen-client-urls={here}", f"--advertise-client-urls={here}",
        f"--listen-peer-urls={others}", f"--initial-advertise-peer-urls={others}",
        f"--initial-cluster=default={others}",
    ]  # fmt: skip


def _server(folder: Path, client: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{client}", "--bind-address=127.0.0.1", f"--secure-port={port}",
        f"--cert-dir={folder}/certs", f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
        f"--service-account-key-file={folder}/sa.key", f"--service-account-signing-key-file={folder}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16", *QUIET,
    ]  # fmt: skip


def _until_ready(found: Plane, log: Path) -> None:
    command = [str(found.kubectl), f"--kubeconfig={found.kubeconfig}", "get", "--raw", "/readyz"]
    until = time.monotonic() + UP_S
    while time.monotonic() < until:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.stdout == "ok":
            return
        time.sleep(0.2)
    end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise Unfit(f"the API server is not ready after {UP_S:.0f} s:\n{end}")


def _free_ports(count: int) -> list[int]:
    """Free now; somebody may be quicker, then the part says so in its log."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def _config(port: int, token: str) -> dict[str, Any]:
    name = "benchmark"
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}], "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }  # fmt: skip
