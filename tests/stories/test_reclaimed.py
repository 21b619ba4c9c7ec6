"""Spot machines are taken back after a notice: what runs there saves just in time and goes on elsewhere, once."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.explain import timeline
from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import Reason
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.words import attempts, kinds, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

SPOT = do.Accepts(spot=True, price=900_000)
SAVES = Work(steps=60, checkpoint_every=25, saves_when_stopped=True, dies_after_s=2.0)
"""It would save at step 25; it is told to stop before."""


def taken(when: do.When, notice_s: float = 30.0, offers: int = 1) -> Script:
    return Script(offers=[SPOT] * offers, scenes=[do.Reclaims(when=when, notice_s=notice_s)])


def starts(world: World, job: str) -> list[tuple[int, int]]:
    return [(e.epoch, e.resumed_step) for e in world.events(job) if isinstance(e, ev.Started)]


@pytest.mark.fault("spot machines taken back")
async def test_a_notice_makes_it_save_and_go_on_behind_that_very_step(a_world) -> None:
    world = a_world({"azure": taken(do.AtStep(12)), "oracle": Script()}, work=SAVES)
    row = await ran(world, spot=True)
    assert (row.state, attempts(row)) == (JobState.SUCCEEDED, [("azure", "released"), ("oracle", "done")])
    last = max(w.step for w in world.site.witness if w.epoch == 1)
    assert starts(world, row.job) == [(1, 0), (2, last)] and 12 <= last < 25
    steps = [w.step for w in world.site.witness]
    assert steps == list(range(1, 61)), "no step is lost, none is done twice"
    assert (row.attempts[0].why, row.attempts[0].price) == ("reclaimed", 900_000)
    assert [a.why for a in row.avoid] == ["reclaimed"]


async def test_explain_names_the_notice(a_world) -> None:
    world = a_world({"azure": taken(do.AtStep(12)), "oracle": Script()}, work=SAVES)
    row = await ran(world, spot=True)
    told = [line.plain for line in timeline((0, e) for e in world.events(row.job))]
    assert "azure accepted on spot machines" in told
    assert "azure gives notice that it takes its machines back: asked to save and stop" in told
    assert "attempt at azure released: its machines were taken back, after a notice" in told


async def test_a_job_that_does_not_want_them_is_not_put_on_spot_machines(a_world) -> None:
    world = a_world({"azure": Script(offers=[SPOT]), "oracle": Script()})
    row = await ran(world)
    assert attempts(row) == [("oracle", "done")]
    [no] = [e for e in world.events(row.job) if isinstance(e, ev.OfferAnswered) and not e.accepted]
    assert (no.reason, no.detail) == (Reason.COUNTER, "spec")


async def test_user_code_that_saves_too_slowly_goes_on_from_its_last_checkpoint(a_world) -> None:
    """5 s of notice and a check of 2 s: it has less than the 3 s that it would take."""
    slow = Work(steps=60, checkpoint_every=10, saves_when_stopped=True, dies_after_s=3.0)
    world = a_world({"azure": taken(do.AtStep(12), notice_s=5.0), "oracle": Script()}, work=slow)
    row = await ran(world, spot=True)
    assert row.state is JobState.SUCCEEDED and starts(world, row.job) == [(1, 0), (2, 10)]


async def test_machines_that_are_gone_before_the_stop_was_read_are_replaced_behind_a_fence(a_world) -> None:
    world = a_world({"azure": taken(do.AtStep(12), notice_s=0.5), "oracle": Script()}, work=SAVES)
    row = await ran(world, spot=True)
    assert row.state is JobState.SUCCEEDED and attempts(row)[0] == ("azure", "fenced")


async def test_a_notice_to_machines_that_do_not_run_yet_starts_nothing_there(a_world) -> None:
    part = Script(offers=[SPOT], launches=[do.Starts(after_s=60)], scenes=[do.Reclaims(when=do.At(20))])
    world = a_world({"azure": part, "oracle": Script()}, work=SAVES)
    row = await ran(world, spot=True)
    assert attempts(row)[-1] == ("oracle", "done") and {run.epoch for run in world.site.runs} == {2}


async def test_a_holder_that_takes_its_spot_machines_back_is_offered_the_job_first_again(a_world) -> None:
    world = a_world({"oracle": Script(), "zeus": taken(do.AtStep(12), offers=2)}, first_right("zeus"), work=SAVES)
    row = await ran(world, spot=True)
    opened = [(e.provider, e.episode) for e in world.events(row.job) if isinstance(e, ev.OfferOpened)]
    assert opened == [("zeus", 1), ("zeus", 2)] and attempts(row) == [("zeus", "released"), ("zeus", "done")]


async def test_a_cancel_under_notice_is_a_cancel(a_world) -> None:
    world = a_world({"azure": taken(do.AtStep(12)), "oracle": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(spot=True))
        await asyncio.sleep(14.5)
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job, 60)
    assert row.state is JobState.CANCELLED and "ReclaimNoticed" in kinds(world, row.job)


async def test_a_server_that_was_away_for_the_notice_loses_no_more_than_an_interval(a_world) -> None:
    """Nobody told the attempt; its machines went, and the next one goes on from the last checkpoint."""
    often = Work(steps=60, checkpoint_every=5, saves_when_stopped=True)
    world = a_world({"azure": taken(do.AtStep(12)), "oracle": Script()}, work=often)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(spot=True))
        await asyncio.sleep(8)
    await asyncio.sleep(60)
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert row.state is JobState.SUCCEEDED and starts(world, row.job)[-1][0] == 2
