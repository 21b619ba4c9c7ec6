"""`make kind-demo` without kind: what it says is missing, and what it asks of kind, the engine, helm and kubectl."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from orchestrator.model.documents.providers import load_providers
from tests.deploy.helm import CHART, ROOT, helm, objects, one
from tests.kubernetes.conftest import an_s3_server

DEMO = ROOT / "deploy" / "kind"
RECORDS = """#!/bin/sh
echo "${0##*/} $*" >> "$RECORD"
case "${0##*/} $*" in
  $FAILS*) echo "no" >&2; exit 1 ;;
  *"get nodes"*) echo node/n1 ;;
  *port-forward*) echo "Forwarding from 127.0.0.1:7380 -> 7380"; exec sleep 60 ;;
esac
"""
PLAY = "import os, sys; print(sys.argv[1], os.environ['ORCHESTRATOR_URL'], len(os.environ['ORCHESTRATOR_TOKEN']))"


def demo(folder: Path, *programs: str, fails: str = "nothing") -> tuple[int, str, list[str]]:
    """(exit code, what it printed, what was asked of the programs), with these on the path and none else."""
    there = folder / "bin"
    there.mkdir()
    for name in programs:
        (there / name).write_text(RECORDS)
        (there / name).chmod(0o755)
    for name in ("sh", "sleep"):
        (there / name).symlink_to(f"/bin/{name}")
    (folder / "play.py").write_text(PLAY)
    record = folder / "record"
    record.touch()
    environment = {**os.environ, "PATH": str(there), "RECORD": str(record), "FAILS": fails}
    command = [sys.executable, str(DEMO / "demo.py"), "--play", str(folder / "play.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr, record.read_text().splitlines()


def test_what_is_missing_is_said_line_by_line_with_the_remedy(tmp_path: Path) -> None:
    code, said, asked = demo(tmp_path)
    assert code == 2 and not asked
    for name in ("kind", "kubectl", "helm"):
        assert f"  {name}: not found; install" in said
    assert "  container engine: none of docker and podman found; install one" in said


def test_an_engine_that_does_not_answer_is_not_there(tmp_path: Path) -> None:
    code, said, asked = demo(tmp_path, "kind", "kubectl", "helm", "docker", fails="docker info")
    assert (code, asked) == (2, ["docker info"])
    assert "docker is installed, but does not answer `docker info`; start it" in said


def test_from_nothing_to_nothing(tmp_path: Path) -> None:
    code, said, asked = demo(tmp_path, "kind", "kubectl", "helm", "docker")
    assert code == 0, said
    steps = [
        "docker info", "kind create cluster --name orchestrator-demo", "docker build --tag localhost/orchestrator:demo",
        "docker save --output", "kind load image-archive", "kubectl --context kind-orchestrator-demo get nodes",
        "kubectl --context kind-orchestrator-demo apply -f", "helm --kube-context kind-orchestrator-demo upgrade",
        "kubectl --context kind-orchestrator-demo port-forward", "kind delete cluster --name orchestrator-demo",
    ]  # fmt: skip
    at = [next(i for i, line in enumerate(asked) if line.startswith(step)) for step in steps]
    assert at == sorted(at), asked
    assert "kind-orchestrator-demo http://127.0.0.1:7380 43" in said


def test_by_podman_all_images_go_into_one_archive(tmp_path: Path) -> None:
    code, said, asked = demo(tmp_path, "kind", "kubectl", "helm", "podman")
    assert code == 0, said
    assert any(line.startswith("podman save --multi-image-archive --output") for line in asked)


def test_a_step_that_fails_is_told_and_leaves_no_cluster(tmp_path: Path) -> None:
    code, said, asked = demo(tmp_path, "kind", "kubectl", "helm", "docker", fails="helm")
    assert code == 1 and "upgrade --install" in said and "ended with 1: no" in said
    assert asked[-1] == "kind delete cluster --name orchestrator-demo"


def test_its_providers_are_understood() -> None:
    operators = load_providers((DEMO / "providers.yaml").read_text())
    assert list(operators.spec.providers) == ["a", "b"]


@pytest.mark.helm
def test_the_chart_takes_its_values() -> None:
    files = ["--set-file", f"providers.document={DEMO / 'providers.yaml'}"]
    files += ["--set-file", f"contracts.document={ROOT / 'examples' / 'kubernetes' / 'contracts.yaml'}"]
    done = helm("template", "orchestrator", str(CHART), "-n", "orchestrator", "-f", str(DEMO / "values.yaml"), *files)
    assert done.returncode == 0, done.stderr
    documents = objects(done.stdout)
    assert one(documents, "Service", "orchestrator")["spec"]["ports"][0]["port"] == 7380
    assert "annotations" not in one(documents, "PersistentVolumeClaim")["metadata"]  # goes with the release
    spaces = {d["metadata"]["namespace"] for d in documents if d["kind"] == "Role"}
    assert {"team-a", "team-b"} <= spaces
    there = {d["metadata"]["name"] for d in yaml.safe_load_all((DEMO / "cluster.yaml").read_text())}
    assert {"checkpoint-store", "store", "team-a", "team-b", "orchestrator"} <= there


@pytest.mark.s3
def test_its_store_has_the_bucket_under_the_name_that_the_server_calls_it_by(tmp_path: Path) -> None:
    """moto finds buckets in the names of hosts, unless it is told otherwise, as the image does."""
    lines = (DEMO / "store.Containerfile").read_text().splitlines()
    told = dict(word.split("=") for line in lines if line.startswith("ENV S3_") for word in line.split()[1:])
    store = load_providers((DEMO / "providers.yaml").read_text()).spec.stores["main"]
    host = store.options["aws_endpoint"].removeprefix("http://")
    with an_s3_server("127.0.0.1", tmp_path / "log", told) as ref:
        listed = httpx.get(f"{ref.options['aws_endpoint']}/runs?list-type=2", headers={"Host": host})
    assert listed.status_code == 200, listed.text
