"""What does not come in: refused by the schema, by its rules, or by the documents themselves, with path and reason."""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.controller.admission import Endpoint, Judge, own_certificate
from orchestrator.controller.crds import files
from orchestrator.rayhead.plan import free_ports
from tests.controller.conftest import ROOT, UP_S, Controller, Space, training_job, until
from tests.kubernetes.cluster import Cluster, Doc
from tests.served import Served


def test_the_files_are_what_the_documents_say() -> None:
    for name, text in files():
        assert (ROOT / "deploy" / "crds" / name).read_text() == text, f"{name} is old: run `make crds`"


def test_a_certificate_of_our_own_is_its_own_authority(tmp_path: Path) -> None:
    certificate, key = own_certificate(["judge.ops.svc", "127.0.0.1"], datetime(2026, 1, 1, tzinfo=UTC))
    (tmp_path / "c").write_bytes(certificate)
    (tmp_path / "k").write_bytes(key)
    ssl.create_default_context(cadata=certificate.decode()).load_cert_chain(tmp_path / "c", tmp_path / "k")


RULED = [
    ({"run": {"command": ["a"], "function": "b:c"}}, "spec.run", "exactly one of command and function"),
    ({"run": {}}, "spec.run", "exactly one of command and function"),
    ({"run": {"command": ["a"], "package": {}}}, "spec.run.package", "exactly one of dir, digest and git"),
    ({"run": {"command": ["a"], "package": {"dir": "."}}}, "spec.run.package", "orchestrator pack"),
    ({"run": {"command": ["a"], "package": {"git": "u"}}}, "spec.run.package", "git and commit belong together"),
    ({"workers": {"accelerator": ["H100"]}}, "spec.workers", "no GPU"),
    ({"workers": {"gpus": 200}}, "spec.workers.gpus", "less than or equal to 128"),
    ({"maxRuntime": "2 hours"}, "spec.maxRuntime", "should match"),
    ({"run": {"command": ["a"], "package": {"digest": "latest"}}}, "spec.run.package.digest", "should match"),
]


@pytest.mark.parametrize(("spec", "path", "why"), RULED)
@pytest.mark.kubernetes
def test_the_schema_alone_refuses(cluster: Cluster, space: Space, spec: Doc, path: str, why: str) -> None:
    said = space.refused(training_job("bad", {}, spec))
    assert path in said and why in said


JUDGED = [
    ({"maxRuntme": "2h"}, "spec.maxRuntme", "unknown field"),
    ({"retries": 2}, "spec.retries", "not honoured by this version"),
    ({"startBy": "0s"}, "spec.startBy", "greater than 0"),
    ({"workers": {"count": {"min": 4, "max": 1}}}, "spec.workers.count", "max is below min"),
    ({"workers": {"count": 0}}, "spec.workers.count", "greater than or equal to 1"),
    ({"run": {"command": [" "]}}, "spec.run", "first word, is empty"),
    ({"run": {"command": ["a"], "environment": {"ORCHESTRATOR_X": "1"}}}, "spec.run", "is set by us"),
    ({"run": {"command": ["a"], "requirements": ["=="]}}, "spec.run.requirements[0]", "is no requirement"),
]


@pytest.mark.parametrize(("spec", "path", "why"), JUDGED)
@pytest.mark.kubernetes
@pytest.mark.timeout(120)
def test_the_documents_refuse(
    space: Space, server: Served, controller: Controller, spec: Doc, path: str, why: str
) -> None:
    said = space.refused(training_job("bad", {}, spec))
    assert path in said and why in said


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
def test_labels_are_judged_as_the_documents_do(space: Space, server: Served, controller: Controller) -> None:
    said = space.refused(
        training_job("bad", {"a.very.long.prefix.of.some.company.example/and-a-name-for-a-label": "x"}, {})
    )
    assert "metadata.labels" in said


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
def test_a_submitted_job_is_not_changed(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    space.reaches("digits", "queued")
    assert "cannot be changed" in space.refused(training_job("digits", {}, {"priority": 5}))
    space.kubectl("label", "trainingjob", "digits", "late=yes")


FIRST = {"id": "rofr", "type": "first_right", "window": "15m"}
TERM = {"from": "2025-01-01", "to": "2026-12-31"}


def contract_set(*clauses: Doc, holder: str | None = "azure", **spec: Any) -> Doc:
    contract = {"id": "msft", "holder": holder, "term": TERM, "clauses": list(clauses)}
    whole = {"contracts": [contract], **spec}
    return {
        "apiVersion": "orchestrator.dev/v1alpha1",
        "kind": "ContractSet",
        "metadata": {"name": "test"},
        "spec": whole,
    }


WRONG = [
    (contract_set({"id": "x", "type": "first_right"}), "clauses[0]", "first_right needs window"),
    (contract_set(FIRST | {"outageAfter": "4h"}), "clauses[0]", "outageAfter belongs to exclusive only"),
    (contract_set({"id": "x", "type": "last_look"}), "clauses[0].type", "Unsupported value"),
    (contract_set(FIRST, FIRST), "spec.contracts[0].clauses[1].id", "twice"),
    (contract_set(FIRST | {"minWindow": "1h"}), "clauses[0].window", "shorter than minWindow"),
    (contract_set(FIRST, holder=None), "clauses[0]", "nobody holds it"),
    (contract_set({"id": "api", "type": "precedence"}), "clauses[0]", "not enforced by this version"),
]


@pytest.mark.parametrize(("document", "path", "why"), WRONG)
@pytest.mark.kubernetes
@pytest.mark.timeout(120)
def test_a_bad_contract_does_not_come_in(
    space: Space, server: Served, controller: Controller, document: Doc, path: str, why: str
) -> None:
    said = space.refused(json.loads(json.dumps(document)))
    assert path in said and why in said


async def test_a_service_before_it_is_what_the_cluster_is_told(tmp_path: Path) -> None:
    certificate, key = own_certificate(["judge.ops.svc"], datetime.now(UTC))
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    files = {"certificate": tmp_path / "tls.crt", "key": tmp_path / "tls.key"}
    judge = Judge(Endpoint(address="127.0.0.1", port=free_ports(1)[0], service=("ops", "judge", 443), **files))
    told = judge(nobody)
    config = await anext(told)
    await told.aclose()
    assert config["service"] == {"namespace": "ops", "name": "judge", "port": 443}
    assert base64.b64decode(config["caBundle"]) == certificate


@pytest.mark.kubernetes
@pytest.mark.timeout(120)
def test_the_api_server_takes_a_judge_behind_a_service(cluster: Cluster, server: Served, home: Path) -> None:
    name = "orchestrator-tests-service"
    behind = Controller(cluster, home, options=("--webhook-service=ops/judge", f"--webhook-configuration={name}"))
    try:
        behind.launch()
        paths = until(lambda: behind.service_paths(name), f"it is entered; see {home}/controller.log", UP_S)
    finally:
        behind.end()
        cluster.kubectl("delete", "validatingwebhookconfiguration", name, "--ignore-not-found")
    assert sorted(paths) == ["/contractsets.admission", "/trainingjobs.admission"]


async def nobody(*_: Any, **__: Any) -> Any:
    """Judges nothing."""
