"""What does not work, for people and (with --json) for programs: one problem, as the HTTP API tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.documents import Problem
from tests.cli.conftest import Run
from tests.cli.test_capacity import DOCUMENT
from tests.served import Served

NOBODY = "01K9Z3M5W2T8Q4N6R7VXYBCD0E"


def problem(ran: Any, code: int) -> dict[str, Any]:
    """All that was said: nothing where the answer stands, and one line beside it."""
    assert (ran.exit_code, ran.stdout) == (code, ""), ran.output
    (line,) = ran.stderr.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["title"] == found["type"].removeprefix("urn:orchestrator:problem:").replace("-", " ")
    assert found["detail"] and found["fault"] in ("caller", "operator", "server")
    return found


def test_what_the_server_refuses_is_told_as_it_says_it(server: Served, cli: Run, tmp_path: Path) -> None:
    (file := tmp_path / "capacity.yaml").write_text(DOCUMENT)
    right = Problem("spec.blocks.q1.to", "c/k gives zeus the first right to it", "offer it to zeus")
    server.tell(lambda desk: setattr(desk, "forbids", [right]))
    found = problem(cli("capacity", "apply", str(file), "--json"), 4)
    assert (found["type"], found["status"]) == ("urn:orchestrator:problem:invalid-capacity", 422)
    assert found["errors"] == [
        {"field": "spec.blocks.q1.to", "reason": "c/k gives zeus the first right to it", "remedy": "offer it to zeus"}
    ]


@pytest.mark.parametrize("given", [
    ["job"], ["explain"], ["logs"], ["cancel"], ["resume"], ["dump"], ["scale", "--workers", "2"], ["offers", "of"],
], ids=lambda given: given[0])  # fmt: skip
def test_whatever_the_command(server: Served, cli: Run, given: list[str]) -> None:
    verb, *more = given
    assert problem(cli(verb, *more, NOBODY, "--json"), 2)["type"] == "urn:orchestrator:problem:unknown-job"


def test_nobody_has_said_what_the_client_sees_itself(home: Path, cli: Run, tmp_path: Path) -> None:
    found = problem(cli("jobs", "--json"), 5)
    assert found["type"] == "urn:orchestrator:problem:no-server" and "status" not in found
    (file := tmp_path / "job.yaml").write_text("apiVersion: orchestrator.dev/v1alpha1\nkind: TrainingJob\nspec: {a: 1}")
    found = problem(cli("submit", "-f", str(file), "--json"), 4)
    assert found["type"] == "urn:orchestrator:problem:document-error" and found["detail"] == f"{file} is refused"
    assert {error["field"] for error in found["errors"]} >= {"spec.a"}


def test_what_is_not_honoured_yet_has_its_own_code(server: Served, cli: Run, tmp_path: Path) -> None:
    spec = "{run: {command: [a]}, data: [{name: c, at: /c}]}"
    (file := tmp_path / "job.yaml").write_text(
        f"apiVersion: orchestrator.dev/v1alpha1\nkind: TrainingJob\nspec: {spec}"
    )
    assert problem(cli("submit", "-f", str(file), "--json"), 3)["errors"][0]["field"] == "spec.data"
    told = cli("submit", "-f", str(file))
    assert told.exit_code == 3 and "spec.data" in told.stderr and "not honoured by this version yet" in told.stderr


def test_so_is_a_value_that_is_none(server: Served, cli: Run) -> None:
    found = problem(cli("run", "--workers", "many", "--json", "--", "a"), 2)
    assert found["type"] == "urn:orchestrator:problem:bad-parameter" and "'many'" in found["detail"]


def test_people_are_told_in_words(server: Served, cli: Run) -> None:
    told = cli("job", NOBODY)
    assert told.exit_code == 2 and told.stderr.startswith("error: ")
