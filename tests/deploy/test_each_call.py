"""Each verb that the chart grants is a call that the API server forbids without it, by its name, and not with it.

The server's rights with everything switched on, and its controller's, whichever namespaces it serves. The calls are as
small as they can be: what they ask for is not there, so that only whether they are allowed is answered.
"""

from __future__ import annotations

import json
import ssl
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.deploy.helm import Doc, objects, template
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.helm, pytest.mark.kubernetes, pytest.mark.timeout(120)]
SPACE = "desk-calls"
EVERYTHING = "kubernetes.kueue=true,kubernetes.access=true,controller.enabled=true,tokens.existingSecret=t"
SETUPS = {
    "server": ("desk-orchestrator", EVERYTHING),
    "controller": ("desk-orchestrator-controller", EVERYTHING),
    "controller-here": ("desk-orchestrator-controller", f"{EVERYTHING},controller.namespaces={{{SPACE}}}"),
}
VERSIONS = {"orchestrator.dev": "v1alpha1", "kueue.x-k8s.io": "v1beta1"}
METHODS = {"create": "POST", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}
PATCH = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True)
class Call:
    """One verb of one resource."""

    verb: str
    group: str
    resource: str
    space: str
    name: str

    def request(self, http: httpx.Client) -> httpx.Request:
        root = f"/apis/{self.group}/{VERSIONS.get(self.group, 'v1')}" if self.group else "/api/v1"
        root += f"/namespaces/{self.space}" if self.space else ""
        plural, _, sub = self.resource.partition("/")
        of_one = bool(sub) or self.verb in ("get", "patch", "delete")
        path = f"{root}/{plural}" + (f"/{self.name}" if of_one else "") + (f"/{sub}" if sub else "")
        params = {"dryRun": "All"} if self.verb in METHODS and not sub else {}
        params |= {"watch": "true", "timeoutSeconds": "1"} if self.verb == "watch" else {}
        params |= {"labelSelector": "none=none"} if self.verb == "deletecollection" else {}
        given = (
            {"json": {}, "headers": PATCH} if self.verb == "patch" else {"json": {}} if self.verb == "create" else {}
        )
        return http.build_request(METHODS.get(self.verb, "GET"), path, params=params, **given)

    def forbidden(self, http: httpx.Client) -> str:
        """How the API server forbids it; empty: it does not."""
        reply = http.send(self.request(http))
        return str(reply.json()["message"]) if reply.status_code == 403 else ""


def calls(roles: list[Doc]) -> list[Call]:
    return [
        Call(verb, group, resource, role["metadata"].get("namespace", ""), rule.get("resourceNames", ["nobody"])[0])
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.fixture
def space(cluster: Cluster) -> Iterator[str]:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
    yield SPACE
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/instance=desk")
    cluster.kubectl("delete", "role,rolebinding,serviceaccount", "-n", SPACE, "-l", "app.kubernetes.io/instance=desk")


def account(cluster: Cluster, name: str) -> httpx.Client:
    """A client of the API server as this account."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))
    (server,) = [one["cluster"] for one in config["clusters"]]
    authority = b64decode(server.get("certificate-authority-data", "")).decode()
    context = ssl.create_default_context(cadata=authority or None)
    if server.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    token = cluster.kubectl("create", "token", name, "-n", SPACE).strip()
    return httpx.Client(base_url=server["server"], verify=context, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("setup", SETUPS)
def test_each_call_is_forbidden_without_its_right(cluster: Cluster, space: str, setup: str) -> None:
    name, values = SETUPS[setup]
    documents = [d for d in objects(template("least", "--namespace", space, "--set", values)) if whose(d) == name]
    cluster.apply(*[d for d in documents if d["kind"] == "ServiceAccount"])
    wanted = calls([d for d in documents if d["kind"] in ("Role", "ClusterRole")])
    assert len(wanted) > 10
    with account(cluster, name) as http:
        for call in wanted:
            assert f'cannot {call.verb} resource "{call.resource}"' in call.forbidden(http), call
        cluster.apply(*[d for d in documents if "Role" in d["kind"]])
        deadline = time.monotonic() + 15  # API servers learn of rights a little later
        while (missed := [call for call in wanted if call.forbidden(http)]) and time.monotonic() < deadline:
            wanted = missed
        assert missed == []


def whose(document: Doc) -> str:
    """The account that a role is bound to, or that it is."""
    suffix = "-controller" if document["metadata"]["name"].endswith("-controller") else ""
    return f"desk-orchestrator{suffix}"
