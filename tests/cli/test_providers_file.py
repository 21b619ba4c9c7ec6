"""`orchestrator providers check FILE`: is a providers file one that a server starts with? Nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli.exits import Exit
from tests.cli.conftest import Run

DOCUMENT = """
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {name: mine}
spec:
  stores:
    eu: {url: "s3://runs/eu", jurisdiction: EU, options: {aws_secret_access_key: "env:NOT_HERE"}}
  providers:
    here: {adapter: local, regions: {here: EU}, operatorJurisdiction: EU, seal: 4, accelerators: {gpu: 1}}
    there:
      adapter: kubernetes
      connection: {image: ray, agentImage: orchestrator, namespace: jobs}
      regions: {eu-1: EU}
      operatorJurisdiction: EU
      seal: 4
      accelerators: {H100: 2}
"""
THIRD = """    again: {adapter: kubernetes, connection: {image: ray, agentImage: orchestrator, namespace: jobs},
      regions: {eu-1: EU}, operatorJurisdiction: EU, seal: 4, accelerators: {H100: 2}}
"""


@pytest.fixture
def file(home: Path, tmp_path: Path) -> Path:
    (path := tmp_path / "providers.yaml").write_text(DOCUMENT)
    return path


def test_a_good_one_is_named_with_what_is_in_it(cli: Run, file: Path) -> None:
    ran = cli("providers", "check", str(file))
    assert ran.exit_code == 0 and ran.stdout.splitlines()[1:] == ["  providers: here, there", "  stores: eu", "  ok"]
    told = json.loads(cli("providers", "check", str(file), "--json").stdout)
    assert (told["providers"], told["stores"], len(told["digest"])) == (["here", "there"], ["eu"], 64)


def test_a_folder_that_only_the_server_s_machine_has_is_no_fault(cli: Run, file: Path) -> None:
    file.write_text(DOCUMENT.replace("s3://runs/eu", "file:///not/here"))
    assert cli("providers", "check", str(file)).exit_code == 0


def test_nothing_is_made_and_nobody_asked(cli: Run, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(home / "none"))
    assert cli("providers", "check", str(file)).exit_code == 0
    assert not list(home.iterdir())


@pytest.mark.parametrize(("was", "becomes", "code", "said"), [
    ("seal: 4, acc", "seal: many, acc", Exit.REFUSED, "spec.providers.here.seal"),
    ("adapter: local", "adapter: loca", Exit.REFUSED, "spec.providers.here.adapter: there is no adapter 'loca'"),
    ("namespace: jobs}", "namespaces: jobs}", Exit.USAGE, "provider there: connection"),
    ("accelerators: {H100: 2}\n", "accelerators: {H100: 2}\n" + THIRD, Exit.REFUSED, "there and again are both"),
    ("s3://runs/eu", "s4://runs/eu", Exit.USAGE, "store 'eu' (s4://runs/eu) cannot be opened"),
    ("s3://runs/eu", "file://runs/eu", Exit.USAGE, "names no folder"),
    ("kind: ProviderSet", "kind: [", Exit.REFUSED, "providers.yaml is refused"),
])  # fmt: skip
def test_what_a_start_would_be_refused_for_is_said(
    cli: Run, file: Path, was: str, becomes: str, code: Exit, said: str
) -> None:
    file.write_text(DOCUMENT.replace(was, becomes, 1))
    ran = cli("providers", "check", str(file))
    assert ran.exit_code == code and said in ran.stderr
    assert json.loads(cli("providers", "check", str(file), "--json").stderr)["fault"] == "caller"
