"""`kubectl apply -k` on a real cluster: the server, its controller, a job that is an object; Prometheus scrapes it."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.wire import StoreRef
from tests.deploy.deployed import Deployed, image, until
from tests.deploy.helm import ROOT, Doc
from tests.deploy.prometheus import prometheus_of
from tests.deploy.test_cluster import work
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.heavy, pytest.mark.timeout(900)]
CONTRACTS = ROOT / "deploy" / "overlays" / "kind" / "contracts.yaml"
JUDGE = "validatingwebhookconfiguration/orchestrator.dev"


def overlay(desk: Deployed, folder: Path) -> Path:
    """One of the user's own: the overlay for kind, with another namespace, image and provider, and the controller."""
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("site", "*.py"))
    here = folder / "deploy" / "overlays" / "here"
    here.mkdir()
    (here / "providers.yaml").write_text(json.dumps(desk.providers()))
    shutil.copyfile(CONTRACTS, here / "contracts.yaml")
    name, tag = image()
    files = {"name": "orchestrator-documents", "behavior": "replace", "files": ["providers.yaml", "contracts.yaml"]}
    port = [{"op": "add", "path": "/spec/egress/1/ports/-", "value": {"port": desk.port_of_store(), "protocol": "TCP"}}]
    patches = [{"target": {"kind": "NetworkPolicy", "name": "orchestrator"}, "patch": json.dumps(port)}]
    if not desk.makes_volumes():
        claim = [{"op": "add", "path": "/spec/storageClassName", "value": ""}]
        patches.append({"target": {"kind": "PersistentVolumeClaim"}, "patch": json.dumps(claim)})
    (here / "kustomization.yaml").write_text(json.dumps({
        "namespace": desk.namespace, "resources": ["../kind"], "components": ["../../components/controller"],
        "images": [{"name": "orchestrator", "newName": name, "newTag": tag}],
        "configMapGenerator": [files], "patches": patches,
    }))  # fmt: skip
    return here


@pytest.fixture(scope="module")
def desk(cluster: Cluster, store_ref: StoreRef, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    made = Deployed(cluster, f"keel-{secrets.token_hex(3)}", store_ref)
    here = overlay(made, tmp_path_factory.mktemp("keel"))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}})
    try:
        made.prepare()
        with made.volume():
            cluster.kubectl("apply", "-k", str(here))
            yield made
    finally:
        made.kubectl("delete", "trainingjobs", "--all", "--timeout=60s", check=False)  # while there is who lets them go
        cluster.kubectl("delete", JUDGE, "--ignore-not-found")
        cluster.kubectl("delete", "-k", str(here), "--ignore-not-found", "--wait=false", check=False)


def training_job(desk: Deployed, name: str) -> Doc:
    spec = {"run": {"command": work(3)}, "workers": {"count": 1, "gpus": 1, "cpus": 1}}
    meta = {"name": name, "namespace": desk.namespace}
    return {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "TrainingJob", "metadata": meta, "spec": spec}


def test_both_come_up_under_the_restricted_profile(desk: Deployed) -> None:
    labels = desk.cluster.get("namespace", desk.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    desk.wait_ready()
    said = desk.kubectl("rollout", "status", "deployment/orchestrator-controller", "--timeout=110s", check=False)
    assert "successfully rolled out" in said, desk.kubectl("logs", "deployment/orchestrator-controller", check=False)


def test_a_job_that_is_an_object_goes_through(desk: Deployed) -> None:
    until(lambda: desk.cluster.kubectl("get", JUDGE, check=False), desk.why, 60)
    desk.cluster.apply(training_job(desk, "digits"))

    def state() -> str:
        return desk.kubectl("get", "trainingjob", "digits", "-o", "jsonpath={.status.state}", check=False)

    def why() -> str:
        return desk.kubectl("describe", "trainingjob", "digits", check=False) + desk.why()

    assert until(lambda: state() if state() in ("succeeded", "failed", "held") else "", why, 240) == "succeeded", why()


def test_a_bad_one_does_not_come_in(desk: Deployed) -> None:
    bad = training_job(desk, "bad")
    bad["spec"]["run"]["package"] = {"dir": "."}
    with pytest.raises(AssertionError, match="orchestrator pack"):
        desk.cluster.apply(bad)


@pytest.mark.promtool
def test_prometheus_scrapes_what_was_deployed(desk: Deployed, tmp_path: Path) -> None:
    with (
        desk.client("viewer") as client,
        prometheus_of(client.url.removeprefix("http://"), desk.tokens["viewer"], tmp_path) as prometheus,
    ):
        up = until(lambda: prometheus.query('orchestrator_provider_up{provider="here"} == 1'), desk.why, 60)
        assert len(up) == 1
        unread = until(lambda: prometheus.query("orchestrator_store_unread_seconds"), desk.why, 60)
        assert {one["metric"]["store"] for one in unread} == {"main"}
        until(lambda: not prometheus.firing(), lambda: str(prometheus.firing()), 30)  # not before its first scrape
