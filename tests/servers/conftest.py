from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.conftest import postgres
from tests.ledger.postgres import Cluster
from tests.servers.pair import Replica, Start

__all__ = ["postgres"]


@pytest.fixture
def start(tmp_path: Path, postgres: Cluster) -> Iterator[Start]:
    """Starts servers of one database; the first leads."""
    url, made = postgres.new(), list[Replica]()

    def one(place: str = url, **environment: str) -> Replica:
        made.append(Replica(tmp_path / f"home-{len(made)}", tmp_path / "shared", place, **environment))
        made[-1].place = url
        return made[-1].up()

    yield one
    for replica in made:
        replica.end()
