"""A real training job grows while it runs: it saves, stops, and goes on behind that step with twice the workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Client, Job
from orchestrator.model.documents import job_from
from orchestrator.model.documents.views import JobView
from tests.e2e.here import served, until

pytestmark = [pytest.mark.ray, pytest.mark.heavy, pytest.mark.timeout(400)]

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
STEPS = 300
PROVIDERS = """
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {name: here}
spec:
  providers:
    local:
      adapter: local
      connection: {cpus: 2, gpus: 0, folder: FOLDER}
      regions: {here: EU}
      operatorJurisdiction: EU
      seal: 1
      accelerators: {}
  policies: {default: {isolation: {check: 1s, limit: 60s, grace: 20s}}}
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A server that offers this machine's two CPUs."""
    with served(PROVIDERS) as folder:
        yield folder


@pytest.fixture(scope="module")
def grown(home: Path) -> JobView:
    """The job at its end: it was scaled from one worker to two after some steps."""
    run = {
        "command": ["python", "train.py", f"--steps={STEPS}", "--checkpoint-every=25", "--pause=0.1"],
        "package": {"dir": str(DIGITS)},
        "environment": {"WITNESS_DIR": str(home / "witness"), "OMP_NUM_THREADS": "1"},
    }
    document = {"kind": "TrainingJob", "metadata": {"name": "digits"}, "spec": {"run": run, "workers": {"cpus": 1}}}
    with Client() as client:
        job = client.submit(job_from({"apiVersion": "orchestrator.dev/v1alpha1", **document}))
        until(lambda: seen(job) >= 10)
        assert "is running" in command("scale", job.id, "--workers", "2")
        return job.wait(timeout=240)


def seen(job: Job) -> int:
    progress = job.refresh().progress
    return progress.step or 0 if progress is not None else 0


def command(*arguments: str) -> str:
    ran = subprocess.run([sys.executable, "-m", "orchestrator.cli.main", *arguments], text=True,
                         capture_output=True, timeout=60, check=False)  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def steps(home: Path, epoch: int) -> dict[int, list[int]]:
    """rank → the steps that its own process swears to."""
    lines = [json.loads(line) for file in (home / "witness").iterdir() for line in file.read_text().splitlines()]
    ranks = {line["rank"] for line in lines if line["epoch"] == epoch}
    return {rank: sorted(s["step"] for s in lines if (s["epoch"], s["rank"]) == (epoch, rank)) for rank in ranks}


def test_it_goes_on_behind_the_step_at_which_it_stopped_with_two_workers(home: Path, grown: JobView) -> None:
    assert (grown.state, grown.workers, grown.next_workers) == ("succeeded", 2, None)
    assert [(a.how, a.why, a.workers) for a in grown.attempts] == [("released", "scaled", 1), ("done", "", None)]
    (alone,) = steps(home, 1).values()
    last = alone[-1]
    assert 10 <= last < STEPS and alone == list(range(1, last + 1))
    after = list(range(last + 1, STEPS + 1))
    assert steps(home, 2) == {0: after, 1: after}


def test_its_ledger_and_what_the_workers_saw_are_in_order(home: Path, grown: JobView) -> None:
    command("audit", "export", "-o", str(home / "ledger.jsonl"))
    said = json.loads(command("audit", "verify", str(home / "ledger.jsonl"), "--world", str(home), "--json"))
    judged = {one["sentence"]: one["judged"] for one in said["sentences"]}
    assert said["findings"] == [] and judged[43] > 0 and judged[10] > 0
    assert "to be larger: offered to local" in command("explain", grown.id)
