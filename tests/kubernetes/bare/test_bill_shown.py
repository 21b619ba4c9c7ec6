"""A whole life on a cluster with prices: a real server, API server and agent; a test in place of the kubelet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Client, command_job
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.pods import ATTEMPT
from orchestrator.model.ids import launch_key
from orchestrator.model.wire import ENV_ATTEMPT
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.cluster import Cluster

PRICE = 2_490_000
BEGAN, ENDED = "2026-03-01T10:00:00Z", "2026-03-01T10:00:20Z"
TWENTY_SECONDS = 2 * 20 * PRICE // 3600


def until(true: Callable[[], Any], what: str, seconds: float = 40) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"still waiting: {what}"
        time.sleep(0.2)
    return found


def orchestrator(home: Path, *arguments: str) -> str:
    """What the command line says on this server."""
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    env = {**os.environ, "ORCHESTRATOR_HOME": str(home), "COLUMNS": "200"}
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def home(cluster: Cluster, kubelet: Kubelet, tmp_path: Path) -> Iterator[Path]:
    """A server with this cluster as its one provider, by a price book; the folder where its files are."""
    connection = {"kubeconfig": str(cluster.kubeconfig), "namespace": kubelet.namespace, "image": "i", "runtime": "job"}
    connection |= {"agentImage": "a", "accelerators": {"H100": {"nodeSelector": kubelet.selector}}}
    price = {"accelerator": "H100", "usdPerGpuHour": "2.49", "kind": "contracted", "source": "us", "date": "2026-03-01"}
    k: dict[str, Any] = {"adapter": "kubernetes", "connection": connection, "regions": {"eu-1": "EU"}, "seal": 1}
    k |= {"operatorJurisdiction": "EU", "accelerators": {"H100": 1}, "prices": [price]}
    policies = {"default": {"isolation": {"check": "1s", "limit": "30s", "grace": "2s"}}}
    head = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "ProviderSet", "metadata": {"name": "one"}}
    (tmp_path / "providers.yaml").write_text(json.dumps(head | {"spec": {"providers": {"k": k}, "policies": policies}}))
    command = [sys.executable, "-m", "orchestrator.cli.main", "serve", "--port", "0"]
    env = {**os.environ, "ORCHESTRATOR_HOME": str(tmp_path), "ORCHESTRATOR_STORE_JURISDICTION": "EU"}
    with (tmp_path / "log").open("ab") as log:
        server = subprocess.Popen([*command, "--providers", str(tmp_path / "providers.yaml")], env=env, stderr=log)
    try:
        until(lambda: (tmp_path / "server.json").exists() or server.poll() is not None, "a server")
        assert server.poll() is None, (tmp_path / "log").read_text()
        yield tmp_path
    finally:
        server.terminate()
        server.wait(timeout=30)


def train(cluster: Cluster, kubelet: Kubelet, key: str) -> None:
    """The launch's one pod runs its agent, here, and ends."""
    where = ["-n", kubelet.namespace]
    until(lambda: name_of(key) in cluster.kubectl("get", "jobs", *where, "-o", "name"), "a Job")
    pods = cluster.get(f"jobs/{name_of(key)}", *where)["spec"]["template"]
    kubelet.runs("job", name_of(key), f"{key}-0", BEGAN)
    status: dict[str, Any] = {"active": 1, "ready": 1, "startTime": BEGAN}
    patch = ["patch", "job", name_of(key), *where, "--subresource=status", "--type=merge", "-p"]
    cluster.kubectl(*patch, json.dumps({"status": status}))
    told = {**os.environ, ENV_ATTEMPT: pods["metadata"]["annotations"][ATTEMPT]}
    agent = [sys.executable, "-m", "orchestrator.agent"]
    subprocess.run(agent, env=told, check=True, timeout=60, capture_output=True)
    kubelet.ended(f"{key}-0", ENDED)
    status = {"active": 0, "ready": 0, "succeeded": 1, "completedIndexes": "0", "completionTime": ENDED}
    done = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
    # The server reads in the run log that it is done, and may have had the Job deleted by now.
    cluster.kubectl(*patch, json.dumps({"status": status | {"conditions": done}}), check=False)


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
def test_a_job_on_a_cluster_shows_its_bill_and_the_auditor_has_nothing_to_say(
    home: Path, cluster: Cluster, kubelet: Kubelet
) -> None:
    server = json.loads((home / "server.json").read_text())["url"]
    token = json.loads((home / "tokens.json").read_text())["tokens"][0]["token"]
    with Client(server, token) as client:
        workers = {"count": 1, "gpus": 2, "cpus": 1, "memory": "1Gi", "accelerator": ["H100"]}
        run: dict[str, Any] = {
            "command": [sys.executable, "-c", "print('trained')"],
            "folder": None,
            "workers": workers,
        }
        cheap = client.submit(command_job(**run, ceilingUsdPerGpuHour="2.00"))
        job = client.submit(command_job(**run, ceilingUsdPerGpuHour="2.50"))
        train(cluster, kubelet, launch_key(job.id, 1))
        view = until(lambda: (v := client.job(job.id).view).attempts and v.attempts[0].charge_microusd and v, "bill")
        until(lambda: client.job(job.id).view.state == "succeeded", "its end")
        assert (client.job(cheap.id).view.state, client.job(cheap.id).view.reason) == ("held", "over_ceiling")
    [attempt] = view.attempts
    assert (attempt.price_microusd, attempt.charge_microusd) == (PRICE, TWENTY_SECONDS)
    assert "$2.49" in (shown := orchestrator(home, "job", job.id)) and "$0.03" in shown  # per hour, and charged
    orchestrator(home, "audit", "export", "-o", str(home / "ledger.jsonl"))
    said = json.loads(orchestrator(home, "audit", "verify", str(home / "ledger.jsonl"), "--json"))
    judged = {one["sentence"]: (one["judged"] > 0, one["violations"]) for one in said["sentences"]}
    assert said["violations"] == 0 and judged[21] == judged[22] == (True, 0)
