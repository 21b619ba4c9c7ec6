"""What goes wrong, and what becomes of the job: each fault injected on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.explain import timeline
from orchestrator.model import event as ev
from orchestrator.model.job import AttemptState, JobState
from orchestrator.model.offer import Capabilities, Firmness, Reason
from orchestrator.ports.provider import Unreachable
from orchestrator.simulate.world import first_right, provider_document, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.words import attempts, kinds, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.mark.parametrize("fault", [do.Starts(reply_lost=True), do.RequestLost()])
async def test_a_launch_that_nobody_confirmed_is_asked_again_under_its_key(a_world, fault: do.Do) -> None:
    world = a_world({"azure": Script(launches=[fault]), "oracle": Script()})
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "done")], JobState.SUCCEEDED)


@pytest.mark.fault("accepted but cannot launch")
async def test_a_launch_that_is_rejected_is_a_refusal_in_the_same_episode(a_world) -> None:
    """Who accepts and cannot provision is tried for ever; here that is a refusal, and the next is asked (kueue#2560,
    kueue#8089)."""
    world = a_world({"azure": Script(launches=[do.Rejects(reason=Reason.CAPACITY)]), "oracle": Script()})
    row = await ran(world)
    assert (attempts(row), row.episode) == ([("azure", "rejected"), ("oracle", "done")], 1)
    assert [r.how for r in row.refusals] == ["accept_failed"]


@pytest.mark.fault("accepted but cannot launch")
async def test_a_launch_that_never_starts_is_left_behind_a_fence(a_world) -> None:
    world = a_world({"azure": Script(launches=[do.NeverStarts()]), "oracle": Script()})
    row = await ran(world)
    assert attempts(row) == [("azure", "gone"), ("oracle", "done")]


@pytest.mark.fault("accepted but cannot launch")
@pytest.mark.parametrize("launch", [do.Rejects(reason=Reason.CAPACITY), do.NeverStarts()])
@pytest.mark.parametrize("firm", Firmness)
async def test_what_an_acceptance_that_they_failed_was_worth_is_kept(a_world, launch: do.Do, firm: Firmness) -> None:
    """Evidence of a breach (R11) only where the capacity is firm."""
    script = {"azure": Script(launches=[launch]), "oracle": Script()}
    world = a_world(script, capabilities=Capabilities(firm=firm))
    row = await ran(world)
    first, last = (e for e in world.events(row.job) if isinstance(e, ev.Ended))
    assert (first.firm, last.firm) == ("" if firm is Firmness.NONE else firm.value, "")


@pytest.mark.fault("accepted but cannot launch")
@pytest.mark.parametrize("away", [True, False])
async def test_what_an_acceptance_was_worth_is_what_was_stated_when_it_came(a_world, away: bool) -> None:
    """Neither a restart while its provider is out of reach nor what that states later changes it."""
    stated = Capabilities(firm=Firmness.PAID_HOLD)
    world = a_world({"azure": Script(launches=[do.NeverStarts()]), "oracle": Script()}, capabilities=stated)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(60)
        assert [a.state for a in (await server.desk.job(row.job)).attempts] == [AttemptState.CONFIRMED]

    async def capabilities() -> Capabilities:
        if away:
            raise Unreachable("away")
        return Capabilities()

    world.providers["azure"].capabilities = capabilities
    async with world.server() as server:
        row = await until_over(server, row.job)
    ends = [(e.refused, e.firm) for e in world.events(row.job) if isinstance(e, ev.Ended)]
    assert ends == [(True, "paid_hold"), (False, "")]
    assert [e.firm for e in world.events(row.job) if isinstance(e, ev.OfferAnswered)] == ["paid_hold", "paid_hold"]


@pytest.mark.fault("accepted but cannot launch")
async def test_what_we_launched_too_late_is_no_breach(a_world) -> None:
    late = Script(offers=[do.Accepts(ttl_s=-1.0)], launches=[do.Rejects()])
    world = a_world({"azure": late, "oracle": Script()}, capabilities=Capabilities(firm=Firmness.PAID_HOLD))
    row = await ran(world)
    assert [e.firm for e in world.events(row.job) if isinstance(e, ev.Ended)] == ["", ""]


async def test_why_a_launch_never_started_is_kept_as_its_provider_said(a_world) -> None:
    said = 'FailedCreate: pods "x" is forbidden: exceeded quota: team'
    world = a_world({"azure": Script(launches=[do.NeverStarts(detail=said)]), "oracle": Script()})
    row = await ran(world)
    [unknown] = [e for e in world.events(row.job) if isinstance(e, ev.WentUnknown)]
    assert (unknown.why, unknown.detail) == ("never_started", said)
    told = timeline((e.at, ev.decode(e.body)) for e in world.disk.events if e.job == row.job)
    assert any(line.detail == said for line in told)


async def test_machines_that_die_are_replaced_behind_a_fence_without_waiting_for_silence(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Kills(when=do.AtStep(7))]), "oracle": Script()})
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "fenced"), ("oracle", "done")], JobState.SUCCEEDED)
    second = [e for e in world.events(row.job) if isinstance(e, ev.Started)][1]
    assert (second.resumed_step, second.cleared) == (5, True)


