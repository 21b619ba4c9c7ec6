"""Each overlay grants the server what its own providers file needs, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.rights import rights
from tests.deploy.helm import ROOT, Doc, objects
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


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_it_grants_what_its_providers_need(overlay: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert granted(objects(done.stdout)) == wanted(overlay)
    assert wanted(overlay), "it is about this cluster"
