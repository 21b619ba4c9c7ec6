"""Every case file of ours, as `orchestrator contracts test` runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.contracts import app

HERE = Path(__file__).parents[1] / "contracts"
SET = """\
apiVersion: orchestrator.dev/v1alpha1
kind: ContractSet
metadata: {name: small}
spec:
  providers:
    near: {regions: {a: US}, operatorJurisdiction: US, seal: 1, accelerators: {H100: 1}}
    far: {regions: {b: US}, operatorJurisdiction: US, seal: 1, accelerators: {H100: 1}}
  contracts:
    - id: c
      holder: near
      term: {from: 2026-01-01, to: 2026-12-31}
      endsOn: [{event: moon.landing}]
      clauses:
        - id: right
          type: first_right
          window: 15m
          select: {class: [training]}
          exempt: [{id: tiny, because: below_threshold, select: {gpus: {lt: 2}}}]
        - {id: alone, type: exclusive, select: {class: [api]}}
        - {id: lead, type: precedence, select: {class: [robots]}}
        - {id: spend, type: commit, unit: usd, amount: 5, starts: 2026-01-01, ends: 2026-12-31, select: {class: [toys]}}
"""
OPERATORS = SET.split("  contracts:")[0].replace("ContractSet", "ProviderSet").replace("{reg", "{adapter: mock, reg")
CASE = "  - {case: it, at: 2026-02-01T00:00:00Z, job: {class: CLASS, gpus: GPUS}, facts: {FACTS}, expect: {EXPECT}}"


def ask(folder: Path, job: tuple[str, int], facts: str, expect: str, *options: str) -> tuple[int, str]:
    (folder / "set.yaml").write_text(SET)
    case = CASE.replace("CLASS", job[0]).replace("GPUS", str(job[1]))
    case = case.replace("FACTS", facts).replace("EXPECT", expect)
    (folder / "x.cases.yaml").write_text(f"contracts: set.yaml\ncases:\n{case}\n")
    return run(folder / "x.cases.yaml", *options)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["test", *map(str, words)])
    return result.exit_code, result.output


@pytest.mark.parametrize("file", sorted(HERE.glob("*.cases.yaml")), ids=lambda path: path.name)
def test_our_cases_pass(file: Path) -> None:
    result = CliRunner().invoke(app, ["test", "--strict", str(file)])
    assert (result.exit_code, "failed" in result.output) == (0, False), result.output


def test_a_wrong_expectation_fails_and_shows_both(tmp_path: Path) -> None:
    code, said = ask(tmp_path, ("training", 8), "", "market: [near, far]")
    assert code == 1
    assert 'market: expected ["near", "far"]' in said and 'got      ["far", "near"]' in said


@pytest.mark.parametrize(
    ("job", "facts", "expect", "part"),
    [
        (("robots", 8), "", "market: [far, near]", "spec.contracts[0].clauses[2], precedence of one supplier"),
        (("toys", 8), "", "gates: []", "spec.contracts[0].clauses[3], a committed spend"),
        (("training", 8), "burned: {c/spend: 1}", "gates: []", "a committed spend"),
    ],
)
def test_what_uses_an_unenforced_part_is_neither_passed_nor_failed(
    tmp_path: Path, job: tuple[str, int], facts: str, expect: str, part: str
) -> None:
    code, said = ask(tmp_path, job, facts, expect)
    assert code == 0 and part in said and said.endswith("1 not enforced yet\n")
    assert ask(tmp_path, job, facts, expect, "--strict")[0] == 3


def test_a_case_that_uses_only_what_is_enforced_is_judged(tmp_path: Path) -> None:
    asked = [
        ask(tmp_path, ("training", 1), "", "gates: [], exempt: {c/right: tiny}"),
        ask(tmp_path, ("training", 8), "events: {moon.landing: [bob]}", "gates: [], released: {c/right: ended}"),
        ask(tmp_path, ("api", 8), "", "only: near, market: [near], excluded: {far: exclusive}"),
    ]
    assert [(code, said.splitlines()[-1]) for code, said in asked] == [(0, "1 passed")] * 3


def test_cases_of_holders_that_are_described_nowhere_are_said_to_test_nothing(tmp_path: Path) -> None:
    """No gate is expected, and there is none as long as nobody knows the holder."""
    case = CASE.replace("CLASS", "training").replace("GPUS", "8").replace("FACTS", "").replace("EXPECT", "gates: []")
    head, described = SET.split("  providers:\n")
    (tmp_path / "set.yaml").write_text(head + described[described.index("  contracts:") :])
    (tmp_path / "x.cases.yaml").write_text(f"contracts: set.yaml\ncases:\n{case}\n")
    code, said = run(tmp_path / "x.cases.yaml")
    assert code == 0 and said.endswith("1 passed\n")
    [told] = [line for line in said.splitlines() if "warning holder_undescribed: near is described nowhere" in line]
    assert told.endswith("pass the operator's file with --providers (spec.contracts[0].holder)")
    assert run(tmp_path / "x.cases.yaml", "--strict") == (3, said)
    [report] = json.loads(run(tmp_path / "x.cases.yaml", "--json")[1])["files"]
    assert [(w["path"], w["code"]) for w in report["warnings"]] == [("spec.contracts[0].holder", "holder_undescribed")]
    (tmp_path / "p.yaml").write_text(OPERATORS)
    code, said = run(tmp_path / "x.cases.yaml", "--strict", "--providers", tmp_path / "p.yaml")
    assert code == 1 and 'got      [{"clause": "c/right"' in said and "warning" not in said


def test_providers_that_lack_a_holder_are_refused(tmp_path: Path) -> None:
    ask(tmp_path, ("training", 8), "", "gates: []")
    (tmp_path / "p.yaml").write_text(OPERATORS.replace("near:", "other:"))
    code, said = run(tmp_path / "x.cases.yaml", "--providers", tmp_path / "p.yaml")
    assert code == 4 and "spec.contracts[0].holder: near is none of the operator's providers" in said
    (tmp_path / "p.yaml").write_text(OPERATORS.replace("seal: 1", "seal: high"))
    code, said = run(tmp_path / "x.cases.yaml", "--providers", tmp_path / "p.yaml")
    assert code == 4 and "p.yaml is refused" in said


def test_an_event_that_ends_nothing_changes_nothing(tmp_path: Path) -> None:
    code, said = ask(tmp_path, ("training", 8), "events: {sun.rise: [bob]}", "gates: [{holder: near}]")
    assert code == 0 and said.endswith("1 passed\n")


def test_a_set_that_loads_fails_a_case_that_expects_otherwise(tmp_path: Path) -> None:
    code, _ = ask(tmp_path, ("training", 8), "", "refusedAtLoad: {path: x, reason: y}")
    assert code == 1


def test_a_set_that_does_not_load_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.cases.yaml"
    file.write_text("contracts: {kind: ContractSet}\ncases: [{case: a, at: 2026-01-01, expect: {}}]")
    result = CliRunner().invoke(app, ["test", str(file)])
    assert result.exit_code == 4 and "spec: Field required. Add it." in result.output
