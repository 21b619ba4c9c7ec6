"""What the list of commands says of each, without loading any."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from orchestrator.cli.commands import COMMANDS, DOES
from orchestrator.cli.main import loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_in_the_first_words_of_its_own_help(name: str) -> None:
    first, _, _ = inspect.cleandoc(loaded(name).help).partition("\n\n")
    assert DOES[name] == " ".join(first.split())


def test_listing_them_loads_none() -> None:
    heard = [sys.executable, "-X", "importtime", "-m", "orchestrator.cli.main", "--help"]
    told = subprocess.run(heard, check=True, capture_output=True, text=True)
    assert all(name in told.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"pydantic", "httpx", "fastapi", "sqlalchemy", "orchestrator.sdk", "orchestrator.core"}
