"""What is launched, object by object: the promises of a launch, and whole renderings to read."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes import objects
from orchestrator.adapters.providers.kubernetes.connection import Connection, parse_connection
from orchestrator.adapters.providers.kubernetes.objects import Runtime, manifests, pod_sets
from orchestrator.model.wire import AttemptEnv
from orchestrator.ports.provider import Misconfigured
from orchestrator.testing.builders import an_order, some_terms

GOLDEN = Path(__file__).parent / "golden"
LEAST = {"image": "team/environment:1", "agentImage": "orchestrator:1"}
FULL = LEAST | {
    "namespace": "training",
    "storeSecret": "store",
    "serviceAccount": "trainer",
    "accelerators": {"H100": {"nodeSelector": {"cloud.example/gpu": "h100"}}},
    "podTemplate": {
        "metadata": {"labels": {"team": "vision"}, "annotations": {"network": "rdma"}},
        "spec": {
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "imagePullSecrets": [{"name": "registry"}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
            "volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "16Gi"}}],
            "containers": [{"name": "ray", "resources": {"limits": {"rdma/hca": "1"}}}],
        },
    },
}
BIND = {"add": ["NET_BIND_SERVICE"]}
RUNTIMES = pytest.mark.parametrize("runtime", ["kuberay", "job"])
FORMS = pytest.mark.parametrize(("form", "connection"), [("least", LEAST), ("full", FULL | {"queue": "gpus"})])
Doc = dict[str, Any]


def made(runtime: Runtime, connection: Doc = LEAST, **more: Any) -> tuple[Doc, ...]:
    read = parse_connection("b", connection)
    given: Doc = {"workload": None, "token": "a-token"} | more
    return manifests(an_order(memory=32 << 30), read, runtime, "ledger-1", **given)


def pods(main: Doc) -> list[Doc]:
    """Every pod template of a RayJob or Job."""
    cluster = main["spec"].get("rayClusterSpec")
    if cluster is None:
        return [main["spec"]["template"]]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def with_pods(spec: Doc, **more: str) -> Doc:
    return LEAST | {"podTemplate": {"spec": spec}} | more


def containers(main: Doc) -> list[Doc]:
    return [one for pod in pods(main) for one in (*pod["spec"]["containers"], *pod["spec"]["initContainers"])]


def user(main: Doc) -> Doc:
    return next(one for one in containers(main) if one["name"] == "ray")


def variables(main: Doc) -> dict[str, Any]:
    """What the user's container is told: a value, or where it comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in user(main)["env"]}


@RUNTIMES
@FORMS
def test_a_launch_is_rendered_as_it_was_read_over(runtime: Runtime, form: str, connection: Doc) -> None:
    workload = "offer-1" if "queue" in connection else None
    text = objects.as_yaml(made(runtime, connection, workload=workload))
    file = GOLDEN / f"{runtime}-{form}.json"
    assert file.read_text() == text, "read `git diff` after: python -m tests.kubernetes.test_objects"


@RUNTIMES
def test_all_is_named_by_the_key_and_carries_our_labels(runtime: Runtime) -> None:
    main, *others = made(runtime)
    assert main["metadata"]["name"] == f"run-{an_order().key}"
    labels = main["metadata"]["labels"]
    assert labels["orchestrator.dev/ledger"] == "ledger-1" and labels["app.kubernetes.io/managed-by"] == "orchestrator"
    assert all(other["metadata"]["labels"] == labels for other in others)
    assert all(labels.items() <= pod["metadata"]["labels"].items() for pod in pods(main))


@RUNTIMES
def test_nothing_is_ever_tried_again(runtime: Runtime) -> None:
    """A submitter that fails is started again, and user code with it; here nothing is (kuberay#2376, kuberay#2393)."""
    main = made(runtime)[0]
    assert main["spec"]["backoffLimit"] == 0
    assert {pod["spec"]["restartPolicy"] for pod in pods(main)} == {"Never"}


def test_a_job_replaces_no_pod_that_is_being_deleted() -> None:
    assert made("job")[0]["spec"]["podReplacementPolicy"] == "Failed"


def test_a_rayjob_gets_no_second_head() -> None:
    assert made("kuberay")[0]["metadata"]["annotations"] == {"ray.io/disable-provisioned-head-restart": "true"}


