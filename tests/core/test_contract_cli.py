"""`orchestrator contracts check` and `explain`, as a contract officer meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.contracts import app
from tests.core.contract_worlds import PROVIDERS, contract, contract_set

EXAMPLES = Path(__file__).parents[2] / "examples" / "contracts"
JOB = "kind: TrainingJob\nspec: {run: {command: [a]}, workers: {gpus: 8, accelerator: [H100]}, residency: eu}\n"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def explain(folder: Path, example: str, *options: object, job: str = JOB, facts: str = "{}") -> tuple[int, str]:
    (folder / "job.yaml").write_text(job)
    (folder / "facts.yaml").write_text(facts)
    files = ("--job", folder / "job.yaml", "--facts", folder / "facts.yaml", "--at", "2026-06-01T12:00:00Z")
    return run("explain", EXAMPLES / example, *files, *options)


@pytest.mark.parametrize("example", ["first-right.yaml", "european.yaml", "budget.yaml"])
def test_the_examples_are_enforced_whole(example: str) -> None:
    code, said = run("check", EXAMPLES / example)
    assert code == 0 and "sha256 " in said and said.endswith("  ok\n")
    assert "holder_undescribed" not in said


def test_check_warns_of_each_holder_that_is_described_nowhere(tmp_path: Path) -> None:
    written = (EXAMPLES / "first-right.yaml").read_text()
    at, to = written.index("  # The facts that"), written.index("  contracts:")
    (file := tmp_path / "set.yaml").write_text(written[:at] + written[to:])
    code, said = run("check", file)
    assert code == 0 and said.count("warning holder_undescribed: azure is described nowhere") == 1
    assert "holder_undescribed" not in run("check", file, "--providers", EXAMPLES / "providers.yaml")[1]


def test_the_example_agrees_with_its_providers() -> None:
    assert run("check", EXAMPLES / "first-right.yaml", "--providers", EXAMPLES / "providers.yaml")[0] == 0
    code, said = run("check", EXAMPLES / "budget.yaml", "--providers", EXAMPLES / "providers.yaml")
    assert code == 4 and "lambda is none of the operator's providers" in said


def test_a_set_by_class_is_warned_of_beside_policies_that_leave_the_class_to_the_submitter(tmp_path: Path) -> None:
    stated = (EXAMPLES / "providers.yaml").read_text()
    (tmp_path / "p.yaml").write_text(stated.replace(", classification: strictest", ""))
    by_class, all_alike = (tmp_path / "class.yaml", "class: [training, research]"), (tmp_path / "all.yaml", "gpus: {}")
    for file, select in (by_class, all_alike):
        written = (EXAMPLES / "first-right.yaml").read_text()
        file.write_text(written.replace("class: [training, research]", select))
    told = run("check", by_class[0], "--providers", tmp_path / "p.yaml")[1]
    assert "warning class_unattested: preferred-2026/new-capacity goes by class" in told
    assert "in spec.policies for european (spec.contracts[0].clauses[0])" in told
    for file, providers in ((by_class[0], EXAMPLES / "providers.yaml"), (all_alike[0], tmp_path / "p.yaml")):
        assert "class_unattested" not in run("check", file, "--providers", providers)[1]


def test_the_example_comes_with_cases() -> None:
    assert run("test", EXAMPLES / "first-right.cases.yaml", "--strict")[0] == 0


def test_a_file_that_is_refused_hides_no_other(tmp_path: Path) -> None:
    (broken := tmp_path / "broken.cases.yaml").write_text("contracts: nowhere.yaml\ncases: 7\n")
    code, said = run("test", broken, EXAMPLES / "first-right.cases.yaml")
    assert code == 4 and said.endswith("3 passed\n")
    assert f"{broken} is refused:\n  cases: " in said
    code, said = run("test", broken, EXAMPLES / "first-right.cases.yaml", "--json")
    first, second = json.loads(said)["files"]
    assert code == 4 and [problem["path"] for problem in first["problems"]] == ["cases"]
    assert [case["verdict"] for case in second["cases"]] == ["passed"] * 3 and "problems" not in second


def test_explain_needs_providers(tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text(contract_set(contract("type: first_right, window: 15m")).replace(PROVIDERS, ""))
    (tmp_path / "job.yaml").write_text(JOB)
    said = run("explain", tmp_path / "set.yaml", "--job", tmp_path / "job.yaml", "--at", "2026-06-01")
    assert said[0] == 2 and "describes no providers" in said[1]


def test_check_refuses_what_is_not_enforced_yet(tmp_path: Path) -> None:
    file = tmp_path / "set.yaml"
    file.write_text(contract_set(contract("type: precedence, select: {class: [api]}")))
    code, said = run("check", file)
    assert code == 3 and "not enforced yet: spec.contracts[0].clauses[0], precedence of one supplier" in said
    told = json.loads(run("check", file, "--json")[1])
    assert told["unenforced"] == [{"path": "spec.contracts[0].clauses[0]", "what": "precedence of one supplier"}]


def test_check_lists_problems(tmp_path: Path) -> None:
    file = tmp_path / "set.yaml"
    file.write_text(contract_set(contract("type: first_right, window: 15")))
    code, said = run("check", file)
    assert code == 4
    assert "spec.contracts[0].clauses[0].window: 15 is no duration. Write a number and ms, s, m, h or d" in said


def test_explain_gives_each_provider_a_sentence(tmp_path: Path) -> None:
    code, said = explain(tmp_path, "european.yaml", facts="{prices: {aws: 2.75}, downFor: {azure: 2h}}")
    assert code == 0
    assert "gate: azure is offered the job alone for 30m (azure-eu/first, rank 1); silence is a refusal" in said
    assert "azure: holder: asked first, alone; in swedencentral; price unknown; not reached for 2h" in said
    assert "aws: number 1 in the market, once every gate is passed; in eu-central-1; 2.75 USD per GPU-hour" in said


def test_explain_says_why_one_is_excluded(tmp_path: Path) -> None:
    code, said = explain(tmp_path, "european.yaml", job=JOB.replace("eu}", "eu-sovereign}"))
    assert (
        code == 0
        and "aws: excluded, operator_jurisdiction: is operated under US, the job needs EU (law/operators)" in said
    )


def test_explain_uses_the_operators_prices(tmp_path: Path) -> None:
    code, said = explain(tmp_path, "first-right.yaml", "--providers", EXAMPLES / "providers.yaml", "--json")
    told = json.loads(said)
    assert (code, told["market"], told["mayKnow"]) == (0, ["coreweave", "oracle", "azure"], ["azure"])
    assert told["gates"] == [{"clause": "preferred-2026/new-capacity", "holder": "azure", "window": "15m"}]
    assert told["warnings"] == ["unknown_residency"]


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        ("{prices: {azzure: 1}}", "prices"),
        ("{downFor: {azzure: 1h}}", "downFor"),
        ("{consents: [azzure]}", "consents"),
        ("{refusals: [{provider: azzure, ago: 1m}]}", "refusals"),
    ],
)
def test_explain_refuses_facts_about_providers_that_nobody_knows(tmp_path: Path, facts: str, path: str) -> None:
    code, said = explain(tmp_path, "european.yaml", facts=facts)
    assert code == 4 and f"{path}: azzure is no known provider. Name one of " in said


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("facts: {prices: {azzure: 1}}, expect: {}", "facts.prices"),
        ("expect: {market: [coreweave, azzure]}", "expect.market"),
        ("expect: {gates: [{holder: azzure}]}", "expect.gates"),
        ("expect: {only: azzure}", "expect.only"),
        ("expect: {excluded: {azzure: seal}}", "expect.excluded"),
    ],
)
def test_cases_about_providers_that_nobody_knows_are_refused(tmp_path: Path, more: str, path: str) -> None:
    file = tmp_path / "one.cases.yaml"
    file.write_text(
        f"contracts: {EXAMPLES / 'first-right.yaml'}\ncases: [{{case: one, at: 2026-06-01T12:00:00Z, {more}}}]\n"
    )
    code, said = run("test", file)
    assert code == 4 and f"cases[0].{path}: azzure is no known provider" in said


def test_explain_refuses_bad_moments_and_unhonoured_jobs(tmp_path: Path) -> None:
    code, said = explain(tmp_path, "european.yaml", "--at", "yesterday")
    assert code == 2 and "Invalid value for --at" in said
    code, said = explain(tmp_path, "european.yaml", job=JOB.replace("residency", "retries: 1, residency"))
    assert code == 3 and "spec.retries, retries" in said


def test_the_help_teaches() -> None:
    assert "Exit codes: 0 ok" in run("--help")[1]
    assert run("test", "nowhere.yaml")[0] == 2