@pytest.mark.fault("provider's control plane down while its job runs on")
async def test_a_provider_out_of_reach_whose_job_beats_on_is_left_alone(a_world) -> None:
    """Healthy jobs are recovered because a controller could not reach them; here unreachable is not dead
    (skypilot#6133, skypilot#10123, skypilot#10155, skypilot#10157, skypilot#10162)."""
    world = a_world({"azure": Script(scenes=[do.Unreachable(when=do.AtStep(3), for_s=600)]), "oracle": Script()},
                    work=Work(steps=200))  # fmt: skip
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "done")], JobState.SUCCEEDED)
    assert "WentUnknown" in kinds(world, row.job)


@pytest.mark.fault("provider returning with a zombie", "two take-overs in a row")
async def test_a_zombie_that_comes_back_twice_appends_nothing(a_world) -> None:
    """A failover leaves two of one job; here the earlier is fenced, however often it returns (skypilot#656)."""
    cut = [do.Unreachable(when=do.AtStep(7), for_s=100), do.DataCut(when=do.AtStep(7), for_s=100)]
    again = [do.Unreachable(when=do.AtStep(12), for_s=100), do.DataCut(when=do.AtStep(12), for_s=100)]
    world = a_world({"azure": Script(scenes=cut), "coreweave": Script(scenes=again), "oracle": Script()},
                    work=Work(steps=60))  # fmt: skip
    row = await ran(world)
    assert attempts(row) == [("azure", "fenced"), ("coreweave", "fenced"), ("oracle", "done")]


@pytest.mark.fault("agent frozen past its limit")
async def test_a_frozen_agent_is_fenced_and_wakes_to_nothing(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Freezes(when=do.AtStep(7), for_s=200)]), "oracle": Script()},
                    work=Work(steps=60))  # fmt: skip
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "fenced"), ("oracle", "done")], JobState.SUCCEEDED)


async def test_a_job_ends_while_nobody_leads_and_is_found_done(a_world) -> None:
    """An outage of the controller kills what runs; here a job needs none to run or to end (armada#315, skypilot#7707,
    skypilot#9749)."""
    world = a_world({"azure": Script()}, work=Work(steps=100))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
    await asyncio.sleep(300)
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert (row.state, attempts(row)) == (JobState.SUCCEEDED, [("azure", "done")])
    assert any(isinstance(e, ev.ControllerAbsent) for e in world.events())


async def test_our_own_absence_does_not_count_in_a_window(a_world) -> None:
    """Delivered at 0, 15 min, away from 300 to 1500: the deadline is 2100 (kueue's round timer in memory)."""
    world = a_world({"azure": Script(offers=[do.Silent()]), "oracle": Script()}, first_right("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(300)
    await asyncio.sleep(1200)
    async with world.server() as server:
        row = await until_over(server, row.job)
    lapsed = next(e for e in world.disk.events if e.kind == "OfferLapsed")
    assert 2095e6 <= lapsed.at - row.submitted_at <= 2105e6


@pytest.mark.fault("terminate failing silently")
@pytest.mark.parametrize("failing", [Script(stops_ignored=2), Script(stops_stuck=2)])
async def test_a_stop_that_silently_fails_or_gets_stuck_is_swept_until_gone(a_world, failing: Script) -> None:
    """A failed terminate is ignored and its machine forgotten; here it is repeated until gone (skypilot#2990)."""
    world = a_world({"azure": failing}, work=Work(steps=300))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job)
        await asyncio.sleep(120)
        assert (await world.providers["azure"].list_ours()).sightings == ()
    assert row.state is JobState.CANCELLED


@pytest.mark.parametrize("after", [0.0, 1.0, 10.0])
async def test_cancel_at_any_time_ends_the_job_and_nothing_is_offered_after(a_world, after: float) -> None:
    """What is being deleted still gets machines, which stay; here nothing begins after a cancel (dstack#3449)."""
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=0.5)])}, work=Work(steps=1000))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(after)
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job, 300)
    assert row.state is JobState.CANCELLED
    told = kinds(world, row.job)
    assert not {"OfferOpened", "Intended"} & set(told[told.index("CancelAsked") :])


@pytest.mark.fault("provider's control plane down while its job runs on")
async def test_cancel_while_the_provider_is_out_of_reach_waits_until_nothing_can_run(a_world) -> None:
    scenes = [do.Unreachable(when=do.AtStep(3)), do.DataCut(when=do.AtStep(3))]
    world = a_world({"azure": Script(scenes=scenes)}, work=Work(steps=1000))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job, 300)
    assert row.state is JobState.CANCELLED
    assert all(run.to_s is not None and run.to_s * 1e6 <= (row.ended_at or 0) - row.submitted_at + 1e6
               for run in world.site.runs)  # fmt: skip


@pytest.mark.fault("checkpoint store down")
async def test_the_store_out_of_reach_for_half_of_limit_stops_nothing(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.DataCut(when=do.AtStep(5), for_s=10)])}, work=Work(steps=40))
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "done")], JobState.SUCCEEDED)