@RUNTIMES
def test_leaks_end_by_themselves(runtime: Runtime) -> None:
    spec = made(runtime)[0]["spec"]
    assert spec["activeDeadlineSeconds"] == 3600
    assert "ttlSecondsAfterFinished" in spec


def test_a_rayjob_that_does_not_start_ends() -> None:
    """A RayJob whose machines never come initializes for ever; here it has a deadline (kuberay#4178, kuberay#4945)."""
    spec = made("kuberay")[0]["spec"]
    assert spec["preRunningDeadlineSeconds"] == 600 and spec["shutdownAfterJobFinishes"]


@RUNTIMES
def test_no_credential_of_ours_is_in_a_pod(runtime: Runtime) -> None:
    main = made(runtime, FULL)[0]
    assert {pod["spec"]["automountServiceAccountToken"] for pod in pods(main)} == {False}
    assert user(main)["envFrom"] == [{"secretRef": {"name": "store"}}]


@RUNTIMES
def test_the_agent_is_told_by_an_annotation_of_its_pod(runtime: Runtime) -> None:
    main = made(runtime)[0]
    field = variables(main)["ORCHESTRATOR_ATTEMPT"]["fieldRef"]["fieldPath"]
    said = {pod["metadata"]["annotations"][field.removeprefix("metadata.annotations['")[:-2]] for pod in pods(main)}
    told = AttemptEnv.from_json(said.pop())
    assert not said and told.job == an_order().job and told.nodes == 2


def test_the_token_of_a_job_is_in_a_secret_alone() -> None:
    main, secret, _ = made("job")
    token = variables(main)["RAY_AUTH_TOKEN"]["secretKeyRef"]
    assert token["name"] == secret["metadata"]["name"] and variables(main)["RAY_AUTH_MODE"] == "token"
    assert base64.b64decode(secret["data"][token["key"]]).decode() == "a-token"
    assert "a-token" not in json.dumps(main)


def test_kuberay_draws_the_token_of_a_rayjob_itself() -> None:
    (main,) = made("kuberay")
    assert main["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "a-token" not in json.dumps(main) and "RAY_AUTH_TOKEN" not in variables(main)


@RUNTIMES
def test_pods_are_restricted_unless_the_operator_says_otherwise(runtime: Runtime) -> None:
    for one in containers(made(runtime)[0]):
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for one in containers(made(runtime, LEAST | {"profile": "privileged"})[0]):
        assert one["securityContext"] == {}


@RUNTIMES
def test_the_operators_template_is_merged_by_name(runtime: Runtime) -> None:
    main = made(runtime, FULL)[0]
    assert user(main)["resources"]["limits"].keys() == {"nvidia.com/gpu", "memory", "rdma/hca"}
    for pod in pods(main):
        assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}} in pod["spec"]["volumes"]
        assert pod["spec"]["nodeSelector"] == {"cloud.example/gpu": "h100"}
        assert pod["metadata"]["labels"]["team"] == "vision"


def test_a_template_cannot_take_our_part_away() -> None:
    names = ("PYTHONPATH", "ORCHESTRATOR_ATTEMPT", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "HOME")
    env = [{"name": name, "value": "/x"} for name in names]
    mine = {"restartPolicy": "Always", "containers": [{"name": "ray", "env": env}]}
    main = made("kuberay", LEAST | {"podTemplate": {"spec": mine}})[0]
    assert {pod["spec"]["restartPolicy"] for pod in pods(main)} == {"Never"}
    assert variables(main)["PYTHONPATH"] == "/opt/orchestrator/site"
    assert [name for name, value in variables(main).items() if value == "/x"] == ["HOME"]
    assert len(variables(main)) == len(user(main)["env"]), "each is said once"


def test_a_template_adds_where_variables_come_from() -> None:
    own = {"configMapRef": {"name": "tuning"}}
    mine = {"containers": [{"name": "ray", "envFrom": [own]}]}
    main = made("kuberay", LEAST | {"podTemplate": {"spec": mine}} | {"storeSecret": "store"})[0]
    assert user(main)["envFrom"] == [own, {"secretRef": {"name": "store"}}]


