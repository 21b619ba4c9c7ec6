"""Many objects at once: each makes one job and is told once, by a controller that sees lives pass in a moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Client
from tests.controller.conftest import Space, controlled, training_job, until
from tests.kubernetes.cluster import Cluster
from tests.served import TOKEN, served

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]


def test_many_at_once_are_each_told_once(cluster: Cluster, space: Space, lively: Path) -> None:
    items = [training_job(f"load-{number}", {}, {}) for number in range(40)]
    space.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    rows = "jsonpath={range .items[*]}{.status.machines} {end}"
    until(lambda: space.kubectl("get", "trainingjobs", "-o", rows).split() == ["gone"] * 40, "all are over", 60)
    events = until(lambda: len(found := all_told(space)) >= 280 and found, "all is told")
    assert len(events) == len(set(events)) == 280
    assert len(jobs_of(lively, space.name)) == 40


@pytest.fixture
def lively(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A server whose jobs run to their ends by themselves, and a controller of its own."""
    with served(tmp_path, plays=True), controlled(cluster, tmp_path):
        yield tmp_path


def all_told(space: Space) -> list[tuple[str, str]]:
    items = space.cluster.get(f"--namespace={space.name}", "events")["items"]
    return [(item["involvedObject"]["name"], item["message"]) for item in items]


def jobs_of(home: Path, project: str) -> list[str]:
    with Client(json.loads((home / "server.json").read_text())["url"], TOKEN) as client:
        return [job.id for job in client.jobs(project=project)]
