"""Two controllers of one object would make two jobs of it: Helm, which asks the cluster, refuses the second one."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.deploy.helm import CHART, VALUES
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.helm, pytest.mark.kubernetes, pytest.mark.timeout(180)]


@dataclass
class Releases:
    """Releases of the chart in a cluster, each in a namespace of its own."""

    cluster: Cluster
    space: str

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        command = [os.environ.get("HELM", "helm"), *arguments]
        return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120, check=False)

    def install(self, name: str, served: str, *options: str) -> subprocess.CompletedProcess[str]:
        values = "controller.enabled=true,crds.install=false,tokens.existingSecret=t"
        values += f",controller.namespaces={{{served}}}" if served else ""
        given = ("--namespace", self.space, "--values", str(VALUES / "least.yaml"), "--set", values)
        return self.helm("install", name, str(CHART), *given, *options)


@pytest.fixture
def releases(cluster: Cluster) -> Iterator[Releases]:
    """One is there, and serves team-a and team-b."""
    found = Releases(cluster, f"desk-{secrets.token_hex(3)}")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": found.space}})
    first = f"{found.space}-a,{found.space}-b"
    for name in first.split(","):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    done = found.install("first", first)
    assert done.returncode == 0, done.stderr
    yield found
    found.helm("uninstall", "first", "--namespace", found.space)
    judge = f"{found.space}-first-orchestrator"  # Helm leaves what a test took from it
    cluster.kubectl("delete", "validatingwebhookconfiguration", judge, "--ignore-not-found")
    cluster.kubectl("delete", "namespace", found.space, *first.split(","), "--wait=false")


def test_a_second_controller_of_a_namespace_is_refused(releases: Releases) -> None:
    space = releases.space
    for served in (f"{space}-b,{space}-c", ""):
        done = releases.install("second", served, "--dry-run=server")
        assert done.returncode != 0 and f"release {space}/first" in done.stderr, done.stderr
        assert "give each its own namespaces" in done.stderr
    done = releases.install("second", f"{space}-c", "--dry-run=server")
    assert done.returncode == 0, done.stderr


def test_beside_one_that_serves_all_there_is_no_second(releases: Releases) -> None:
    note = ("annotate", "validatingwebhookconfiguration", f"{releases.space}-first-orchestrator", "--overwrite")
    releases.cluster.kubectl(*note, "orchestrator.dev/namespaces=")
    done = releases.install("second", f"{releases.space}-c", "--dry-run=server")
    assert done.returncode != 0 and "serves all namespaces" in done.stderr, done.stderr
    releases.cluster.kubectl(*note, "meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-")
    done = releases.install("second", f"{releases.space}-c", "--dry-run=server")
    assert done.returncode != 0 and "(made without Helm), which serves all" in done.stderr, done.stderr


def test_it_may_be_upgraded(releases: Releases) -> None:
    space = releases.space
    done = releases.helm("upgrade", "first", str(CHART), "--namespace", space, "--reuse-values", "--dry-run=server")
    assert done.returncode == 0, done.stderr
