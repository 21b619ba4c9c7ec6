"""Each overlay grants the server what its own providers file needs, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.rights import rights
from tests.deploy.helm import ROOT, Doc, objects, one
from tests.deploy.test_rights import Grant, granted, needed

pytestmark = pytest.mark.kubernetes  # for its kubectl; no cluster is asked
OVERLAYS = sorted(path.parent for path in (ROOT / "deploy" / "overlays").glob("*/kustomization.yaml"))


def connections(overlay: Path) -> list[Connection]:
    providers: Doc = yaml.safe_load((overlay / "providers.yaml").read_text())["spec"]["providers"]
    here = [one["connection"] for one in providers.values() if one["adapter"] == "kubernetes"]
    return [msgspec.convert(one, Connection) for one in here if "kubeconfig" not in one]


def wanted(overlay: Path) -> set[Grant]:
    every = (rights(one, ray=ray) for one in connections(overlay) for ray in (True, False))
    return set().union(*map(needed, every))


def rendered(overlay: Path) -> list[Doc]:
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_it_grants_what_its_providers_need(overlay: Path) -> None:
    assert granted(rendered(overlay)) == wanted(overlay)
    assert wanted(overlay), "it is about this cluster"


def test_production_has_two_servers_on_a_postgresql() -> None:
    found = rendered(ROOT / "deploy" / "overlays" / "production")
    server = one(found, "Deployment", "orchestrator")["spec"]
    assert server["replicas"] == 2
    assert one(found, "PodDisruptionBudget")["spec"]["selector"] == server["selector"]
    [url] = [e for e in server["template"]["spec"]["containers"][0]["env"] if e["name"] == "ORCHESTRATOR_DATABASE_URL"]
    assert url["valueFrom"]["secretKeyRef"]["name"] == "orchestrator-database"
    assert not [d for d in found if d["kind"] == "PersistentVolumeClaim"], "no volume holds them together"
