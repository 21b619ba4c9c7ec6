from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli.main import app
from tests.served import Served, served

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ORCHESTRATOR_URL", "ORCHESTRATOR_TOKEN", "ORCHESTRATOR_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(folder))
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("print('step 1 loss 0.5')\n")
    monkeypatch.chdir(code)
    return folder


@pytest.fixture
def server(home: Path) -> Iterator[Served]:
    """Jobs wait for what the test tells."""
    with served(home) as running:
        yield running


@pytest.fixture
def lively(home: Path) -> Iterator[Served]:
    """Jobs run to their end by themselves."""
    with served(home, plays=True) as running:
        yield running


@pytest.fixture
def cli() -> Run:
    return lambda *arguments: CliRunner().invoke(app, list(arguments))
