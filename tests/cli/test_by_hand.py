"""A whole server over HTTP whose one provider answers by hand: asked, declined, exported, verified by its receipts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import verify
from orchestrator.sdk import Client, command_job
from tests.cli.conftest import Run
from tests.cli.test_serve import start, wait_up

SALES = "a-token-of-the-sales-people-".ljust(43, "x")
PROVIDERS = """
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {{name: by-hand}}
spec:
  providers:
    here:
      adapter: local
      answers: by_hand
      connection: {{folder: {folder}, cpus: 2, gpus: 0}}
      regions: {{here-1: EU}}
      operatorJurisdiction: EU
      seal: 4
      accelerators: {{gpu: 1}}
      marketWindow: 30m
"""


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    """The owner's token is the server's own; the sales people's is bound to `here`."""
    providers = home / "providers.yaml"
    providers.write_text(PROVIDERS.format(folder=home / "local"))
    process = start(home, ORCHESTRATOR_PROVIDERS=str(providers))
    try:
        yield wait_up(home, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def bind_sales(home: Path) -> None:
    tokens = json.loads((home / "tokens.json").read_text())
    tokens["tokens"].append({"name": "sales", "token": SALES, "scopes": ["provider"], "provider": "here"})
    (home / "tokens.json").write_text(json.dumps(tokens))


def eventually(look: Any, seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def test_declined_by_hand_exported_and_verified(
    url: str, home: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bind_sales(home)
    with Client() as client:
        job = client.submit(command_job(["true"]))
    kept = str(tmp_path / "receipts.jsonl")
    monkeypatch.setenv("ORCHESTRATOR_TOKEN", SALES)
    [offer] = eventually(lambda: json.loads(cli("offers", "list", "--receipts", kept, "--json").stdout))
    assert offer["offer"] == f"{job.id}-o1" and offer["terms"]["workers"] == 1
    assert offer["due"] and 0 < offer["leftMs"] <= offer["windowUs"] / 1000
    assert "Z, in 0:" in cli("offers", "list").stdout
    said = ("offers", "answer", offer["offer"])
    assert cli(*said, "decline", "--reason", "capacity", "--detail", "later", "--receipts", kept).exit_code == 0
    assert (cli(*said, "decline", "--reason", "capacity").exit_code, cli(*said, "accept").exit_code) == (0, 1)
    assert httpx.get(f"{url}/v1/jobs", headers={"Authorization": f"Bearer {SALES}"}).status_code == 403
    monkeypatch.delenv("ORCHESTRATOR_TOKEN")
    [told] = json.loads(cli("offers", job.id, "--json").stdout)
    assert (told["state"], told["reason"], told["detail"]) == ("declined", "capacity", "later")
    for options in ([], ["--for", "here"]):
        exported = str(tmp_path / "ledger.jsonl")
        assert cli("audit", "export", "-o", exported, *options).exit_code == 0
        assert verify.main([exported, "--receipts", kept]) == 0


def test_a_yes_after_a_colleagues_no_accuses_nobody(
    url: str, home: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who declined kept no receipts; the other one did, and was told that the offer was closed."""
    bind_sales(home)
    with Client() as client:
        client.submit(command_job(["true"]))
    kept, exported = tmp_path / "receipts.jsonl", str(tmp_path / "ledger.jsonl")
    monkeypatch.setenv("ORCHESTRATOR_TOKEN", SALES)
    [offer] = eventually(lambda: json.loads(cli("offers", "list", "--receipts", str(kept), "--json").stdout))
    said = ("offers", "answer", offer["offer"])
    assert cli(*said, "decline", "--reason", "capacity").exit_code == 0
    assert cli(*said, "accept", "--receipts", str(kept)).exit_code == 1
    assert json.loads(kept.read_text().splitlines()[-1])["outcome"] == "closed"
    monkeypatch.delenv("ORCHESTRATOR_TOKEN")
    assert cli("audit", "export", "-o", exported).exit_code == 0
    assert verify.main([exported, "--receipts", str(kept)]) == 0
    assert verify.main([exported, "--receipts", str(kept), "--strict"]) == 3
