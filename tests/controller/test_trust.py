"""The chart's own configuration and rights: the controller has its certificate trusted there, and serves its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.controller.trust import Elsewhere, Missing, patch_of
from tests.controller.conftest import CONFIGURATION, UP_S, Controller, Space, until
from tests.deploy.helm import Doc, objects, template
from tests.kubernetes.cluster import Cluster
from tests.served import Served

JUDGE = "ValidatingWebhookConfiguration"
OURS = ("ops", "judge", 443)


def webhook(called: str = "a", bundle: str = "", **service: Any) -> Doc:
    leads = {"namespace": "ops", "name": "judge", "port": 443, **service}
    return {"name": called, "clientConfig": {"service": leads} | ({"caBundle": bundle} if bundle else {})}


def test_only_what_does_not_trust_it_yet_is_written() -> None:
    patch = patch_of([webhook("a", "WA=="), webhook("b", "WQ=="), webhook("c")], OURS, "WQ==")
    assert [(one["op"], one["path"], one["value"]) for one in patch] == [
        ("test", "/webhooks/0/name", "a"), ("add", "/webhooks/0/clientConfig/caBundle", "WQ=="),
        ("test", "/webhooks/2/name", "c"), ("add", "/webhooks/2/clientConfig/caBundle", "WQ=="),
    ]  # fmt: skip
    assert patch_of([webhook(bundle="WQ==")], OURS, "WQ==") == []


@pytest.mark.parametrize("service", [{"namespace": "other"}, {"name": "other"}, {"port": 8443}])
def test_one_that_leads_elsewhere_is_left_alone(service: dict[str, Any]) -> None:
    with pytest.raises(Elsewhere, match="another controller"):
        patch_of([webhook("a"), webhook("b", **service)], OURS, "WQ==")


def test_an_empty_one_is_waited_for() -> None:
    with pytest.raises(Missing):
        patch_of([], OURS, "WQ==")


# ---- with the chart's own rights, on an API server -------------------------------------------------------------------

NAME = "desk-orchestrator-controller"


@dataclass
class Release:
    """The controller's part of a release that serves one namespace; the rights are the chart's."""

    cluster: Cluster
    space: Space
    home: Path
    documents: list[Doc]

    def apply(self, *kinds: str) -> None:
        self.cluster.apply(*[d for d in self.documents if d["kind"] in kinds])

    @property
    def configuration(self) -> str:
        (found,) = [d["metadata"]["name"] for d in self.documents if d["kind"] == JUDGE]
        return str(found)

    def controller(self, *options: str) -> Controller:
        """Launched, as the account of the chart."""
        file = account(self.cluster, self.space.kubectl("create", "token", NAME).strip(), self.home)
        process = Controller(
            Cluster(file, self.cluster.kubectl_program), self.home, options=(f"--namespace={self.space.name}", *options)
        )
        process.launch()
        return process

    def trusting(self) -> Controller:
        return self.controller(f"--webhook-service={self.space.name}/{NAME}", f"--webhook-trust={self.configuration}")

    def bundles(self) -> set[str]:
        webhooks = self.cluster.get(JUDGE.lower(), self.configuration)["webhooks"]
        return {one["clientConfig"].get("caBundle", "") for one in webhooks}

    def log(self) -> str:
        return (self.home / "controller.log").read_text()


def account(cluster: Cluster, token: str, folder: Path) -> Path:
    """A kubeconfig of whoever this token is of."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    (context,) = [c["context"] for c in config["contexts"] if c["name"] == config["current-context"]]
    config["users"] = [{"name": context["user"], "user": {"token": token}}]
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
def release(cluster: Cluster, space: Space, server: Served, home: Path) -> Iterator[Release]:
    """Its account and rights are there; its judge only where a test brings him: nobody reaches his Service here."""
    options = ("--namespace", space.name, "--set", "controller.enabled=true,tokens.existingSecret=t")
    documents = objects(template("least", *options, "--set", f"controller.namespaces={{{space.name}}}"))
    mine = [d for d in documents if d["metadata"].get("labels", {}).get("app.kubernetes.io/part-of")]
    named = [d for d in mine if "controller" in d["metadata"]["name"] or d["kind"] == JUDGE]
    found = Release(cluster, space, home, named)
    cluster.kubectl("delete", JUDGE.lower(), CONFIGURATION, "--ignore-not-found")  # of a controller that has ended
    found.apply("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    yield found
    cluster.kubectl(
        "delete", f"clusterrole,clusterrolebinding,{JUDGE.lower()}", "-l", "app.kubernetes.io/instance=desk"
    )


SLOW = (pytest.mark.kubernetes, pytest.mark.helm, pytest.mark.timeout(120))


def marked(test: Any) -> Any:
    for mark in SLOW:
        test = mark(test)
    return test


@marked
def test_a_release_of_one_namespace_serves_it_with_these_rights(release: Release) -> None:
    controller, space = release.controller("--no-webhook"), release.space
    try:
        space.apply("digits")
        space.reaches("digits", "queued", UP_S)
        until(lambda: space.told("digits"), "it is told as events")
        space.kubectl("delete", "trainingjob", "digits", "--wait=false")
        until(lambda: condition_of(space, "digits"), "its end is asked for")
    finally:
        controller.end()


def condition_of(space: Space, name: str) -> bool:
    return any("cancel" in message.lower() for _, _, message in space.told(name))


@marked
def test_the_api_server_is_told_the_certificate_and_nothing_else(release: Release) -> None:
    release.apply(JUDGE)
    assert release.bundles() == {""}
    controller = release.trusting()
    try:
        until(lambda: release.bundles() != {""}, f"it is told; see {release.home}/controller.log", UP_S)
    finally:
        controller.end()
    (bundle,) = release.bundles()
    assert base64.b64decode(bundle).startswith(b"-----BEGIN CERTIFICATE-----")
    create = ("auth", "can-i", "create", JUDGE.lower(), f"--as=system:serviceaccount:{release.space.name}:{NAME}")
    may = release.cluster.kubectl(*create, check=False)
    assert may.strip() == "no"


@marked
def test_a_configuration_of_somebody_else_ends_the_controller(release: Release) -> None:
    release.apply(JUDGE)
    theirs = [{"op": "replace", "path": "/webhooks/1/clientConfig/service/name", "value": "other"}]
    release.cluster.kubectl("patch", JUDGE.lower(), release.configuration, "--type=json", "-p", json.dumps(theirs))
    process = release.trusting().process
    assert process is not None and process.wait(UP_S) == 1
    assert "another controller serves these objects" in release.log()
    assert release.bundles() == {""}
