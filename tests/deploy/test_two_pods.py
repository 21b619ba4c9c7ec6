"""Two servers of the chart on one PostgreSQL, on a real cluster: the leader's pod is killed while clients submit."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.ledger.sql import reading
from orchestrator.adapters.providers.kubernetes.security import container_context, pod_context
from orchestrator.cli.audit import audit
from orchestrator.model.wire import StoreRef
from orchestrator.ports.ledger import LedgerError
from tests.deploy.deployed import ISOLATION, TOKENS, Deployed, until
from tests.deploy.helm import Doc
from tests.deploy.paper import PaperCloud, paper_cloud
from tests.deploy.test_cluster import RESTRICTED, once, running
from tests.kubernetes.cluster import Cluster
from tests.ledger.postgres import Cluster as Postgres
from tests.ledger.postgres import cluster_at

pytestmark = [pytest.mark.helm, pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.postgresql, pytest.mark.heavy,
              pytest.mark.timeout(900)]  # fmt: skip
HOST = os.environ.get("KUBERNETES_TEST_HOST", "")
KEYS = "database"
TOTAL, RATE = 600, 20.0
SOON_S = 10.0
LEADS = '"event": "this server leads"'


@dataclass
class TwoServers(Deployed):
    """The chart with its ledger in a PostgreSQL of this machine."""

    postgres: Postgres = field(kw_only=True)
    database: str = field(kw_only=True)
    """Its URL."""
    cloud: PaperCloud = field(kw_only=True)
    cloud_port: int = field(kw_only=True)

    def prepare(self) -> None:
        super().prepare()
        meta, keys = {"name": KEYS, "namespace": self.namespace}, {"url": self.database, "paper": self.cloud.token}
        self.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": keys})

    def providers(self) -> Doc:
        found = super().providers()
        found["spec"]["providers"]["here"]["connection"]["runtime"] = "job"  # in seconds, where a Ray head takes many
        found["spec"]["providers"]["paper"] = {
            "adapter": "mock", "connection": {"url": f"http://{HOST}:{self.cloud_port}", "token": "env:PAPER"},
            "regions": {"eu-1": "EU"}, "operatorJurisdiction": "EU", "seal": 4, "accelerators": {"H100": 1},
            "prices": [{"accelerator": "H100", "usdPerGpuHour": 2, "source": "a test", "date": "2026-01-01"}],
        }  # fmt: skip
        found["spec"]["policies"]["patient"] = {"isolation": {**ISOLATION, "check": "1m", "limit": "10m"}}
        return found

    def values(self) -> Doc:
        paper = {"name": "PAPER", "valueFrom": {"secretKeyRef": {"name": KEYS, "key": "paper"}}}
        ports = [443, 6443, self.port_of_store(), self.cloud_port, self.postgres.port]
        return {
            **super().values(), "database": {"existingSecret": KEYS}, "extraEnv": [paper],
            "networkPolicy": {"egressPorts": ports},
        }  # fmt: skip

    def pods(self) -> list[str]:
        """Names of the servers' pods that are not on their way out."""
        found = self.cluster.get("pods", "-n", self.namespace, "-l", "app.kubernetes.io/component=server")["items"]
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def led_at(self, pod: str) -> float:
        """When this pod last began to lead; 0: it never did."""
        said = [line for line in self.kubectl("logs", pod, check=False).splitlines() if LEADS in line]
        return datetime.fromisoformat(json.loads(said[-1])["timestamp"]).timestamp() if said else 0.0

    def clients(self) -> None:
        """A pod that submits to the Service."""
        token = {"secretKeyRef": {"name": TOKENS, "key": "owner"}}
        told = {"HOME": "/tmp", "ORCHESTRATOR_URL": f"http://{self.name}:7380", "TOTAL": str(TOTAL), "RATE": str(RATE)}
        env = [*({"name": n, "value": v} for n, v in told.items()), {"name": "ORCHESTRATOR_TOKEN", "valueFrom": token}]
        container = {
            "name": "clients", "image": os.environ["KUBERNETES_TEST_AGENT_IMAGE"], "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", (Path(__file__).parent / "load.py").read_text()],
            "env": env,
            "securityContext": container_context("restricted"),
        }  # fmt: skip
        spec = {"restartPolicy": "Never", "containers": [container], "securityContext": pod_context("restricted")}
        meta = {"name": "clients", "namespace": self.namespace}
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def accepted(self) -> list[dict[str, Any]]:
        """What the clients were told, once all of them are done."""
        done = ["get", "pod", "clients", "-o", "jsonpath={.status.phase}"]
        phase = until(lambda: (said := self.kubectl(*done)) in ("Succeeded", "Failed") and said, self.why, 240)
        said = self.kubectl("logs", "clients")
        assert phase == "Succeeded", said[-2000:]
        return [json.loads(line) for line in said.splitlines()]

    def submitted(self) -> int:
        """Jobs in the ledger."""
        name = self.database.rpartition("/")[2]
        return int(str(self.postgres.ask(name, "SELECT count(*) FROM events WHERE kind = 'Submitted'")[0][0]))


