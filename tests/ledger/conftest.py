from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.ledger.sql.database import Place


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    from tests.ledger.postgres import cluster

    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has a limit
    with cluster(folder) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Gives a place at which no ledger is yet, each time another."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").new
    names = itertools.count()
    return lambda: tmp_path / f"{next(names)}.db"
