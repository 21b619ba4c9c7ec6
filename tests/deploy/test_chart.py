"""The chart renders what it should, refuses what it must, and every pod keeps to the restricted profile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orchestrator.adapters.providers.kubernetes.security import violations
from orchestrator.settings import load
from tests.deploy.helm import CHART, GOLDEN, ROOT, VALUES, Doc, helm, objects, one, pods, template

pytestmark = pytest.mark.helm
NAMES = sorted(path.stem for path in VALUES.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_helm_has_nothing_to_say(name: str) -> None:
    said = helm("lint", "--strict", str(CHART), "--values", str(VALUES / f"{name}.yaml"))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "[WARNING]" not in said.stdout


@pytest.mark.parametrize("name", NAMES)
def test_renders_are_as_they_were_read_over(name: str) -> None:
    """UPDATE_GOLDEN=1 writes them anew. Dashboard and CRDs are files of their own, and are read over there."""
    text, file = (
        template(name, "--set", "monitoring.dashboard.enabled=false,crds.install=false"),
        GOLDEN / f"{name}.yaml",
    )
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_the_plain_manifests_are_what_the_chart_says() -> None:
    command = [sys.executable, str(ROOT / "deploy" / "render.py"), "--check"]
    said = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_is_restricted_and_writes_nowhere_else(name: str) -> None:
    for pod in pods(objects(template(name))):
        assert violations(pod, "restricted") == []
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", NAMES)
def test_the_server_s_settings_are_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (server,) = one(objects(template(name)), "Deployment", "gpu-desk" if name == "whole" else "desk-orchestrator")[
        "spec"]["template"]["spec"]["containers"]  # fmt: skip
    for variable in server["env"]:
        if variable["name"].startswith("ORCHESTRATOR_") and "value" in variable:
            monkeypatch.setenv(variable["name"], variable["value"].replace("$(POD_IP)", "10.1.2.3"))
    settings = load()
    assert settings.host == "0.0.0.0" and settings.port == 7380 and "10.1.2.3" in settings.allowed_hosts
    assert settings.folder.parts[:4] == ("/", "var", "lib", "orchestrator")


def test_numbers_of_a_values_file_stay_whole(tmp_path: Path) -> None:
    """Helm reads them as floats, and prints a million as 1e+06: a limit of bytes would become one of exabytes."""
    numbers = {"settings": {"JOB_LIMIT": 1048576, "POLICY__MAX_ATTEMPTS": 10}, "terminationGracePeriodSeconds": 1209600}
    (tmp_path / "numbers.yaml").write_text(yaml.safe_dump(numbers))
    (pod,) = (p for p in pods(objects(template("least", "-f", str(tmp_path / "numbers.yaml")))) if "volumes" in p)
    given = {v["name"]: v.get("value") for v in pod["containers"][0]["env"]}
    assert (given["ORCHESTRATOR_JOB_LIMIT"], given["ORCHESTRATOR_POLICY__MAX_ATTEMPTS"]) == ("1048576", "10")
    assert repr(pod["terminationGracePeriodSeconds"]) == "1209600"


def test_each_document_of_the_values_reaches_the_server_and_a_change_of_it_restarts_it() -> None:
    """They are read at the start."""
    seen = []
    for text in ("kind: Capacity", "kind: Capacity # of next year"):
        values = f"contracts.document=kind: ContractSet,capacity.document={text}"
        documents = objects(template("least", "--set", values))
        kept = one(documents, "ConfigMap", "desk-orchestrator-documents")["data"]
        assert kept["contracts.yaml"].strip() == "kind: ContractSet" and kept["capacity.yaml"].strip() == text
        pod = one(documents, "Deployment")["spec"]["template"]
        given = {v["name"]: v.get("value", "") for v in pod["spec"]["containers"][0]["env"]}
        named = [given[f"ORCHESTRATOR_{part}"] for part in ("PROVIDERS", "CONTRACTS", "CAPACITY")]
        assert {path.rpartition("/")[2] for path in named} == set(kept)
        seen.append(pod["metadata"]["annotations"]["orchestrator.dev/documents"])
    assert seen[0] != seen[1]


@pytest.mark.parametrize(("given", "kept"), [({}, "keep"), ({"helm.sh/resource-policy": None}, None)])
def test_an_uninstall_leaves_the_ledger_unless_a_null_says_otherwise(tmp_path: Path, given: Doc, kept: object) -> None:
    """Helm merges maps: an empty one clears no default."""
    (tmp_path / "notes.yaml").write_text(yaml.safe_dump({"persistence": {"annotations": given}}))
    claim = one(objects(template("least", "-f", str(tmp_path / "notes.yaml"))), "PersistentVolumeClaim")
    assert claim["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == kept


@pytest.mark.parametrize("name", NAMES)
def test_no_service_becomes_a_setting(name: str) -> None:
    """A Service called orchestrator would set ORCHESTRATOR_PORT to an address."""
    assert all(pod["enableServiceLinks"] is False for pod in pods(objects(template(name))))


@pytest.mark.parametrize("name", NAMES)
def test_each_right_is_named_and_has_its_reason(name: str) -> None:
    text = template(name)
    for role in (d for d in objects(text) if d["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])
    verbs = [
        line
        for line in text.splitlines()
        if re.match(r"\s+- (get|list|watch|create|patch|delete|deletecollection)\b", line)
    ]
    assert [line for line in verbs if "#" not in line] == []
    assert not re.search(r"verbs: \[", text)


@pytest.mark.parametrize("name", ["whole", "shared"])
def test_the_controller_may_make_no_webhook_configuration(name: str) -> None:
    rules = [rule for role in objects(template(name)) if "Role" in role["kind"] for rule in role.get("rules", [])]
    found = [rule for rule in rules if "admissionregistration.k8s.io" in rule["apiGroups"]]
    wanted = [(["orchestrator.dev"], ["get", "patch"])] if name == "whole" else []
    assert [(rule["resourceNames"], rule["verbs"]) for rule in found] == wanted


def test_a_controller_of_some_namespaces_has_no_rights_in_others() -> None:
    (role,) = [
        d
        for d in objects(template("shared"))
        if d["metadata"]["name"] == "ops-desk-orchestrator-controller" and d["kind"] == "ClusterRole"
    ]
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {
        "contractsets",
        "contractsets/status",
    }
    roles = [
        d
        for d in objects(template("shared"))
        if d["kind"] == "Role" and d["metadata"]["name"] == "orchestrator-controller"
    ]
    assert [d["metadata"]["namespace"] for d in roles] == ["team-a", "team-b"]


def test_jobs_run_elsewhere_without_rights_here() -> None:
    documents = objects(template("elsewhere"))
    assert not [d for d in documents if "Role" in d["kind"]]
    assert one(documents, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_with_postgresql_there_are_two_servers_and_a_drain_takes_one_at_a_time() -> None:
    documents = objects(template("two"))
    server = one(documents, "Deployment")["spec"]
    variables = {v["name"]: v for v in server["template"]["spec"]["containers"][0]["env"]}
    assert server["replicas"] == 2 and server["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert variables["ORCHESTRATOR_DATABASE_URL"] == {
        "name": "ORCHESTRATOR_DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}
    }  # fmt: skip
    budget = one(documents, "PodDisruptionBudget")["spec"]
    assert (budget["minAvailable"], budget["selector"]) == (1, server["selector"])
    assert not [d for d in documents if d["kind"] == "PersistentVolumeClaim"]
    assert not [d for d in objects(template("least")) if d["kind"] == "PodDisruptionBudget"]


def test_prometheus_kinds_come_only_where_the_cluster_knows_them() -> None:
    kinds = {d["kind"] for d in objects(helm("template", "x", str(CHART), "-f", str(VALUES / "whole.yaml")).stdout)}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    assert {d["kind"] for d in objects(template("whole"))} >= {"ServiceMonitor", "PrometheusRule"}


def test_the_rules_and_the_dashboard_are_those_of_the_repository() -> None:
    documents = objects(template("whole"))
    shown = json.loads(one(documents, "ConfigMap", "gpu-desk-dashboard")["data"]["orchestrator.json"])
    assert shown == json.loads((ROOT / "deploy" / "monitoring" / "dashboard.json").read_text())
    rules = one(documents, "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert "{{ $labels.provider }}" in rules[1]["annotations"]["summary"]


@pytest.mark.parametrize(("options", "said"), [
    (["database.url=postgresql://db/ledger"], "Put the URL into a Secret"),
    (["database.existingSecret=db"], "two servers need the same tokens"),
    (["database.existingSecret=db", "database.url=sqlite:///l.db", "tokens.existingSecret=t"], "Give one of them"),
    (["providers.document="], "the server needs a providers file"),
    (["providers.existingConfigMap=a"], "Give either providers.document"),
    (["contracts.existingSecret=a", "contracts.existingConfigMap=b"], "more than one contract set"),
    (["contracts.document=a", "contracts.key=providers.yaml"], "name files of one folder"),
    (["capacity.document=a", "capacity.key=providers.yaml"], "name files of one folder"),
    (["capacity.document=a", "capacity.existingConfigMap=b"], "capacity: it is given twice"),
    (["controller.enabled=true"], "needs a token of the server"),
    (["controller.enabled=true", "tokens.existingSecret=t", "controller.webhook.certificateSecret=judge"],
     "nobody says by what the webhook's certificate is judged"),
    (["store.secretSettings.key=id"], "store.existingSecret names none"),
    (["settings.PORT=80"], "at '/settings': additional properties 'PORT'"),
    (["settings.POLICY__CHEK=5"], "at '/settings': additional properties 'POLICY__CHEK'"),
    (["settings.LOG_LEVEL=loud"], "at '/settings/LOG_LEVEL'"),
    (["settings.LOG_FORMAT=xml"], "at '/settings/LOG_FORMAT'"),
    (["settings.POLICY__CHECK=5"], "at '/settings/POLICY__CHECK'"),
    (["settings.POLICY__MAX_ATTEMPTS=0"], "at '/settings/POLICY__MAX_ATTEMPTS'"),
    (["resources.request.cpu=1"], "at '/resources': additional properties 'request'"),
    (["controller.resources.limits.memory=lots"], "at '/controller/resources/limits/memory'"),
    (["resources.limits.memroy=1Gi"], "at '/resources/limits'"),
    (["resources.limits.cpu=-1"], "at '/resources/limits/cpu'"),
    (["store.url=http://foo"], "at '/store/url'"),
    (["persistence.enabled=false", "persistence.existingClaim=a"], "or existingClaim empty"),
    (["kubernetes.rayJobs=false", "kubernetes.jobs=false"], "Switch one of them on"),
    (["replicas=2"], "replicas"), (["persistence.size=big"], "size"), (["image.digest=latest"], "digest"),
    (["podSecurityContext.runAsNonRoot=false"], "runAsNonRoot"),
    (["persistence.accessModes={ReadWriteMany}"], "accessModes"),
    (["fullnameOverride=a.b"], "fullnameOverride"), (["nameOverride=a.b"], "nameOverride"),
    ([f"fullnameOverride={'a' * 51}"], "fullnameOverride"), (["fullnameOverride=1st"], "is no name of a Service"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(options: list[str], said: str) -> None:
    given = [part for option in options for part in ("--set", option)]
    done = helm("template", "x", str(CHART), "--values", str(VALUES / "least.yaml"), *given)
    assert done.returncode != 0 and said in done.stderr


def test_a_release_whose_name_makes_no_service_is_refused() -> None:
    done = helm("template", "a.b", str(CHART), "--values", str(VALUES / "least.yaml"))
    assert done.returncode != 0 and "Give one in fullnameOverride" in done.stderr


def test_the_schema_and_the_values_know_the_same_fields() -> None:
    """What the schema does not know is refused, what the values do not show is found by nobody."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text()) | {"global": {}}  # Helm's own
    assert list(differing(schema, schema, values, "")) == []
    odd = {**values, "odd": 1, "crds": {}}
    assert list(differing(schema, schema, odd, "")) == [".crds.install: not in the values", ".odd: not in the schema"]


def differing(schema: Doc, part: Doc, value: object, path: str) -> Iterator[str]:
    """Where a part of the schema and a part of the values differ in their fields."""
    part = schema["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    fields = part.get("properties")
    if not isinstance(value, dict) or fields is None:
        return
    free = part.get("additionalProperties", True)
    if not path.endswith("Context"):  # Kubernetes' own
        yield from (f"{path}.{name}: not in the values" for name in fields.keys() - value.keys())
        yield from (f"{path}: anything goes" for _ in "." if free is not False)
    for name, child in value.items():
        if name in fields:
            yield from differing(schema, fields[name], child, f"{path}.{name}")
        elif free is False:
            yield f"{path}.{name}: not in the schema"
