"""The Prometheus operator's two kinds come with what we deploy where the API server knows them, and nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.helm import CHART, ROOT, VALUES
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.kinds import definition, forget, introduce

pytestmark = [pytest.mark.helm, pytest.mark.kubernetes, pytest.mark.timeout(120)]
THEIRS = ("ServiceMonitor", "PrometheusRule")
NONE = "monitoring.serviceMonitor.enabled=false,monitoring.prometheusRule.enabled=false"
DEPLOY = ROOT / "deploy"


@dataclass
class Desk:
    """The chart, and where it is installed."""

    cluster: Cluster
    namespace: str

    def helm(self, verb: str, *arguments: str) -> str:
        command = [os.environ.get("HELM", "helm"), verb, "desk", *arguments, "--namespace", self.namespace]
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def upgrade(self, *options: str) -> str:
        return self.helm("upgrade", str(CHART), "--reuse-values", *options)

    def theirs(self) -> list[tuple[str, str]]:
        """(kind, name) of what there is of the two."""
        found = self.cluster.get("servicemonitors,prometheusrules", "-n", self.namespace)["items"]
        return [(one["kind"], one["metadata"]["name"]) for one in found]


@contextmanager
def prometheus(cluster: Cluster) -> Iterator[None]:
    """Its operator's kinds are there."""
    kinds = [definition("monitoring.coreos.com", kind, "v1") for kind in THEIRS]
    introduce(cluster, *kinds)
    try:
        yield
    finally:
        forget(cluster, *kinds)


@pytest.fixture
def desk(cluster: Cluster, namespace: str) -> Iterator[Desk]:
    """Installed where nobody knows the kinds."""
    made = Desk(cluster, namespace)
    given = ("--values", str(VALUES / "least.yaml"), "--set", "tokens.existingSecret=orchestrator-tokens")
    assert "this cluster knows no ServiceMonitor" in made.helm("install", str(CHART), *given)
    yield made
    made.helm("uninstall")


def test_the_chart_brings_them_once_they_are_known(cluster: Cluster, desk: Desk) -> None:
    with prometheus(cluster):
        assert desk.theirs() == []
        assert "knows no ServiceMonitor" not in desk.upgrade()
        assert desk.theirs() == [(kind, "desk-orchestrator") for kind in THEIRS]
        monitor = cluster.get("servicemonitor", "desk-orchestrator", "-n", desk.namespace)["spec"]
        labels = ",".join("=".join(label) for label in monitor["selector"]["matchLabels"].items())
        (service,) = cluster.get("services", "-n", desk.namespace, "-l", labels)["items"]
        assert [end["port"] for end in monitor["endpoints"]] == [port["name"] for port in service["spec"]["ports"]]
        desk.upgrade("--set", NONE)  # before the kinds go: Helm forgets no object of a kind that is not known
        assert desk.theirs() == []
    desk.upgrade()


def test_the_component_wants_them(cluster: Cluster, tmp_path: Path) -> None:
    cluster.kubectl("apply", "-f", str(DEPLOY / "base" / "namespace.yaml"))
    apply = ["apply", "-k", str(DEPLOY / "overlays" / "production"), f"--cache-dir={tmp_path}"]
    apply += ["--dry-run=server", "--validate=strict", "--warnings-as-errors"]
    with pytest.raises(AssertionError) as refused:
        cluster.kubectl(*apply)
    assert set(re.findall(r'no matches for kind "(\w+)"', str(refused.value))) == set(THEIRS)
    with prometheus(cluster):
        cluster.kubectl(*apply)
