"""A real server and the real program: each may be away, and come back, and nothing is lost or done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator import Client
from orchestrator.rayhead.plan import free_ports
from tests.controller.conftest import UP_S, Controller, Space, condition, controlled, training_job, until
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]
BIG = {"count": 1, "gpus": 8, "accelerator": ["H100"]}  # more than this machine has: the job is held


@dataclass
class Server:
    """`orchestrator serve` as a process, offering this machine."""

    home: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "orchestrator.cli.main", "serve", f"--port={self.port}"]
        given = {**os.environ, "ORCHESTRATOR_HOME": str(self.home)}
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=given, stderr=log, stdout=log)
        until((self.home / "server.json").exists, "the server is up", UP_S)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None
            (self.home / "server.json").unlink(missing_ok=True)

    def client(self) -> Client:
        token = json.loads((self.home / "tokens.json").read_text())["tokens"][0]["token"]
        return Client(f"http://127.0.0.1:{self.port}", token)

    def jobs(self, project: str) -> list[str]:
        with self.client() as client:
            return [job.id for job in client.jobs(project=project)]


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


def test_kubectl_the_command_line_and_the_sdk_see_the_same_jobs(
    space: Space, real: Server, controller: Controller
) -> None:
    space.apply("held", workers=BIG)
    job = space.reaches("held", "held")["job"]
    listed = cli(real, "jobs", "--project", space.name, "--json")
    assert [one["id"] for one in json.loads(listed)] == [job] == real.jobs(space.name)
    cli(real, "cancel", job)
    assert space.reaches("held", "cancelled")["endedAt"]


def test_the_server_away_is_said_and_waited_for(space: Space, real: Server, controller: Controller) -> None:
    space.apply("known", workers=BIG)
    job = space.reaches("known", "held")["job"]
    real.end()
    space.apply("new", workers=BIG)
    until(lambda: condition(space.status("known"), "Synced").get("status") == "False", "it says so", 60)
    space.reaches("new", "pending")  # at first because it is about to be asked
    until(lambda: space.status("new").get("reason") == "server_unreachable", "it says why", 60)
    assert "job" not in space.status("new")
    real.start()
    assert space.reaches("new", "held", 60)["job"] != job
    until(lambda: condition(space.status("known"), "Synced")["status"] == "True", "both are told anew", 60)
    assert len(real.jobs(space.name)) == 2


def test_both_may_die_between_a_submission_and_its_answer(space: Space, real: Server, controller: Controller) -> None:
    for number in range(3):
        space.kubectl("create", "-f", "-", stdin=json.dumps(held(f"job-{number}")))
    controller.end(signal.SIGKILL)
    real.end()
    real.start()
    controller.start()
    ids = {space.reaches(f"job-{number}", "held", 60)["job"] for number in range(3)}
    assert len(ids) == 3 and set(real.jobs(space.name)) == ids


def test_deleting_while_the_server_is_away_waits_for_it(space: Space, real: Server, controller: Controller) -> None:
    space.apply("held", workers=BIG)
    job = space.reaches("held", "held")["job"]
    real.end()
    space.kubectl("delete", "trainingjob", "held", "--wait=false")
    until(lambda: condition(space.status("held"), "Synced").get("status") == "False", "it says so", 60)
    real.start()
    until(lambda: not space.kubectl("get", "trainingjobs", "-o", "name"), "it is gone", 60)
    with real.client() as client:
        assert client.job(job).view.state == "cancelled"


def test_what_the_server_never_heard_of_is_let_go_at_once(space: Space, real: Server, controller: Controller) -> None:
    space.apply("old", workers=BIG)
    job = space.reaches("old", "held")["job"]
    real.end()
    until(lambda: condition(space.status("old"), "Synced").get("status") == "False", "the controller knows", 60)
    space.apply("new", workers=BIG)
    space.reaches("new", "pending")
    space.kubectl("delete", "trainingjob", "new", "--timeout=20s")
    real.start()
    assert real.jobs(space.name) == [job]


def cli(server: Server, *arguments: str) -> str:
    given = {**os.environ, "ORCHESTRATOR_HOME": str(server.home)}
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout


def held(name: str) -> dict[str, object]:
    return training_job(name, {}, {"workers": BIG})


API_DOWN, API_UP = os.environ.get("KUBERNETES_TEST_API_DOWN"), os.environ.get("KUBERNETES_TEST_API_UP")


@pytest.mark.skipif(not (API_DOWN and API_UP), reason="not run: api: set KUBERNETES_TEST_API_DOWN and _UP")
def test_the_api_server_away_is_caught_up_with(space: Space, real: Server, controller: Controller) -> None:
    space.apply("held", workers=BIG)
    job = space.reaches("held", "held")["job"]
    assert API_DOWN and API_UP
    subprocess.run(API_DOWN, shell=True, check=True, timeout=60)
    cli(real, "cancel", job)
    subprocess.run(API_UP, shell=True, check=True, timeout=120)
    until(lambda: space.kubectl("get", "trainingjobs", check=False), "the API server is back", 60)
    assert space.reaches("held", "cancelled", 90)["job"] == job
