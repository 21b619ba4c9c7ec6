"""A growth, crashed after every commit, after every append to the run log, before and after every call."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.ports.desk import Busy
from orchestrator.simulate.crash import Crash, Points, watched
from orchestrator.simulate.world import Server, World, first_right, submission, until_over
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.conftest import check
from tests.stories.words import kinds, on_virtual_time

SOME = 12
"""Points tried by default, spread over the whole story; `--crash-at=all` tries every one."""
TWO = {"count": 2, "gpus": 1, "accelerator": ["H100"]}


async def grown(points: Points) -> tuple[World, JobRow]:
    """A job runs, is to grow, and is offered to the holder of growths; whoever asked asks again after a crash."""
    work = Work(steps=30, checkpoint_every=25, saves_when_stopped=True, dies_after_s=2.0)
    clause = {"select": {"trigger": ["scale_up"]}}
    world = World({"oracle": Script(), "zeus": Script()}, first_right("zeus", **clause), work)
    watched(world, points)
    while True:
        points.revive()
        try:
            async with world.server() as server:
                row, _ = await server.desk.submit(submission("once", workers=TWO))
                await at_step(world, server, 12)
                if row.ended_at is None:
                    await server.desk.scale(row.job, 4, 0, "me")
                return world, await until_over(server, row.job)
        except (Crash, Busy):
            if not points.dead:
                raise


async def at_step(world: World, server: Server, step: int) -> None:
    while not any(w.step == step for w in world.site.witness):
        if server.engine.failed is not None:
            raise server.engine.failed
        await asyncio.sleep(0.5)


def live(points: Points) -> Counter[str]:
    world, row = on_virtual_time(grown(points))
    assert (row.state, kinds(world, row.job).count("Scaled")) == (JobState.SUCCEEDED, 1)
    opened = [(e.provider, e.trigger) for e in world.events(row.job) if isinstance(e, ev.OfferOpened)]
    assert opened == [("oracle", "new"), ("zeus", "scale_up")]
    assert [(a.provider, a.workers) for a in row.attempts] == [("oracle", 2), ("zeus", None)]
    check(world)
    return points.passed


@pytest.mark.fault("crash between any two appends and around every provider call")
def test_a_crash_at_some_points_changes_nothing_but_time() -> None:
    total = sum(live(Points()).values())
    for at in range(1, total, total // SOME):
        live(Points(at))


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_a_crash_at_every_point_changes_nothing_but_time(pytestconfig: pytest.Config) -> None:
    wanted = pytestconfig.getoption("crash_at")
    passed = live(Points())
    for at in range(1, sum(passed.values()) + 1) if wanted == "all" else [int(wanted)]:
        live(Points(at))
