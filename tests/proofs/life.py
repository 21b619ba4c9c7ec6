"""What the proofs share: one stage, a job on it, and what is known of the job from outside the server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.cli.stage import Stage
from orchestrator.model.documents.views import ExplainView
from orchestrator.model.wire import StoreRef
from orchestrator.runlog.log import JobLog, read
from orchestrator.runlog.rules import RunLog
from orchestrator.runlog.store import open_store
from orchestrator.sdk import Client, Job
from orchestrator.sdk.errors import OrchestratorError

LIMIT_S, GRACE_S = 20.0, 3.0
"""Isolation of the scenario's policy."""


@dataclass
class Life:
    """A job on a stage."""

    stage: Stage
    client: Client
    job: Job
    witness: Path
    store: StoreRef
    started_at: float = field(default_factory=time.monotonic)

    def look(self) -> ExplainView | None:
        """The job as the server explains it; None while the server is away."""
        with suppress(OrchestratorError):
            return self.job.explain()
        return None

    def until(
        self, true: Callable[[ExplainView], object], seconds: float, act: Callable[[], object] = bool
    ) -> ExplainView:
        """Look until it is so; `act` is done at each look."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            act()
            view = self.look()
            if view is not None and true(view):
                return view
            assert view is None or not view.job.ended, f"the job ended first: {view.why}"
            time.sleep(0.3)
        raise AssertionError(f"not within {seconds:.0f} s; the job: {view and view.why}")

    def ended(self, seconds: float = 300) -> ExplainView:
        """Until the job has succeeded."""
        view = self.until(lambda view: view.job.ended, seconds)
        assert view.job.state == "succeeded", view.why
        return view

    def steps(self, epoch: int, rank: int = 0) -> list[dict[str, Any]]:
        """What user code of this epoch swears to, in order."""
        lines: list[dict[str, Any]] = []
        for file in sorted(self.witness.glob(f"{self.job.id}-e{epoch}-r{rank}-*.jsonl")):
            lines += [json.loads(text) for text in file.read_text().splitlines() if text.endswith("}")]
        return sorted(lines, key=lambda line: int(line["boot_ns"]))

    def step(self, epoch: int = 1) -> int:
        """The last step that this epoch began; 0 before the first."""
        return max((int(line["step"]) for line in self.steps(epoch)), default=0)

    def wait_for_step(self, step: int, epoch: int = 1, seconds: float = 180) -> int:
        """Until user code has reached the step; which it has reached by then."""
        deadline = time.monotonic() + seconds
        while (reached := self.step(epoch)) < step:
            assert time.monotonic() < deadline, f"step {reached} after {seconds:.0f} s, wanted {step}"
            time.sleep(0.02)
        return reached

    def log(self) -> RunLog:
        """The job's run log, read from its store."""
        return read(JobLog(open_store(self.store), "default", self.job.id)).state

    def disjoint(self, before: int, after: int) -> bool:
        """Whether the last step of one epoch came before the first of another, on every rank."""
        ends = [self.steps(before, rank)[-1]["boot_ns"] for rank in (0, 1)]
        starts = [self.steps(after, rank)[0]["boot_ns"] for rank in (0, 1)]
        return bool(max(ends) < min(starts))


def begin(stage: Stage, *arguments: str, store: StoreRef | None = None, name: str = "witness", **spec: object) -> Life:
    """Submit the scenario's job; `arguments` are added to its command, `spec` to its document."""
    client = stage.client()
    witness = stage.folder / name
    job = stage.submit(client, *arguments, environment={"WITNESS_DIR": str(witness)}, **spec)
    local = StoreRef(name="default", url=(stage.folder / "home" / "store").as_uri())
    return Life(stage, client, job, witness, store or local)


def running_at(provider: str) -> Callable[[ExplainView], bool]:
    """Whether the job runs there now."""
    return lambda view: view.job.state == "running" and view.job.provider == provider


def journal(path: Path) -> list[Mapping[str, Any]]:
    """A cloud's journal or its forwarder's log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def log_entry(line: Mapping[str, Any]) -> bool:
    """Whether a forwarder's line is a put into a run log."""
    return line["method"] == "PUT" and bool(re.search(r"/log/\d{8}", str(line["path"])))
