"""The demo's story, crashed after every commit, after every append to the run log, before and after every call."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.model.job import JobState
from orchestrator.simulate.crash import Points, lived_through
from orchestrator.simulate.world import World, first_right, submission
from orchestrator.testing import scripts as do
from orchestrator.testing.scripts import Script
from tests.stories.conftest import check
from tests.stories.words import on_virtual_time

SOME = 12
"""Points tried by default, spread over the whole story; `--crash-at=all` tries every one."""


def the_demo() -> World:
    declines = Script(offers=[do.Declines(for_s=300)] * 9)
    outage = Script(scenes=[do.Unreachable(when=do.AtStep(7)), do.DataCut(when=do.AtStep(7))])
    return World({"azure": declines, "coreweave": outage, "oracle": Script()}, first_right("azure"))


def live(points: Points) -> None:
    world, row = on_virtual_time(lived_through(the_demo, submission("demo"), points))
    assert row.state is JobState.SUCCEEDED
    assert [a.provider for a in row.attempts if a.how != "rejected"][-1] == "oracle"
    check(world)


def counted() -> Counter[str]:
    points = Points()
    live(points)
    return points.passed


@pytest.mark.fault("crash between any two appends and around every provider call")
def test_a_crash_at_some_points_changes_nothing_but_time() -> None:
    total = sum(counted().values())
    for at in range(1, total, total // SOME):
        live(Points(at))


@pytest.mark.fault("crash between any two appends and around every provider call")
@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_a_crash_at_every_point_changes_nothing_but_time(pytestconfig: pytest.Config) -> None:
    wanted = pytestconfig.getoption("crash_at")
    passed = counted()
    print("crash points:", ", ".join(f"{count} {kind}" for kind, count in passed.items()))
    for at in range(1, sum(passed.values()) + 1) if wanted == "all" else [int(wanted)]:
        live(Points(at))
