"""A real server whose owned capacity is prolonged: what it refuses, and that what it says to do is all it takes."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulate.world import agreement
from tests.cli.conftest import Run
from tests.cli.test_serve import UP_S, start, wait_up

HEAD = {"apiVersion": "orchestrator.dev/v1alpha1", "metadata": {"name": "mine"}}
FACTS = {
    "adapter": "local",
    "regions": {"here": "US"},
    "operatorJurisdiction": "US",
    "seal": 1,
    "accelerators": {"gpu": 1},
}
RIGHT = {"id": "rofr", "type": "first_right", "window": "15m", "select": {"trigger": ["renew"]}}


def written(folder: Path, **documents: dict[str, Any]) -> list[str]:
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps({**HEAD, **document}))
    return [part for name in documents for part in (f"--{name}", str(folder / f"{name}.json"))]


def capacity(to: str) -> dict[str, Any]:
    block = {"provider": "oracle", "accelerator": "gpu", "gpus": 64, "region": "here", "from": "2026-01-01", "to": to}
    return {"kind": "Capacity", "spec": {"blocks": {"q1": block}}}


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    places = {name: {**FACTS, "connection": {"folder": str(tmp_path / name)}} for name in ("azure", "oracle")}
    providers = {"kind": "ProviderSet", "spec": {"providers": places}}
    return written(tmp_path, providers=providers, contracts=agreement("azure", RIGHT), capacity=capacity("2097-03-31"))


def ended(process: subprocess.Popen[str], how: int) -> int:
    process.send_signal(how)
    process.communicate(timeout=UP_S)
    return process.returncode


def test_what_it_says_to_do_is_all_it_takes(given: list[str], home: Path, tmp_path: Path, cli: Run) -> None:
    server = start(home, *given)
    try:
        wait_up(home, server)
        written(tmp_path, capacity=capacity("2097-06-30"))
        longer = str(tmp_path / "capacity.json")
        refused = cli("capacity", "apply", longer)
        assert refused.exit_code == 4
        said = " ".join(refused.stderr.split())
        assert "spec.blocks.q1.to: agreement/rofr gives azure the first right to 2184 h more of 64 gpu" in said
        assert "2097-04-01" in cli("capacity").stdout
        assert ended(server, signal.SIGTERM) == 0
        server = start(home, *given)
        again = server.communicate(timeout=UP_S)[1]
        assert server.returncode == 4 and f"{longer} is refused" in again and "spec.blocks.q1.to" in again
        written(tmp_path, capacity=capacity("2097-03-31"))
        server = start(home, *given)
        wait_up(home, server)
        command = re.search(r"`orchestrator (record waiver [^`]+)`", said)
        assert command is not None and cli(*shlex.split(command[1])).exit_code == 0
        written(tmp_path, capacity=capacity("2097-06-30"))
        assert cli("capacity", "apply", longer).exit_code == 0
        assert "2097-07-01" in cli("capacity").stdout
    finally:
        ended(server, signal.SIGKILL)
    assert cli("audit", "export", "-o", "ledger.jsonl").exit_code == 0
    audited = json.loads(cli("audit", "verify", "ledger.jsonl", "--json").stdout)
    (sentence,) = [s for s in audited["sentences"] if s["sentence"] == 44]
    assert (sentence["judged"], sentence["violations"], audited["violations"]) == (1, 0, 0)
