"""`deploy/make_tokens.py` makes a tokens file that the server takes, with tokens for some projects where asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from orchestrator.api.access import Scope, parse_tokens

SCRIPT = Path(__file__).parents[2] / "deploy" / "make_tokens.py"


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_a_team_s_token_is_good_for_its_projects_and_the_others_for_all() -> None:
    said = json.loads(made("--team", "vision=team-a,team-b").stdout)["stringData"]
    callers = {caller.name: caller for caller in parse_tokens(said["tokens.json"], "it").values()}
    assert {name for name, caller in callers.items() if caller.projects is None} == {"owner", "controller", "viewer"}
    assert callers["vision"].projects == {"team-a", "team-b"}
    assert callers["vision"].scopes == {Scope.VIEWER, Scope.SUBMITTER} and len(said["vision"]) >= 32


def test_a_supplier_s_token_answers_for_it_and_nothing_else() -> None:
    said = json.loads(made("--supplier", "azure-sales=azure").stdout)["stringData"]
    callers = {caller.name: caller for caller in parse_tokens(said["tokens.json"], "it").values()}
    assert (callers["azure-sales"].scopes, callers["azure-sales"].provider) == ({Scope.PROVIDER}, "azure")
    assert made("--supplier", "azure").returncode == 2 and made("--supplier", "owner=azure").returncode == 2


def test_a_team_that_makes_no_sense_is_refused() -> None:
    for team in ("vision", "=team-a", "vision=", "vision=a,,b", "owner=a"):
        done = made("--team", team)
        assert done.returncode == 2 and not done.stdout, team
