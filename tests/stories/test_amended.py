"""A contract set that came into force while jobs were waiting or running: who is asked from then on?"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.cli.audit import audit
from orchestrator.engine.intake import intake
from orchestrator.engine.wiring import Wiring
from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from tests.stories.words import kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

VISION_ONLY = {"labels": {"team": ["vision"]}}
VISION = first_right("azure", select=VISION_ONLY)
"""A right to what nobody selected on before."""


def gated(world: World, job: str) -> list[tuple[str, str]]:
    return [(e.provider, e.clause) for e in world.events(job) if isinstance(e, ev.OfferOpened)]


@pytest.mark.parametrize("waited", [0.001, 5, 50])
async def test_a_right_that_selects_on_another_label_holds_for_jobs_that_were_waiting(a_world, waited) -> None:
    nothing = Script(offers=[do.Declines(after_s=1, for_s=40)] * 3)
    world = a_world({"oracle": nothing, "azure": nothing}, work=Work(steps=20))
    async with world.server() as server:
        mine, _ = await server.desk.submit(submission(labels={"team": "vision"}))
        other, _ = await server.desk.submit(submission(labels={"team": "speech"}))
        await asyncio.sleep(waited)
    world.agree(VISION)
    async with world.server() as server:
        mine, other = [await until_over(server, row.job) for row in (mine, other)]
    assert mine.state is other.state is JobState.SUCCEEDED
    assert ("azure", "agreement/rofr") in gated(world, mine.job)
    assert "Reshaped" in kinds(world, mine.job)
    assert {clause for _, clause in gated(world, other.job)} == {""}


async def test_a_running_job_that_loses_its_machines_meets_the_new_right(a_world) -> None:
    oracle = Script(scenes=[do.Kills(when=do.At(12))])
    world = a_world({"oracle": oracle, "azure": Script()}, work=Work(steps=40))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(labels={"team": "vision"}))
        await asyncio.sleep(6)
    world.agree(VISION)
    async with world.server() as server:
        await until_over(server, row.job)
    assert gated(world, row.job) == [("oracle", ""), ("azure", "agreement/rofr")]


class Blind(World):
    """Its server takes jobs in without looking at their labels."""

    def wiring(self) -> Wiring:
        return replace(super().wiring(), intake=intake(None, self._provider_set))


async def test_the_audit_reads_the_labels_by_itself() -> None:
    world = Blind({"oracle": Script(), "azure": Script()}, first_right("oracle", select=VISION_ONLY))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(labels={"team": "vision"}))
        await until_over(server, row.job)
    assert 1 in {finding.sentence for finding in audit(MemoryLedger(world.disk).snapshot()).findings}