async def test_throttling_and_lost_replies_delay_but_lose_nothing(a_world) -> None:
    faults = [do.Throttles(verb="place_offers", nth=1, for_s=2), do.Loses(verb="place_offers", nth=2, reply=True),
              do.Loses(verb="launch", nth=1), do.Throttles(verb="observe", nth=3, for_s=3)]  # fmt: skip
    world = a_world({"azure": Script(faults=faults)})
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "done")], JobState.SUCCEEDED)


async def test_jobs_of_one_shape_start_in_the_order_of_submission(a_world) -> None:
    """Jobs start in any order; here of one priority in that of their submission (skypilot#5493)."""
    world = a_world({"azure": Script()})
    async with world.server() as server:
        rows = [(await server.desk.submit(submission(run={"command": ["x", str(i)]})))[0] for i in range(8)]
        for row in rows:
            await until_over(server, row.job)
    intended = [e.job for e in world.disk.events if e.kind == "Intended"]
    assert intended == [row.job for row in rows]


async def test_where_the_policy_says_stop_an_unreachable_attempt_is_told_so_at_its_store(a_world) -> None:
    """The provider is away, the store is not: the agent reads the stop, and the job goes on elsewhere at once."""
    policy = {"isolation": {"check": "2s", "limit": "20s", "grace": "3s"}, "onUnreachable": "stop"}
    providers = provider_document(["azure", "oracle"])
    providers["spec"]["policies"] = {"default": policy}
    world = a_world({"azure": Script(scenes=[do.Unreachable(when=do.AtStep(7))]), "oracle": Script()},
                    work=Work(steps=60), providers=providers)  # fmt: skip
    row = await ran(world)
    assert attempts(row) == [("azure", "released"), ("oracle", "done")]


async def test_confirmed_stop_only_never_moves_a_job_on_suspicion(a_world) -> None:
    policy = {"isolation": {"check": "2s", "limit": "20s", "grace": "3s"}, "onUnreachable": "confirmed_stop_only"}
    providers = provider_document(["azure", "oracle"])
    providers["spec"]["policies"] = {"default": policy}
    scenes = [do.Unreachable(when=do.AtStep(7), for_s=500), do.DataCut(when=do.AtStep(7), for_s=500)]
    world = a_world({"azure": Script(scenes=scenes), "oracle": Script()}, work=Work(steps=30), providers=providers)
    row = await ran(world)
    assert attempts(row) == [("azure", "done")]


async def test_a_cancelled_job_has_its_grace_before_its_machines_are_ended(a_world) -> None:
    """User code that needs 2 of its 3 seconds to say goodbye is not cut off by us."""
    world = a_world({"azure": Script()}, work=Work(steps=1000, dies_after_s=2.0))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job, 60)
    assert (row.state, attempts(row)) == (JobState.CANCELLED, [("azure", "released")])


async def test_an_attempt_that_was_long_in_coming_is_not_silent_from_its_first_moment(a_world) -> None:
    """Its machines took longer than `limit`, under a server that was there all the time and one that came later."""
    world = a_world({"azure": Script(launches=[do.Starts(after_s=60)])}, work=Work(steps=60))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(0.1)
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")]


@pytest.mark.fault("list eventually consistent", "launch reply lost")
@pytest.mark.parametrize("lag_s", [0, 20])
async def test_a_provider_that_forgets_keys_is_looked_at_before_a_launch_is_repeated(a_world, lag_s) -> None:
    """The reply is lost, then the server dies before it knows: each time a listing shows what is there already."""
    forgetful = Capabilities(idempotency=False, list_lag_us=lag_s * 1_000_000)
    azure = Script(launches=[do.Starts(reply_lost=True, after_s=60)])
    world = a_world({"azure": azure}, work=Work(steps=60), capabilities=forgetful)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(0.1)
    async with world.server() as server:
        row = await until_over(server, row.job)
    made = [entry for entry in world.providers["azure"].journal if entry["kind"] == "created"]
    assert (row.state, len(made)) == (JobState.SUCCEEDED, 1)


@pytest.mark.fault("list eventually consistent", "launch request lost")
async def test_a_launch_that_a_forgetful_provider_never_got_is_sent_again(a_world) -> None:
    lost = Script(launches=[do.RequestLost()])
    world = a_world({"azure": lost}, capabilities=Capabilities(idempotency=False, list_lag_us=5_000_000))
    row = await ran(world)
    assert row.state is JobState.SUCCEEDED and len(row.attempts) == 1


async def test_a_provider_that_lists_another_ones_launches_stops_none_of_them(a_world) -> None:
    """A stranger's job of a known name is deleted; here only what is ours there is ever stopped (kueue#11849)."""
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(steps=200))
    world.providers["oracle"].machines = world.providers["azure"].machines
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "done")], JobState.SUCCEEDED)
    assert world.providers["oracle"].calls["list_ours"] > 2
    assert not [e for e in world.events() if isinstance(e, ev.Swept)]
