"""The demo's play: a job is offered, declined, accepted, trained, cut off, offered again, resumed and finished.

Called by `orchestrator demo` as `python -m orchestrator.cli.play FOLDER` under the guardian. It sets the stage, submits
the job, causes the outage once there is something to lose, shows what happens, ends with timeline, bill and audit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from orchestrator.cli.show import Show, summary
from orchestrator.cli.stage import PYTHON, Stage, StageError
from orchestrator.cli.timeline import draw_view
from orchestrator.model.documents.views import ExplainView
from orchestrator.sdk import Job

STEPS = 240
LOST_CLOUD = "coreweave"
OUTAGE_AFTER = 90
"""The outage strikes once so many steps are trained; there is a checkpoint after every 20."""
LOOK_S = 0.4
MARK = ".made-by-orchestrator-demo"
LONGEST_S = 600.0


def play(folder: Path, console: Console) -> int:
    """The whole demo; 0 when the job is done and the audit is clean."""
    clear(folder)
    console.print("[bold]Orchestrator demo[/]: three clouds, one agreement, one training job, one outage")
    with Stage(folder) as stage:
        console.print("  starting azure, coreweave and oracle (mock clouds) and a server …", style="dim")
        stage.start_clouds()
        stage.start_server()
        console.print("  azure has the right of first refusal on training; the others are the market", style="dim")
        with stage.client() as client, Show(console, STEPS) as show:
            job = stage.submit(client, environment={"WITNESS_DIR": str(folder / "witness")})
            view = follow(job, show, Outage(stage, show))
        summary(console, view, gpus=8)
        return 0 if leave(stage, view, console) and view.job.state == "succeeded" else 1


def clear(folder: Path) -> None:
    """Empty the folder, if it is ours to empty. Raises StageError."""
    mark = folder / MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise StageError(f"{folder} holds something that is not a demo's; name another with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.touch()


class Outage:
    """Takes a whole cloud away once the job has something to lose, and brings it back when the job runs elsewhere."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self._stage, self._show = stage, show
        self.struck = self.over = False

    def __call__(self, view: ExplainView, step: int) -> None:
        """Look at the job and do what is due."""
        if not self.struck and view.job.provider == LOST_CLOUD and step >= OUTAGE_AFTER:
            self.struck = True
            self._stage.switches(LOST_CLOUD).put("/outage", {"kill": True})
            self._show.say(f"── outage: all of {LOST_CLOUD} goes dark at step {step} ──", "bold red")
        resumed = any(line.kind == "Started" and line.provider != LOST_CLOUD for line in view.lines)
        if self.struck and not self.over and resumed:
            self.over = True
            self._stage.switches(LOST_CLOUD).put("/join")
            self._show.say(f"── {LOST_CLOUD} is back; nothing of this job may run there any more ──")


def follow(job: Job, show: Show, act: Callable[[ExplainView, int], None]) -> ExplainView:
    """Show the job and let `act` look at it, until it has ended."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        view, progress = job.explain(), job.refresh().progress
        show.update(view, progress)
        if view.job.ended:
            return view
        act(view, (progress and progress.step) or 0)
        time.sleep(LOOK_S)
    raise StageError(f"the job is still {job.state} after {LONGEST_S:.0f} s")


def leave(stage: Stage, view: ExplainView, console: Console) -> bool:
    """Stop the server, audit what it wrote, draw the timeline; whether the audit is clean."""
    drawing = stage.folder / "timeline.svg"
    drawing.write_text(draw_view(view))
    (stage.folder / "timeline.txt").write_text("".join(f"{line.plain}\n" for line in view.lines))
    stage.parts["server"].stop()
    events, violations = audit(stage)
    disputed = [cloud for cloud in stage.clouds if not agrees(stage, cloud)]
    console.print()
    console.print(
        f"audit: {events} events, {violations} violations", style="bold green" if not violations else "bold red"
    )
    told = (
        f"receipts: {', '.join(disputed)} kept other ones" if disputed else "receipts: every cloud's own agree with it"
    )
    console.print(told, style="bold red" if disputed else "bold green")
    console.print(f"  picture: {drawing}    ledger and logs: {stage.folder}", style="dim")
    return violations == 0 and not disputed


def audit(stage: Stage) -> tuple[int, int]:
    """Events and violations, as the auditor counts them from the ledger and from what was written where things ran."""
    exported = stage.folder / "audit.jsonl"
    _orchestrator("audit", "export", "--ledger", str(stage.folder / "home" / "ledger.db"), "--out", str(exported))
    found = json.loads(_orchestrator("audit", "verify", str(exported), "--world", str(stage.folder), "--json"))
    return int(found["events"]), int(found["violations"])


def agrees(stage: Stage, cloud: str) -> bool:
    """Whether the ledger and what this cloud has kept of its offers tell the same; by a program that knows neither."""
    command = [*PYTHON, "orchestrator.verify", str(stage.folder / "audit.jsonl")]
    kept = ["--receipts", str(stage.folder / cloud / "receipts.jsonl")]
    return subprocess.run([*command, *kept], capture_output=True, timeout=120, check=False).returncode == 0


def _orchestrator(*arguments: str) -> str:
    """What a command of ours says. Raises StageError where it says nothing."""
    command = [*PYTHON, "orchestrator.cli.main", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if not ran.stdout and ran.returncode:
        raise StageError(f"`orchestrator {' '.join(arguments[:2])}` failed: {ran.stderr[-600:]}")
    return ran.stdout


def main(folder: Path) -> int:
    """Play on this process's standard output."""
    console = Console()
    try:
        return play(folder, console)
    except StageError as error:
        console.print(f"the demo could not go on: {error}", style="bold red", highlight=False)
        return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
