"""A real training job by kubectl: packed, applied, trained on this machine by a real Ray, seen by everybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.conftest import Controller, Space, condition, controlled, until
from tests.controller.test_absence import Server, cli
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.heavy, pytest.mark.kubernetes, pytest.mark.ray, pytest.mark.timeout(700)]
SLOW = 300.0
CODE = """
import sys, time
from orchestrator import training
for step in range(1, 4):
    training.report(step=step, loss=1 / step)
    print("step", step, flush=True)
while "--long" in sys.argv:
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("real"))
    found.start()
    yield found
    found.end()


@pytest.fixture(scope="module")
def controller(cluster: Cluster, real: Server) -> Iterator[Controller]:
    with controlled(cluster, real.home) as running:
        yield running


@pytest.fixture
def packed(real: Server, space: Space, tmp_path: Path) -> str:
    """The digest of uploaded code."""
    (tmp_path / "train.py").write_text(CODE)
    return cli(real, "pack", str(tmp_path), "--project", space.name).strip()


def test_packed_applied_trained(space: Space, real: Server, controller: Controller, packed: str) -> None:
    space.apply("digits", run={"command": ["python", "train.py"], "package": {"digest": packed}}, maxRuntime="10m")
    status = space.reaches("digits", "succeeded", SLOW)
    assert (status["provider"], status["attempt"], status["step"]) == ("local", 1, 3)
    assert "step 3" in cli(real, "logs", status["job"])
    assert json.loads(cli(real, "job", status["job"], "--json"))["name"] == "digits"
    space.kubectl("wait", "--for=condition=Complete", "trainingjob/digits", "--timeout=5s")


def test_a_running_job_outlives_everybody_and_is_ended_by_delete(
    space: Space, real: Server, controller: Controller, packed: str
) -> None:
    command = ["python", "train.py", "--long"]
    space.apply("digits", run={"command": command, "package": {"digest": packed}})
    before = space.reaches("digits", "running", SLOW)
    controller.end()
    real.end()
    real.start()
    controller.start()
    until(lambda: condition(space.status("digits"), "Synced").get("status") == "True", "it is told anew", 60)
    after = space.status("digits")
    assert (after["state"], after["job"], after["attempt"]) == ("running", before["job"], 1)
    space.kubectl("delete", "trainingjob", "digits", f"--timeout={SLOW:.0f}s")
    with real.client() as client:
        view = client.job(before["job"]).view
    assert (view.state, view.ending) == ("cancelled", False)
    assert len(view.attempts) == 1 and real.jobs(space.name) == [before["job"]]