@pytest.fixture
def desk(cluster: Cluster, store_ref: StoreRef, tmp_path: Path) -> Iterator[TwoServers]:
    """Installed by helm into a namespace of its own; the database ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    with cluster_at(folder, HOST) as (postgres, url), paper_cloud(tmp_path, HOST) as (cloud, port):
        name = f"desk-{secrets.token_hex(3)}"
        made = TwoServers(cluster, name, store_ref, postgres=postgres, database=url, cloud=cloud, cloud_port=port)
        meta = {"name": made.namespace, "labels": RESTRICTED}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        try:
            made.prepare()
            made.install(tmp_path)
            yield made
            made.helm("uninstall", "--wait")
        finally:
            cluster.kubectl("delete", "namespace", made.namespace, "--wait=false")
    shutil.rmtree(folder, ignore_errors=True)


def test_the_leaders_pod_is_killed_under_load(desk: TwoServers) -> None:
    with (
        pytest.raises(LedgerError, match="password authentication failed"),
        reading(desk.database.replace("desk:", "desk:no")),
    ):
        pass
    real = running(desk, 60, accelerator=["gpu"])
    other, leader = sorted(desk.pods(), key=desk.led_at)
    assert desk.cluster.get("pdb", desk.name, "-n", desk.namespace)["status"]["disruptionsAllowed"] == 1

    desk.clients()
    until(lambda: desk.submitted() > TOTAL / 4, desk.why, 120)
    killed_at, before = time.time(), desk.submitted()
    desk.kubectl("delete", "pod", leader, "--grace-period=0", "--force")
    until(lambda: desk.led_at(other) > killed_at, desk.why, 60)
    took = desk.led_at(other) - killed_at
    accepted = desk.accepted()
    slowest = max(one["took"] for one in accepted)
    print(
        f"killed after {before} of {TOTAL} jobs: the other led after {took:.1f} s; the slowest client took {slowest} s"
    )
    assert took < SOON_S
    desk.wait_ready()
    assert len(desk.pods()) == 2, "another pod takes the place of the one that was killed"

    ids = {one["id"] for one in accepted}
    assert len(accepted) == len(ids) == TOTAL, "every submission was granted, each as one job"
    until(lambda: len(desk.cloud.launches()) >= TOTAL, desk.why, 120)
    assert desk.cloud.launches() == Counter(f"{job.lower()}-e1" for job in ids), "each was launched once"
    once(desk, real)
    assert_whole(desk.database, ids | {real})


def assert_whole(url: str, jobs: set[str]) -> None:
    """These jobs are in the ledger, each once, and no sentence is violated."""
    with reading(url) as snapshot:
        assert Counter(event.job for event in snapshot.events() if event.kind == "Submitted") == Counter(jobs)
        report = audit(snapshot)
    assert not report.findings, report.findings[:5]
