"""Each verb that the chart grants is taken away in turn, on a real API server: `providers check` names what is missing.

It asks the API server for its opinion; that calls fail without their right is for `test_each_call` to show.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.providers.kubernetes.checking import missing
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.resources import RAY_CLUSTER, RAY_JOB
from tests.deploy.helm import Doc, objects, one, template
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.kinds import definition

pytestmark = [pytest.mark.helm, pytest.mark.kubernetes, pytest.mark.timeout(300)]
SPACE = "desk-rights"
SETUPS = {
    "room": ["--set", "kubernetes.jobs=false"],
    "kueue": ["--set", "kubernetes.jobs=false,kubernetes.room=false,kubernetes.kueue=true"],
}


@pytest.fixture(scope="module")
def account(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig of the server's account; KubeRay's kinds are known to the cluster."""
    if not cluster.has(f"{RAY_JOB.plural}.{RAY_JOB.group}"):
        cluster.apply(*(definition(kind.group, kind.name, "v1") for kind in (RAY_JOB, RAY_CLUSTER)))
    cluster.apply(named("Namespace", SPACE), named("ServiceAccount", "desk-orchestrator", SPACE))
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    token = cluster.kubectl("create", "token", "desk-orchestrator", "-n", SPACE).strip()
    (context,) = [c["context"] for c in config["contexts"] if c["name"] == config["current-context"]]
    config["users"] = [{"name": context["user"], "user": {"token": token}}]
    file = tmp_path_factory.mktemp("account") / "kubeconfig"
    file.write_text(json.dumps(config))
    yield file
    cluster.kubectl("delete", "namespace", SPACE, "--wait=false")


def named(kind: str, name: str, space: str = "") -> Doc:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name} | ({"namespace": space} if space else {})}


async def lacking(account: Path, connection: Connection) -> list[str]:
    """What `providers check` says of rights."""
    client = Client("here", str(account), None)
    try:
        return [line for line in await missing(client, connection) if line.startswith("no right to")]
    finally:
        await client.aclose()


async def until(account: Path, connection: Connection, said: list[str]) -> list[str]:
    """What is lacking, once it begins with `said`, or after a while: API servers learn of rights a little later."""
    deadline = time.monotonic() + 15
    while True:
        found = await lacking(account, connection)
        fits = len(found) == len(said) and all(map(str.startswith, found, said))
        if fits or time.monotonic() > deadline:
            return found


@pytest.mark.parametrize("setup", SETUPS)
async def test_each_verb_is_missed_and_named(cluster: Cluster, account: Path, setup: str) -> None:
    documents = objects(template("least", *SETUPS[setup], "--namespace", SPACE))
    queue = "training" if setup == "kueue" else None
    connection = Connection(image="ray", agent_image="ours", namespace=SPACE, queue=queue)
    roles = [one(documents, "Role"), one(documents, "ClusterRole")]
    cluster.apply(*roles, one(documents, "RoleBinding"), one(documents, "ClusterRoleBinding"))
    assert await until(account, connection, []) == []
    for role in roles:
        for at, rule in enumerate(role["rules"]):
            for verb in rule["verbs"]:
                less = copy.deepcopy(role)
                less["rules"][at]["verbs"].remove(verb)
                less["rules"] = [r for r in less["rules"] if r["verbs"]]
                cluster.apply(less)
                (line,) = await until(account, connection, [f"no right to {verb} {rule['resources'][0]}"])
                assert line.startswith(f"no right to {verb} {rule['resources'][0]}") and "add it to the Role" in line
        cluster.apply(role)
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", f"{SPACE}-desk-orchestrator")
