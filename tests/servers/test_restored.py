"""`orchestrator backup` and `restore`, and the server that starts on what they put back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.ledger.sql import reading
from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.model.wire import Claim, Fence
from orchestrator.runlog.log import append_attempt, append_controller
from orchestrator.runlog.rules import EMPTY
from tests.ledger.postgres import Cluster
from tests.servers.pair import ROOT, Replica, calls, run_log, until

pytestmark = pytest.mark.timeout(300)


def orchestrator(place: Place, home: Path, *words: str) -> str:
    """What the command says; it must succeed."""
    url = place if isinstance(place, str) else f"sqlite://{place}"
    given = {**os.environ, "ORCHESTRATOR_DATABASE_URL": url, "ORCHESTRATOR_HOME": str(home)}
    command = [sys.executable, "-m", "orchestrator.cli.main", *words]
    done = subprocess.run(command, env=given, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def went_on(shared: Path, job: str) -> None:
    """What a server did for this job after the backup: a second epoch, at some cloud."""
    log = run_log(shared, job)
    fenced = append_controller(log, EMPTY, Fence(epoch=2, id="a" * 16, term=7))
    claim: dict[str, Any] = {"provider": "cloud", "limit_ms": 900_000, "grace_ms": 30_000}
    append_attempt(log, fenced.state, 2, Claim(epoch=2, id="b" * 16, nonce="c" * 16, **claim))


def lived_on(here: Place, there: Place, tmp_path: Path) -> None:
    """A server with two jobs; a backup; one job went on; the ledger is put back elsewhere and served from there."""
    shared, kept = tmp_path / "shared", tmp_path / "kept"
    first = Replica(tmp_path / "first", shared, here).up()
    ahead, other = first.try_submit("ahead"), first.try_submit("other")
    until(lambda: sum(len(c["of"]) for c in calls(shared, "launch")) >= 2, 20)
    assert "up to event" in orchestrator(here, tmp_path, "backup", str(kept))
    first.end()
    went_on(shared, ahead)
    assert "the ledger is back" in orchestrator(there, tmp_path, "restore", str(kept))
    second = Replica(tmp_path / "second", shared, there).up()
    try:
        row = second.http.get(f"/v1/jobs/{ahead}").json()
        assert row["state"] == "held" and "run log" in second.http.get(f"/v1/jobs/{ahead}/explain").json()["why"]
        assert second.http.get(f"/v1/jobs/{other}").json()["state"] == "launching", "this one is left alone"
        assert second.try_submit("other") == other, "keys are remembered"
        assert second.http.post(f"/v1/jobs/{ahead}/resume").status_code == 202
        until(lambda: any(key == f"{ahead.lower()}-e3" for c in calls(shared, "launch") for key, _ in c["of"]), 30)
    finally:
        second.end()
    with reading(there) as snapshot:
        kinds = [event.kind for event in snapshot.events()]
    assert kinds.count("Restored") == kinds.count("LogsRead") == 1


@pytest.mark.fault("ledger restored from an old backup")
def test_on_sqlite(tmp_path: Path) -> None:
    lived_on(tmp_path / "here.db", tmp_path / "there.db", tmp_path)


@pytest.mark.fault("ledger restored from an old backup")
@pytest.mark.postgresql
def test_on_postgresql(tmp_path: Path, postgres: Cluster) -> None:
    lived_on(postgres.new(), postgres.new(), tmp_path)


@pytest.mark.postgresql
def test_from_a_file_to_a_database(tmp_path: Path, postgres: Cluster) -> None:
    lived_on(tmp_path / "here.db", postgres.new(), tmp_path)
