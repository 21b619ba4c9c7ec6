"""`orchestrator record` and `contracts apply` against a server: each kind, the listing, refusals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.served import Served

KINDS = [
    (["consent", "azure", "--project", "vision", "--clause", "msft/alone"], "azure", "project vision, msft/alone"),
    (["evidence", "approved", "--class", "training"], "approved", "training"),
    (["waiver", "azure", "--gpus", "8", "--until", "2100-01-01"], "azure", "up to 8 GPUs"),
    (["event", "agi.declared"], "agi.declared", "every job"),
    (["override", "msft/rofr", "--approver", "Ann", "--why", "outage"], "outage", "msft/rofr"),
]


@pytest.mark.parametrize(("given", "what", "about"), KINDS, ids=[kind[0][0] for kind in KINDS])
def test_each_kind_is_put_on_record_and_listed(
    server: Served, cli: Run, given: list[str], what: str, about: str
) -> None:
    made = cli("record", *given)
    assert made.exit_code == 0, made.output
    (row,) = cli("record").stdout.splitlines()[1:]
    assert made.stdout.strip() in row and what in row and about in row


def test_of_a_paper_its_hash_is_kept(server: Served, cli: Run, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("we consent")
    cli("record", "consent", "azure", "--paper", str(tmp_path / "letter"))
    (told,) = json.loads(cli("record", "list", "--json").stdout)
    assert told["document"] == hashlib.sha256(b"we consent").hexdigest()


def test_a_record_that_makes_no_sense_is_refused_with_what_is_wrong(server: Served, cli: Run) -> None:
    ran = cli("record", "consent", "azure", "--job", "x")
    assert ran.exit_code == 4 and "is no job id" in ran.stderr


def test_help_teaches(home: Path, cli: Run) -> None:
    assert "attester" in cli("record", "--help").stdout
    assert "Example" in cli("record", "consent", "--help").stdout


def test_a_contract_set_is_applied_to_the_running_server(server: Served, cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "set.yaml"
    clause = "{id: k, type: first_right, window: 15m}"
    file.write_text(
        "apiVersion: orchestrator.dev/v1alpha1\nkind: ContractSet\nmetadata: {name: mine}\nspec: {contracts: ["
        f"{{id: a, holder: azure, term: {{from: 2026-01-01, to: 2027-12-31}}, clauses: [{clause}]}}]}}\n"
    )
    first, again = (cli("contracts", "apply", str(file)) for _ in range(2))
    assert "takes effect: version 1" in first.stdout and "is in force already: version 1" in again.stdout
    file.write_text(file.read_text().replace("window: 15m", "window: 15"))
    refused = cli("contracts", "apply", str(file))
    assert refused.exit_code == 4 and "clauses[0].window" in refused.stderr
    assert cli("contracts", "check", str(file)).stderr.splitlines()[1:] == refused.stderr.splitlines()[1:]
    assert server.desk.force.contract == 1


def test_what_is_in_force_is_listed_and_nothing_before(server: Served, cli: Run, tmp_path: Path) -> None:
    assert "no contract set is in force" in cli("contracts", "list").stdout
    (file := tmp_path / "set.yaml").write_text(
        "apiVersion: orchestrator.dev/v1alpha1\nkind: ContractSet\nmetadata: {name: mine}\nspec:\n  contracts:\n"
        "  - {id: a, holder: azure, term: {from: 2026-01-01, to: 2027-12-31}, status: draft, clauses: ["
        "{id: k, type: first_right, window: 15m}, {id: p, type: price, ceilingUsdPerGpuHour: 3}]}\n"
        "  - {id: b, term: {from: 2028-01-01, to: 2028-12-31}, clauses: [{id: r, type: residency, regionsIn: [EU]}]}\n"
    )
    cli("contracts", "apply", str(file))
    told = cli("contracts", "list")
    assert [" ".join(line.split()) for line in told.stdout.splitlines()[1:]] == [
        "a azure 2026-01-01 2027-12-31 draft k (first right), p (price)",
        "b 2028-01-01 2028-12-31 active r (residency)",
    ]
    assert "version 1, sha256 " in told.stderr
    assert json.loads(cli("contracts", "list", "--json").stdout)["contract"] == 1


def test_words_of_people_are_shown_as_they_are_written_and_move_no_terminal(server: Served, cli: Run) -> None:
    words = "a\x1b[2J\u202eb\nc\x9b1A"
    cli("record", "override", "msft/rofr", "--approver", words, "--why", words)
    assert cli("record").stdout.count(r"a\x1b[2J\u202eb\nc\x9b1A") == 2
    told = cli("record", "--json").stdout
    assert told.replace("\n", "").isprintable() and json.loads(told)[0]["why"] == words