@RUNTIMES
def test_what_the_template_adds_keeps_to_the_profile_too(runtime: Runtime) -> None:
    spec = {
        "containers": [{"name": "logs", "image": "i", "securityContext": {"readOnlyRootFilesystem": True}}],
        "initContainers": [{"name": "data", "image": "i", "securityContext": {"runAsUser": 7, "capabilities": BIND}}],
    }
    asked = {"allowPrivilegeEscalation": False}  # the rest is the pod's
    found = {one["name"]: one["securityContext"] for one in containers(made(runtime, with_pods(spec))[0])}
    assert all(context.items() >= asked.items() for context in found.values())
    assert all(context["capabilities"]["drop"] == ["ALL"] for context in found.values())
    assert found["logs"]["readOnlyRootFilesystem"] and found["data"]["runAsUser"] == 7
    loose = {one["name"]: one for one in containers(made(runtime, with_pods(spec, profile="baseline"))[0])}
    assert loose["logs"]["securityContext"] == {"readOnlyRootFilesystem": True}


@RUNTIMES
def test_what_kueue_reserves_is_container_by_container_what_is_launched(runtime: Runtime) -> None:
    connection: Connection = parse_connection("b", FULL)
    asked = pod_sets(an_order().offer, some_terms(memory=32 << 30), "H100", connection, runtime)
    launched = pods(made(runtime, FULL)[0])
    assert sum(one["count"] for one in asked) == 2
    for one, pod in zip(asked, launched, strict=True):
        for kind in ("containers", "initContainers", "tolerations", "nodeSelector"):
            assert one["template"]["spec"][kind] == pod["spec"][kind]


def test_with_a_queue_nothing_starts_before_kueue_says_so() -> None:
    main = made("kuberay", LEAST | {"queue": "gpus"}, workload="offer-1")[0]
    assert main["spec"]["suspend"] is True
    assert main["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert main["metadata"]["labels"]["kueue.x-k8s.io/prebuilt-workload-name"] == "offer-1"


def test_a_single_worker_is_a_head_alone() -> None:
    connection = parse_connection("b", LEAST)
    main = manifests(an_order(workers=1), connection, "kuberay", "l", workload=None, token="t")[0]
    assert main["spec"]["rayClusterSpec"]["workerGroupSpecs"] == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image": None}, r"connection\.image: Expected `str`"),
        ({"agentImage": 1}, r"connection\.agentImage"),
        ({"nodes": 3}, "unknown field `nodes`"),
        ({"overridable": ["tolerations"]}, "unknown field `overridable`"),
        ({"podTemplate": {"spec": {"hostNetwork": True}}}, "sets hostNetwork, which the profile 'restricted' forbids"),
        ({"podTemplate": {"spec": {"containers": [{"image": "x"}]}}}, "has a name"),
        (
            {
                "podTemplate": {
                    "spec": {"containers": [{"name": "x", "securityContext": {"capabilities": {"drop": ["KILL"]}}}]}
                }
            },
            "container 'x' drops other capabilities than ALL",
        ),
        ({"podTemplate": {"kind": "Pod"}}, "may hold `metadata` and `spec` only"),
        ({"profile": "none"}, "Invalid enum value 'none'"),
    ],
)
def test_a_wrong_connection_is_named_by_its_path(wrong: Doc, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        parse_connection("b", LEAST | wrong)


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "disk", "hostPath": {"path": "/"}}]},
        {"containers": [{"name": "ray", "securityContext": {"privileged": True}}]},
        {"containers": [{"name": "ray", "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}}}]},
        {"containers": [{"name": "ray", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
        {"initContainers": [{"name": "first", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
    ],
)
def test_what_a_baseline_forbids_a_named_profile_allows(spec: Doc) -> None:
    for profile in ("restricted", "baseline"):
        with pytest.raises(Misconfigured, match=f"which the profile '{profile}' forbids"):
            parse_connection("b", LEAST | {"profile": profile, "podTemplate": {"spec": spec}})
    parse_connection("b", LEAST | {"profile": "privileged", "podTemplate": {"spec": spec}})


def rewrite() -> None:
    """Write the golden renderings anew."""
    GOLDEN.mkdir(exist_ok=True)
    for runtime in ("kuberay", "job"):
        for form, connection in (("least", LEAST), ("full", FULL | {"queue": "gpus"})):
            workload = "offer-1" if form == "full" else None
            text = objects.as_yaml(made(runtime, connection, workload=workload))  # type: ignore[arg-type]
            (GOLDEN / f"{runtime}-{form}.json").write_text(text)


if __name__ == "__main__":
    rewrite()
