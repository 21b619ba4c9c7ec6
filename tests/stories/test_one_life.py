"""One job's whole life on virtual time, from a yes at once to a failover across an outage."""

from __future__ import annotations

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.simulate.world import first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.words import FINISHED_BELOW, attempts, kinds, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DECLINES = Script(offers=[do.Declines(for_s=300), do.Declines(for_s=300)])
OUTAGE = Script(scenes=[do.Unreachable(when=do.AtStep(7)), do.DataCut(when=do.AtStep(7))])
HOLDER = first_right("azure")


async def test_a_happy_life_has_eight_events(a_world) -> None:
    world = a_world({"azure": Script()})
    row = await ran(world)
    assert row.state is JobState.SUCCEEDED
    assert kinds(world, row.job) == [
        "Submitted", "OfferOpened", "OfferDelivered", "OfferAnswered", "Intended", "Confirmed", "Started", "Ended",
    ]  # fmt: skip
    assert sum(len(e.body or b"") for e in world.disk.events if e.job) <= 3 * 1024


async def test_a_launch_is_ordered_at_the_price_that_was_accepted(a_world) -> None:
    """More is billed than was shown; here no more is ordered than was accepted (dstack#1886, dstack#1890)."""
    world = a_world({"azure": Script()})
    row = await ran(world)
    [launch] = world.providers["azure"].machines.launches.values()
    assert launch.order.price == row.attempts[0].price == 2_000_000


async def test_a_lost_job_is_offered_to_the_holder_again_and_goes_on_from_its_checkpoint(a_world) -> None:
    """A recovery begins where the job has just failed; here whoever lost it is passed over (skypilot#10021)."""
    world = a_world({"azure": DECLINES, "coreweave": OUTAGE, "oracle": Script()}, HOLDER)
    row = await ran(world)
    assert row.state is JobState.SUCCEEDED
    assert attempts(row) == [("coreweave", "fenced"), ("oracle", "done")]
    assert [e.provider for e in world.events(row.job) if isinstance(e, ev.OfferOpened)] == [
        "azure", "coreweave", "azure", "oracle",
    ]  # fmt: skip
    assert [e.resumed_step for e in world.events(row.job) if isinstance(e, ev.Started)] == [0, 5]


@pytest.mark.fault("holder silent for the whole window")
async def test_a_silent_holder_keeps_the_market_closed_for_the_whole_window(a_world) -> None:
    world = a_world({"azure": Script(offers=[do.Silent()]), "oracle": Script()}, HOLDER)
    row = await ran(world)
    assert attempts(row) == [("oracle", "done")]
    opened = next(e for e in world.disk.events if e.kind == "OfferOpened")
    lapsed = next(e for e in world.disk.events if e.kind == "OfferLapsed")
    assert 900 <= (lapsed.at - opened.at) / 1e6 < 901


@pytest.mark.fault("acceptance late")
async def test_a_yes_after_the_window_is_evidence_and_its_earmark_is_given_back(a_world) -> None:
    slow = Script(offers=[do.Accepts(after_s=900.5)], faults=[do.Loses(verb="withdraw", nth=1)])
    world = a_world({"azure": slow, "oracle": Script()}, HOLDER)
    row = await ran(world)
    assert attempts(row) == [("oracle", "done")]
    assert kinds(world, row.job).count("LateAnswer") == 1
    assert world.providers["azure"].calls["withdraw"] >= 2


async def test_a_yes_just_before_the_deadline_counts(a_world) -> None:
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=899.9)]), "oracle": Script()}, HOLDER)
    row = await ran(world)
    assert attempts(row) == [("azure", "done")]


@pytest.mark.fault("counter-offer")
async def test_a_counter_is_a_decline(a_world) -> None:
    world = a_world({"azure": Script(offers=[do.Counters()]), "oracle": Script()}, HOLDER)
    row = await ran(world)
    assert attempts(row) == [("oracle", "done")]
    assert [r.reason for r in row.refusals if r.provider == "azure"] == ["counter"]


async def test_an_unreachable_holder_is_refused_only_where_the_clause_says_so(a_world) -> None:
    away = Script(scenes=[do.Unreachable(when=do.At(0))])
    deemed = a_world({"azure": away, "oracle": Script()}, HOLDER)
    row = await ran(deemed)
    assert attempts(row) == [("oracle", "done")]
    assert [r.how for r in row.refusals] == ["undeliverable"]


async def test_an_unreachable_holder_is_waited_for_where_it_lapses_normally(a_world) -> None:
    away = Script(scenes=[do.Unreachable(when=do.At(0), for_s=3000)])
    world = a_world({"azure": away, "oracle": Script()}, first_right("azure", onOutage="lapse_normally"))
    row = await ran(world)
    assert attempts(row) == [("azure", "done")]


async def test_when_everybody_refuses_the_next_round_waits_and_asks_all_again(a_world) -> None:
    full = Script(offers=[do.Declines(for_s=10)])
    world = a_world({"azure": full, "oracle": full}, HOLDER)
    row = await ran(world)
    assert row.state is JobState.SUCCEEDED
    assert kinds(world, row.job).count("RoundEnded") == 1


async def test_released_capacity_wakes_a_waiting_job_before_its_round_is_due(a_world) -> None:
    full = Script(offers=[do.Declines(for_s=900)], scenes=[do.Frees(when=do.At(5), gpus=8)])
    world = a_world({"azure": full})
    row = await ran(world)
    assert (row.ended_at or 0) - row.submitted_at < 40e6


async def test_a_job_that_nobody_may_serve_is_held_with_its_reasons(a_world) -> None:
    """Offers are passed over in silence; here whoever was not asked stands there with a reason (dstack#1046)."""
    world = a_world({"azure": Script()})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers={"gpus": 1, "accelerator": ["TPU"]}))
        assert (row.state, row.reason) == (JobState.HELD, "no_capable_provider")
        assert [e.skipped[0].reason for e in world.events(row.job) if isinstance(e, ev.Held)] == ["capability"]


async def test_user_code_that_fails_by_itself_is_not_bought_again_elsewhere(a_world) -> None:
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(exit=3))
    row = await ran(world)
    assert (row.state, row.reason, row.exit, len(row.attempts)) == (JobState.FAILED, "user_failure", 3, 1)


async def test_a_job_that_does_not_start_in_time_fails_and_says_so(a_world) -> None:
    world = a_world({"azure": Script(offers=[do.Silent()])}, HOLDER)
    row = await ran(world, startBy="2m")
    assert (row.state, row.reason) == (JobState.FAILED, "start_by_passed")
    assert 120e6 <= (row.ended_at or 0) - row.submitted_at < FINISHED_BELOW


async def test_the_same_key_is_the_same_job(a_world) -> None:
    world = a_world({"azure": Script()})
    async with world.server() as server:
        first, created = await server.desk.submit(submission("k"))
        again, twice = await server.desk.submit(submission("k"))
        await until_over(server, first.job)
    assert (created, twice, first.job) == (True, False, again.job)
