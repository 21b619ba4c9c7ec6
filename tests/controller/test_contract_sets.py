"""What a ContractSet object says of itself: its digest, and honestly whether it decides anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from orchestrator.model import event as kinds
from orchestrator.model.documents import canonical_bytes, digest, load_contracts
from tests.controller.conftest import Controller, condition, until
from tests.controller.test_admission import FIRST, contract_set
from tests.kubernetes.cluster import Cluster, Doc
from tests.served import Served

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


@pytest.fixture
def applied(cluster: Cluster, server: Served, controller: Controller) -> Iterator[Doc]:
    document = contract_set(FIRST)
    cluster.apply(document)
    yield document
    cluster.kubectl("delete", "contractset", "test", "--timeout=20s")


def settles(cluster: Cluster, reason: str) -> Doc:
    def there() -> Doc | None:
        status: Doc = cluster.get("contractset", "test").get("status", {})
        return status if status.get("reason") == reason else None

    found: Doc = until(there, f"it is {reason}")
    return found


def test_its_digest_is_that_of_the_file(
    cluster: Cluster, applied: Doc, tmp_path_factory: pytest.TempPathFactory
) -> None:
    status = settles(cluster, "NoneLoaded")
    file = tmp_path_factory.mktemp("file") / "contracts.json"
    file.write_text(json.dumps(applied))
    command = [sys.executable, "-m", "orchestrator.cli.main", "contracts", "check", "--json", str(file)]
    checked = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert status["digest"] == checked["digest"]


def test_it_says_that_it_decides_nothing_yet(cluster: Cluster, applied: Doc) -> None:
    fact = condition(settles(cluster, "NoneLoaded"), "InForce")
    assert fact["status"] == "False" and "does not change what decides yet" in fact["message"]


def test_it_says_when_it_is_the_one_in_force(cluster: Cluster, server: Served, applied: Doc) -> None:
    document = load_contracts(json.dumps(applied))

    def load(desk: object) -> None:
        server.desk.keep(canonical_bytes(document))
        server.desk.force = replace(server.desk.force, contract=3, contract_digest=digest(document))
        server.desk._append("", "", 0, kinds.ContractInForce(n=3, digest=digest(document)))

    server.tell(load)
    status = settles(cluster, "Loaded")
    assert (status["inForce"], status["version"]) == ("True", 3)
    changed = contract_set(FIRST | {"window": "30m"})
    cluster.apply(changed)
    assert digest(document) in condition(settles(cluster, "AnotherLoaded"), "InForce")["message"]
