"""One job's whole life on virtual time."""

from __future__ import annotations

import looptime  # noqa: F401
import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.scripts import Script

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DECLINES = Script(offers=[do.Declines(for_s=300), do.Declines(for_s=300)])
OUTAGE = Script(scenes=[do.Unreachable(when=do.AtStep(7)), do.DataCut(when=do.AtStep(7))])


def kinds(world: World, job: str) -> list[str]:
    return [ev.kind_of(e) for e in world.events(job)]


async def test_a_happy_life_has_eight_events() -> None:
    world = World({"azure": Script()})
    async with world.server() as server:
        row, created = await server.desk.submit(submission())
        assert created
        row = await until_over(server, row.job)
    assert row.state is JobState.SUCCEEDED
    assert kinds(world, row.job) == [
        "Submitted", "OfferOpened", "OfferDelivered", "OfferAnswered", "Intended", "Confirmed", "Started", "Ended",
    ]  # fmt: skip


async def test_the_demo_story() -> None:
    world = World({"azure": DECLINES, "coreweave": OUTAGE, "oracle": Script()}, first_right("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
    assert row.state is JobState.SUCCEEDED
    assert [(a.provider, a.how) for a in row.attempts] == [("coreweave", "fenced"), ("oracle", "done")]
    started = [e for e in world.events(row.job) if isinstance(e, ev.Started)]
    assert started[1].resumed_step == 5
