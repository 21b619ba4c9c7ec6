"""Getting at a job that runs on a real Ray: every rank's stacks, environment, output and ports, and nothing left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import Client, Job, command_job
from orchestrator.sdk.errors import Conflict, NotFound
from tests.e2e.here import served, until

pytestmark = [pytest.mark.ray, pytest.mark.heavy, pytest.mark.timeout(400)]

DRIVER = """
import os, time, ray
ray.init()
@ray.remote(num_cpus=0)
class Worker:
    def train_for_ever(self, rank):
        print(f"this is rank {rank}", flush=True)
        while True:
            time.sleep(0.1)
workers = [Worker.remote() for _ in range(2)]
print("driver is up", flush=True)
ray.get([worker.train_for_ever.remote(n + 1) for n, worker in enumerate(workers)])
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with served() as folder:
        yield folder


@pytest.fixture(scope="module")
def job(home: Path) -> Iterator[Job]:
    """One driver and two actors, all of them at work."""
    with Client() as client:
        made = client.submit(command_job(["python", "-c", DRIVER], folder=None))
        until(lambda: made.refresh().state == "running")
        until(lambda: len([v for v in stacks(made) if v.rank and "train_for_ever" in v.stacks]) == 2)  # 0: the driver
        yield made
        made.cancel()
        assert made.wait(timeout=60).state == "cancelled"
        with pytest.raises(Conflict):
            made.stacks()


def stacks(job: Job) -> list[Any]:
    try:
        return list(job.stacks())
    except NotFound as early:
        assert "no user code runs there now" in str(early)
        return []


def cli(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "orchestrator.cli.main", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)


def test_the_stacks_of_driver_and_actors_are_seen(job: Job) -> None:
    seen = job.stacks()
    assert [view.rank for view in seen] == [0, 1, 2] and not any(view.why for view in seen)
    assert "train_for_ever" in seen[1].stacks and "train_for_ever" in seen[2].stacks
    assert "<module>" in seen[0].stacks
    shown = cli("dump", job.id)
    assert shown.returncode == 0 and shown.stdout.count("train_for_ever") >= 2


def test_commands_run_beside_the_driver_and_beside_an_actor(job: Job) -> None:
    for rank in (0, 2):
        ran = cli("exec", job.id, "--rank", str(rank), "--", "sh", "-c", "echo $ORCHESTRATOR_JOB_ID; exit 9")
        assert (ran.stdout, ran.returncode) == (f"{job.id}\n", 9), ran.stderr
    assert cli("exec", job.id, "--rank", "3", "--", "true").returncode == 2


def test_an_actors_own_output_is_read_where_it_runs(job: Job) -> None:
    for rank in (1, 2):
        assert f"this is rank {rank}\n" in b"".join(job.output_of(rank)).decode() or rank_swapped(job, rank)
    assert "driver is up" in b"".join(job.output_of(0)).decode()


def rank_swapped(job: Job, rank: int) -> bool:
    """Actors are numbered as they start, which need not be the order in which they were asked for."""
    return f"this is rank {3 - rank}\n" in b"".join(job.output_of(rank)).decode()


def test_the_jobs_dashboard_is_brought_here_and_nothing_else_is(job: Job) -> None:
    token = cli("exec", job.id, "--", "printenv", "RAY_AUTH_TOKEN").stdout.strip()
    command = (sys.executable, "-m", "orchestrator.cli.main", "forward", job.id, "0:8265")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as forward:
        assert forward.stderr
        url = re.search(r"http://[0-9.:]+", forward.stderr.readline())[0]  # type: ignore[index]
        assert httpx.get(f"{url}/api/version").status_code == 401
        assert "ray_version" in httpx.get(f"{url}/api/version", headers={"Authorization": f"Bearer {token}"}).json()
        forward.send_signal(signal.SIGINT)
        assert forward.wait(20) == 130
    own = httpx.URL(job._client.url).port
    assert "nothing of this job listens" in cli("forward", job.id, str(own)).stderr


def test_a_command_ends_with_ctrl_c_and_with_its_client(job: Job) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        command = (sys.executable, "-m", "orchestrator.cli.main", "exec", job.id, "--", "sleep", f"71{number}")
        with subprocess.Popen(command, stdin=subprocess.PIPE) as ran:
            until(lambda n=number: sleeps(n), 20)  # type: ignore[misc]
            ran.send_signal(number)
            assert ran.wait(20) == code
        until(lambda n=number: not sleeps(n), 20)  # type: ignore[misc]


def sleeps(number: int) -> list[str]:
    found = [name for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in found if cmdline(pid) == f"sleep\x0071{number}\x00".encode()]


def cmdline(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
