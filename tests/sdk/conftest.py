from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Client
from tests.served import Served, served


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in ("ORCHESTRATOR_URL", "ORCHESTRATOR_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with Client() as found:
        yield found
