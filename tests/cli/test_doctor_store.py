"""`orchestrator doctor store` looks at what the server would use, and runbooks name commands that work."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from orchestrator.adapters.ledger.sql import SqlLedger
from orchestrator.model.wire import StoreRef
from orchestrator.runlog.doctor import race
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.testing.stores import MemoryStore
from tests.buckets import a_bucket
from tests.cli.conftest import Run
from tests.served import Served

RUNBOOKS = Path(__file__).parents[2] / "deploy" / "monitoring" / "runbooks.md"
NAMED = re.compile(r"`(?:kubectl exec \S+ -- )?orchestrator ([^`]+)`")


@pytest.fixture
def two(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A providers file with two stores: one that is there, one whose folder is not."""
    (tmp_path / "here").mkdir()
    file = tmp_path / "providers.yaml"
    file.write_text(f"""
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {{name: mine}}
spec:
  stores:
    here: {{url: "file://{tmp_path}/here", jurisdiction: EU}}
    gone: {{url: "file://{tmp_path}/gone", jurisdiction: EU}}
  providers:
    local: {{adapter: local, regions: {{here: EU}}, operatorJurisdiction: EU, seal: 4, accelerators: {{gpu: 1}}}}
""")
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS", str(file))
    return file


def test_one_store_of_the_settings_is_raced(cli: Run, home: Path) -> None:
    (home / "store").mkdir()
    ran = cli("doctor", "store", "--rounds", "3", "--json")
    assert ran.exit_code == 0
    assert [(one["store"], one["double_wins"], one["ok"]) for one in json.loads(ran.stdout)] == [("default", 0, True)]


def test_every_store_of_the_providers_file_is_looked_at(cli: Run, two: Path, tmp_path: Path) -> None:
    ran = cli("doctor", "store", "--rounds", "3")
    assert ran.exit_code == 1
    assert f"{tmp_path}/here: well" in ran.stdout and f"{tmp_path}/gone: wrong: the store's folder" in ran.stdout
    told = json.loads(cli("doctor", "store", "--rounds", "3", "--json").stdout)
    assert [(one["store"], one["ok"]) for one in told] == [("here", True), ("gone", False)]


def test_one_of_them_is_looked_at_by_its_name(cli: Run, two: Path) -> None:
    assert cli("doctor", "store", "here", "--rounds", "3").exit_code == 0
    gone = cli("doctor", "store", "gone")
    assert gone.exit_code == 1 and "cannot be reached" in gone.stderr
    other = cli("doctor", "store", "s3://runs")
    assert other.exit_code == 2 and "there are: here, gone; or give --url" in other.stderr


@pytest.mark.s3
def test_a_bucket_that_does_not_exist_is_said_in_a_line(cli: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_bucket() as ref:
        monkeypatch.setenv("ORCHESTRATOR_STORE_OPTIONS", json.dumps(ref.options))
        monkeypatch.setenv("ORCHESTRATOR_STORE_SECRETS", json.dumps(ref.secrets))
        ran = cli("doctor", "store", "--url", "s3://none")
    assert ran.exit_code == 1 and len(ran.stderr.splitlines()) == 1
    assert "the bucket of store 'doctor' (s3://none) does not exist" in ran.stderr


def test_a_store_that_keeps_nothing_is_not_said_to_be_well() -> None:
    readable = MemoryStore()
    readable.faults.lose_request = 99
    with pytest.raises(StoreUnavailable, match="nothing that is put is kept: the request was lost"):
        race(StoreRef(name="b", url=""), writers=2, rounds=3, opener=lambda ref: readable)


@pytest.mark.parametrize("command", sorted(set(NAMED.findall(RUNBOOKS.read_text()))))
def test_a_command_that_a_runbook_names_is_one(cli: Run, server: Served, home: Path, command: str) -> None:
    (home / "store").mkdir()
    asyncio.run(a_ledger(home / "ledger.db"))
    job = cli("run", "-d", "--", "true").stdout.strip()
    ran = cli(*command.replace("JOB", job).split())
    assert ran.exit_code in (0, 1), ran.output


async def a_ledger(path: Path) -> None:
    """One in which nothing happened yet."""
    await (await SqlLedger.open(path)).close()
