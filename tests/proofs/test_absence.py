"""prove-absence: neither server nor store must be there for a job to go on, and the server may die at any time."""

from __future__ import annotations

import random
import time

import pytest

from orchestrator.cli.play import LOST_CLOUD, OUTAGE_AFTER, audit
from orchestrator.cli.stage import Stage
from orchestrator.model.documents.views import ExplainView
from tests.proofs.conftest import Bucket
from tests.proofs.life import LIMIT_S, Life, begin, running_at

KILLS, LEAST_APART_S, MOST_APART_S = 20, 3.0, 7.0
MOST_IN_A_PHASE = 6
PHASES = ("offering", "launching", "running", "unknown", "recovering")


def undisturbed(view: ExplainView) -> bool:
    """One attempt, and never a doubt about it."""
    return len(view.job.attempts) == 1 and not [line for line in view.lines if line.kind in ("WentUnknown", "Fenced")]


def test_a_dead_server_is_not_noticed(stage: Stage) -> None:
    life = begin(stage, "--pause", "0.25")
    life.until(running_at("coreweave"), 180)
    life.wait_for_step(20)
    stage.parts["server"].kill()
    away = time.monotonic()
    deadline = away + 240
    while life.log().done is None:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert time.monotonic() - away > LIMIT_S and life.step() == 240
    print(f"the server was away for {time.monotonic() - away:.0f} s, limit {LIMIT_S:.0f} s; the job ended meanwhile")
    stage.restart_server()
    assert undisturbed(life.ended())


@pytest.mark.fault("checkpoint store down")
def test_a_store_that_is_away_for_half_the_limit_stops_nothing(far_stage: Stage, s3: Bucket) -> None:
    far_stage.start_clouds()
    far_stage.start_server()
    life = begin(far_stage, "--pause", "0.15", store=s3.ref)
    life.until(running_at("coreweave"), 180)
    life.wait_for_step(30)
    s3.away(LIMIT_S / 2)
    view = life.ended()
    assert len(view.job.attempts) == 1 and life.step() == 240


def phase_of(view: ExplainView) -> str:
    """What the job is going through; `recovering` from the loss of an attempt until the next one runs."""
    if view.job.state == "running":
        return "unknown" if view.job.attempts[-1].state == "unknown" else "running"
    return "recovering" if view.job.episode > 1 and not view.job.ended else view.job.state


class Murders:
    """Kills the server and starts it again, at moments drawn from a seed, and in every phase at least once."""

    def __init__(self, life: Life, seed: int) -> None:
        self.life, self.draw = life, random.Random(seed)
        self.done: list[str] = []
        self.last = self.due = time.monotonic()
        self.outage = False

    def __call__(self) -> None:
        """Do what is due now."""
        view = self.life.look()
        if view is None:
            return
        if not self.outage and self.life.step() >= OUTAGE_AFTER:
            self.outage = True
            self.life.stage.switches(LOST_CLOUD).put("/outage", {"kill": True})
        phase = phase_of(view)
        now = time.monotonic()
        new = phase not in self.done and now >= self.last + LEAST_APART_S
        kept = len({*PHASES} - {*self.done, phase})  # one for every other phase that is still to come
        wanted = phase in PHASES and self.done.count(phase) < MOST_IN_A_PHASE and len(self.done) + kept < KILLS
        if wanted and (now >= self.due or new):
            self.life.stage.parts["server"].kill()
            self.life.stage.restart_server()
            self.done.append(phase)
            self.last = time.monotonic()
            self.due = self.last + self.draw.uniform(LEAST_APART_S, MOST_APART_S)


@pytest.mark.fault("crash between any two appends and around every provider call")
def test_a_server_killed_twenty_times(stage: Stage, seed: int) -> None:
    life = begin(stage, "--pause", "0.4")
    murders = Murders(life, seed)
    view = life.until(lambda view: view.job.ended, 900, murders)
    print(f"killed {len(murders.done)} times, in: {', '.join(murders.done)}")
    assert view.job.state == "succeeded"
    assert len(murders.done) == KILLS and set(PHASES) <= set(murders.done)
    assert life.disjoint(1, 2)
    stage.parts["server"].stop()
    events, violations = audit(stage)
    print(f"audit: {events} events, {violations} violations")
    assert violations == 0
