"""The demo's job: runs at b because a is full; b loses it; a has room by then, is asked first, and resumes it.

Called by `demo.py` as `python play.py CONTEXT`, with the server's address and token in the environment. Ends with 0
once the job has succeeded at a.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.model.documents.views import ExplainView
from orchestrator.sdk import Client, Job, command_job

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
COMMAND = ["python", "train.py", "--steps", "400", "--checkpoint-every", "20", "--pause", "0.2"]
WORKERS = {"count": 2, "gpus": 1, "cpus": 1, "memory": "512Mi", "accelerator": ["H100"]}
LOSE_AFTER = 60
LONGEST_S = 900.0


def main(context: str) -> int:
    """The exit code."""
    with Client() as client:
        job = client.submit(
            command_job(COMMAND, folder=DIGITS, name="digits", workers=WORKERS, **{"class": "training"})
        )
        shown = Shown(job)
        shown.until(lambda view, step: view.job.provider == "b" and step >= LOSE_AFTER)
        print("── somebody else leaves team a's GPUs, and somebody deletes the RayJob at b", flush=True)
        kubectl(context, "delete", "pod", "somebody-else", "-n", "team-a", "--wait=true")
        kubectl(context, "delete", "rayjobs", "--all", "-n", "team-b", "--wait=false")
        view = shown.until(lambda view, _: view.job.ended)
    print(f"── {view.job.state} at {view.job.provider}", flush=True)
    return 0 if (view.job.state, view.job.provider) == ("succeeded", "a") else 1


class Shown:
    """A job, told line by line as it goes."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._told = 0

    def until(self, true: Callable[[ExplainView, int], bool]) -> ExplainView:
        """Tell what happens until this is so, or the job has ended, or patience has."""
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            view, progress = self._job.explain(), self._job.refresh().progress
            for line in view.lines[self._told :]:
                print(f"   {line.plain}", flush=True)
            self._told = len(view.lines)
            if true(view, (progress and progress.step) or 0) or view.job.ended:
                return view
            time.sleep(1)
        raise SystemExit(f"the job is still {self._job.state} after {LONGEST_S:.0f} s: {view.why}")


def kubectl(context: str, *words: str) -> None:
    """At the demo's cluster."""
    subprocess.run(["kubectl", "--context", context, *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
