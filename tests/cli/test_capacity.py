"""`orchestrator capacity` against a server."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.model.documents import Problem
from tests.cli.conftest import Run
from tests.served import Served

DOCUMENT = """
apiVersion: orchestrator.dev/v1alpha1
kind: Capacity
metadata: {name: mine}
spec:
  blocks:
    q1: {provider: azure, accelerator: H100, gpus: 64, region: eu-1, from: 2026-01-01, to: 2026-03-31}
"""


def test_a_document_is_applied_and_listed(server: Served, cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "capacity.yaml"
    file.write_text(DOCUMENT)
    assert "no capacity is owned" in cli("capacity").stdout
    assert "azure/q1" in cli("capacity", "apply", str(file)).stdout
    (told,) = json.loads(cli("capacity", "list", "--json").stdout)
    assert (told["gpus"], told["until"], told["price"]) == (64, "2026-04-01T00:00:00Z", None)


def test_how_much_is_taken_is_shown_where_it_is_known(server: Served, cli: Run, tmp_path: Path) -> None:
    (file := tmp_path / "capacity.yaml").write_text(DOCUMENT)
    cli("capacity", "apply", str(file))
    assert "0/64" not in cli("capacity").stdout
    assert json.loads(cli("capacity", "list", "--json").stdout)[0]["taken"] is None
    server.tell(lambda desk: setattr(desk, "in_use", {"azure/q1": 48}))
    assert "48/64" in cli("capacity").stdout
    assert json.loads(cli("capacity", "list", "--json").stdout)[0]["taken"] == 48


def test_what_is_wrong_with_it_is_said(server: Served, cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "capacity.yaml"
    file.write_text(DOCUMENT.replace("gpus: 64", "gpus: none"))
    refused = cli("capacity", "apply", str(file))
    assert refused.exit_code == 4 and "spec.blocks.q1.gpus" in refused.stderr


def test_whose_right_it_is_that_forbids_a_block_is_said_and_what_to_do(
    server: Served, cli: Run, tmp_path: Path
) -> None:
    (file := tmp_path / "capacity.yaml").write_text(DOCUMENT)
    right = Problem("spec.blocks.q1.to", "c/k gives zeus the first right to it", "offer it to zeus")
    server.tell(lambda desk: setattr(desk, "forbids", [right]))
    refused = cli("capacity", "apply", str(file))
    assert refused.exit_code == 4 and "no capacity is owned" in cli("capacity").stdout
    assert "spec.blocks.q1.to: c/k gives zeus the first right to it" in refused.stderr
    assert "Offer it to zeus." in refused.stderr
