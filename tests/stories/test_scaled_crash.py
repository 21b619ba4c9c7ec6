"""A scale of what runs, and of what is being launched, crashed after every commit, append to the run log, and call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.ports.desk import Busy
from orchestrator.simulate.crash import Crash, Points, watched
from orchestrator.simulate.world import Server, World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.conftest import check
from tests.stories.words import kinds, on_virtual_time

SOME = 12
"""Points tried by default, spread over the whole story; `--crash-at=all` tries every one."""
GROWTHS = first_right("zeus", select={"trigger": ["scale_up"]})
TWO = {"count": 2, "gpus": 1, "accelerator": ["H100"]}

Story = Callable[[Points], Awaitable[tuple[World, JobRow]]]
When = Callable[[World, Server], Awaitable[None]]


async def grown(points: Points) -> tuple[World, JobRow]:
    """A job runs, is to grow, and is offered to the holder of growths."""
    work = Work(steps=30, checkpoint_every=25, saves_when_stopped=True, dies_after_s=2.0)
    world = World({"oracle": Script(), "zeus": Script()}, GROWTHS, work)
    return await wished(points, world, at_some_step)


async def launched(points: Points) -> tuple[World, JobRow]:
    """A job is being launched, slowly, when it is given another size: no attempt of the old one ever starts."""
    slow = Script(launches=[do.Starts(after_s=20)])
    return await wished(points, World({"oracle": slow, "zeus": Script()}, GROWTHS, Work(steps=15)), in_launch)


async def wished(points: Points, world: World, when: When) -> tuple[World, JobRow]:
    """A job of two workers that is scaled to four at that moment; whoever asked asks again after a crash."""
    watched(world, points)
    while True:
        points.revive()
        try:
            async with world.server() as server:
                row, _ = await server.desk.submit(submission("once", workers=TWO))
                await when(world, server)
                row = await server.desk.job(row.job)
                if row.ended_at is None and row.size is None:
                    await server.desk.scale(row.job, 4, 0, "me")
                return world, await until_over(server, row.job)
        except (Crash, Busy):
            if not points.dead:
                raise


async def in_launch(world: World, server: Server) -> None:
    while not world.providers["oracle"].machines.launches:
        await alive(server)


async def at_some_step(world: World, server: Server) -> None:
    while not any(w.step == 12 for w in world.site.witness):
        await alive(server)


async def alive(server: Server) -> None:
    if server.engine.failed is not None:
        raise server.engine.failed
    await asyncio.sleep(0.5)


def live(story: Story, points: Points) -> Counter[str]:
    world, row = on_virtual_time(story(points))
    opened = [(e.provider, e.trigger) for e in world.events(row.job) if isinstance(e, ev.OfferOpened)]
    then = ("zeus", "scale_up") if story is grown else ("oracle", "new")
    assert (row.state, kinds(world, row.job).count("Scaled")) == (JobState.SUCCEEDED, 1)
    assert opened == [("oracle", "new"), then]
    assert [(a.provider, a.workers) for a in row.attempts] == [("oracle", 2), (then[0], None)]
    check(world)
    return points.passed


@pytest.mark.fault("crash between any two appends and around every provider call")
@pytest.mark.parametrize("story", [grown, launched])
def test_a_crash_at_some_points_changes_nothing_but_time(story: Story) -> None:
    total = sum(live(story, Points()).values())
    for at in range(1, total, total // SOME):
        live(story, Points(at))


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("story", [grown, launched])
def test_a_crash_at_every_point_changes_nothing_but_time(pytestconfig: pytest.Config, story: Story) -> None:
    wanted = pytestconfig.getoption("crash_at")
    passed = live(story, Points())
    for at in range(1, sum(passed.values()) + 1) if wanted == "all" else [int(wanted)]:
        live(story, Points(at))
