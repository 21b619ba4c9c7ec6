"""A divisible job of which a block takes a part, crashed after every commit, append to the run log, and call."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.model.job import JobRow, JobState
from orchestrator.ports.desk import Busy
from orchestrator.simulate.crash import LIVES_MOST, Crash, Points, watched
from orchestrator.simulate.world import World, submission
from orchestrator.testing.agents import Work
from tests.stories.agreements import right, told
from tests.stories.conftest import check
from tests.stories.test_divisible import EIGHT, parts, sizes, takes
from tests.stories.test_owned import block, three
from tests.stories.words import attempts, on_virtual_time

SOME = 12
"""Points tried by default, spread over the whole story; `--crash-at=all` tries every one."""


async def divided(points: Points) -> tuple[World, list[JobRow]]:
    """Of a block with room for six its owner takes four; the holder of a first right takes what is left."""
    world = World(**three(right(), block(gpus=6), yves=takes(4)), work=Work(steps=15))
    watched(world, points)
    for _ in range(LIVES_MOST):
        points.revive()
        try:
            async with world.server() as server:
                row, _ = await server.desk.submit(submission("once", divisible=True, workers=EIGHT))
                return world, await parts(server, row.job)
        except (Crash, Busy):
            if not points.dead:
                raise
    raise AssertionError("it crashes by itself")


def live(points: Points) -> Counter[str]:
    world, rows = on_virtual_time(divided(points))
    assert [(row.state, attempts(row)[-1]) for row in rows] == [
        (JobState.SUCCEEDED, ("yves", "done")), (JobState.SUCCEEDED, ("zeus", "done"))
    ]  # fmt: skip
    mine, rest = rows
    assert [row.attempts[-1].block for row in rows] == ["yves/b", ""]
    assert ({*sizes(world, "yves")}, {*sizes(world, "zeus")}) == ({(mine.job, 4)}, {(rest.job, 4)})
    assert (told(world, mine.job), told(world, rest.job)) == (["yves"], ["zeus"])
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
