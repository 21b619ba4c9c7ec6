"""What a ContractSet object says of itself: its digest, and honestly whether it decides anything."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

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
    status = settles(cluster, "Loaded")
    file = tmp_path_factory.mktemp("file") / "contracts.json"
    file.write_text(json.dumps(applied))
    command = [sys.executable, "-m", "orchestrator.cli.main", "contracts", "check", "--json", str(file)]
    checked = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert status["digest"] == checked["digest"]


def test_it_takes_effect_when_it_is_applied_and_when_it_is_changed(
    cluster: Cluster, server: Served, applied: Doc
) -> None:
    first = settles(cluster, "Loaded")
    assert (first["inForce"], first["version"]) == ("True", server.desk.force.contract)
    cluster.apply(contract_set(FIRST | {"window": "30m"}))
    until(lambda: settles(cluster, "Loaded")["version"] == first["version"] + 1, "its change takes effect")


def test_it_says_when_another_set_is_in_force(cluster: Cluster, server: Served, applied: Doc) -> None:
    settles(cluster, "Loaded")
    other = load_contracts(json.dumps(contract_set(FIRST | {"window": "45m"})))
    server.tell(lambda desk: asyncio.ensure_future(desk.amend(canonical_bytes(other), "somebody")))
    message = condition(settles(cluster, "AnotherLoaded"), "InForce")["message"]
    assert digest(other) in message and "apply it again, changed" in message
