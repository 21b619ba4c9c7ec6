"""Faults of the protocol that no other story injects: who is asked, what runs, and what is left at the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cli.audit import audit
from orchestrator.engine.wiring import inline
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.model.offer import Capabilities, Reason
from orchestrator.ports.ledger import LedgerLocked
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import STORY_BEGINS_US, FakeClock
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from orchestrator.testing.stores import MemoryStore
from tests.stories.words import attempts, kinds, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
HOUR_US = 3_600_000_000


def put(world: World, provider: str) -> list[str]:
    """The offers that this provider ever held."""
    return list(world.providers[provider].offers.puts)


def created(world: World, provider: str) -> int:
    return sum(entry["kind"] == "created" for entry in world.providers[provider].journal)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(False, marks=pytest.mark.fault("offer lost")),
        pytest.param(True, marks=pytest.mark.fault("receipt lost")),
    ],
)
async def test_what_got_lost_is_delivered_again_as_the_same_offer(a_world, reply: bool) -> None:
    lost = Script(faults=[do.Loses(verb="place_offers", nth=1, reply=reply)])
    world = a_world({"azure": lost}, first_right("azure"))
    row = await ran(world)
    assert attempts(row) == [("azure", "done")]
    assert kinds(world, row.job).count("OfferOpened") == len(put(world, "azure")) == 1


@pytest.mark.fault("acceptance racing a withdrawal")
async def test_a_yes_that_crosses_our_withdrawal_keeps_no_capacity_and_starts_nothing(a_world) -> None:
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=5)])})
    azure = world.providers["azure"]

    async def says_yes_first(verb: str) -> None:
        if verb == "withdraw":
            await asyncio.sleep(5)  # our withdrawal is under way while they accept

    azure.before_call = says_yes_first
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(4)
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job, 60)
        await asyncio.sleep(60)
    assert [entry["kind"] for entry in azure.journal] == ["offer", "answer", "withdrawn"]
    assert (row.state, row.attempts, azure.stage.used) == (JobState.CANCELLED, (), 0)


@pytest.mark.fault("price moves after refusal")
async def test_a_price_that_rises_after_the_refusal_is_not_paid_and_the_refusal_stays_good(a_world) -> None:
    """The holder refuses at a ceiling of 3; its rival's price goes from 2 to 4 before the rival answers."""
    slow = Script(offers=[do.Accepts(after_s=20)] * 9)
    world = a_world({"azure": Script(offers=[do.Declines(reason=Reason.PRICE)] * 9), "oracle": slow},
                    first_right("azure"))  # fmt: skip
    async with world.server() as server:
        await asyncio.sleep(1)
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour="3.00"))
        await asyncio.sleep(5)
        world.providers["oracle"].stage.set_price("H100", 4_000_000)
        await asyncio.sleep(300)
        assert not (await server.desk.job(row.job)).attempts
        world.providers["oracle"].stage.set_price("H100", 2_500_000)
        row = await until_over(server, row.job)
    assert [(a.provider, a.price) for a in row.attempts] == [("oracle", 2_500_000)]


@pytest.mark.fault("launch stuck and appearing minutes later")
async def test_a_launch_that_appears_when_it_was_given_up_runs_nothing(a_world) -> None:
    """Ready after 15 min, out of reach of every stop of ours: it claims against the fence and ends."""
    stuck = Script(launches=[do.Starts(after_s=900)], scenes=[do.Unreachable(when=do.At(60), for_s=1500)])
    world = a_world({"azure": stuck, "oracle": Script()}, work=Work(steps=600))
    row = await ran(world)
    assert attempts(row) == [("azure", "gone"), ("oracle", "done")]
    assert [run.machine.partition("-")[2] for run in world.site.runs] == ["e2-m1"]
    assert len(world.site.agents) == 2


@pytest.mark.fault("launched twice under one key")
async def test_of_two_copies_under_one_key_one_runs(a_world) -> None:
    world = a_world({"azure": Script(launches=[do.Starts(copies=2)])})
    row = await ran(world)
    assert (attempts(row), len(world.site.agents), len(world.site.runs)) == ([("azure", "done")], 2, 1)


@pytest.mark.fault("partial gang")
async def test_what_a_refused_gang_left_behind_is_swept(a_world) -> None:
    """A job of many nodes hangs on the one that is missing; here it is all or nothing, and undone (dstack#4146)."""
    half = Script(launches=[do.Rejects(leaves=2)])
    world = a_world({"azure": half, "oracle": Script()}, work=Work(steps=100))
    row = await ran(world, workers={"gpus": 8, "count": 4, "accelerator": ["H100"]})
    assert attempts(row) == [("azure", "rejected"), ("oracle", "done")]
    assert world.providers["azure"].machines.listing() == ()
    assert [e.key for e in world.events() if isinstance(e, ev.Swept)] == [f"{row.job.lower()}-e1"]


@pytest.mark.fault("data plane lost while the API is fine")
async def test_a_job_cut_off_from_its_store_stops_by_itself_and_moves_although_its_cloud_answers(a_world) -> None:
    cut = Script(scenes=[do.DataCut(when=do.AtStep(7))])
    world = a_world({"azure": cut, "oracle": Script()}, work=Work(steps=60))
    row = await ran(world)
    assert attempts(row) == [("azure", "fenced"), ("oracle", "done")]
    assert "ProviderDown" not in kinds(world, row.job) and row.attempts[0].why == "beat_silent"


class Moved(FakeClock):
    """A clock that is `off` by so much."""

    off = 0

    def now_us(self) -> int:
        return STORY_BEGINS_US + round(asyncio.get_running_loop().time() * 1e6) + self.off


@pytest.mark.fault("clocks wrong or jumping: theirs")
@pytest.mark.parametrize("off", [HOUR_US, -HOUR_US])
async def test_a_cloud_whose_clock_is_wrong_by_an_hour_is_believed_in_nothing_that_a_clock_says(a_world, off) -> None:
    """Its yes comes in time by our clock; every machine's own clock begins elsewhere in all stories."""
    part = Script(offers=[do.Accepts(after_s=600)], scenes=[do.Kills(when=do.AtStep(7))])
    world = a_world({"azure": part, "oracle": Script()}, first_right("azure"))
    theirs = world.providers["azure"].stage.clock = Moved()
    theirs.off = off
    row = await ran(world)
    assert attempts(row)[0] == ("azure", "fenced") and row.state is JobState.SUCCEEDED
    assert "OfferLapsed" not in kinds(world, row.job)


@pytest.mark.fault("clocks wrong or jumping: ours")
async def test_a_machine_of_ours_that_was_suspended_in_a_window_ends_it_no_earlier(a_world) -> None:
    """Its clock counts the hour in which it stood still: an absence, which does not count; the yes is in time."""
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=890)]), "oracle": Script()}, first_right("azure"))
    world.clock = ours = Moved()
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(300)
        ours.off = HOUR_US
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")]
    assert any(isinstance(e, ev.ControllerAbsent) for e in world.events())


@pytest.mark.fault("clocks wrong or jumping: ours")
@pytest.mark.parametrize("off", [HOUR_US, -HOUR_US])
async def test_a_server_whose_clock_differs_from_the_last_ones_keeps_to_the_window(a_world, off: int) -> None:
    """Within a process the clock is steady, whatever is done to the machine's; the next process takes it anew."""
    world = a_world({"azure": Script(offers=[do.Accepts(after_s=800)]), "oracle": Script()}, first_right("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(300)
    world.clock = ours = Moved()
    ours.off = off
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")] and "OfferLapsed" not in kinds(world, row.job)


@pytest.mark.fault("two controllers")
async def test_a_second_server_does_not_lead_while_the_first_one_does(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=60))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        with pytest.raises(LedgerLocked):
            async with world.server():
                pass
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "done")] and created(world, "azure") == 1


@pytest.mark.fault("list eventually consistent")
async def test_a_listing_that_lags_neither_confirms_an_end_early_nor_hides_what_must_go(a_world) -> None:
    """Nothing made less than 45 s ago is listed; the first attempt dies unseen and a copy of a stop is lost.

    Machines too new to be listed are taken for gone, and leak; here a list may lag as it says (skypilot#4443).
    """
    lagging = Capabilities(list_lag_us=45_000_000)
    part = Script(scenes=[do.Freezes(when=do.AtStep(7), for_s=300)], faults=[do.Loses(verb="stop", nth=1)])
    world = a_world({"azure": part, "oracle": Script()}, work=Work(steps=60), capabilities=lagging)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
        await asyncio.sleep(200)
        assert (await world.providers["azure"].list_ours()).sightings == ()
    assert attempts(row) == [("azure", "fenced"), ("oracle", "done")]


@pytest.mark.fault("checkpoint store down")
async def test_a_store_that_is_down_for_all_beyond_the_limit_costs_an_attempt_and_no_work_but_the_last(a_world) -> None:
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(steps=60))
    store = world.site.store
    assert isinstance(store, MemoryStore)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(12)
        store.faults.down = True
        await asyncio.sleep(60)
        store.faults.down = False
        row = await until_over(server, row.job)
    assert row.state is JobState.SUCCEEDED and len(row.attempts) == 2
    assert [e.resumed_step for e in world.events(row.job) if isinstance(e, ev.Started)] == [0, 5]


@pytest.mark.fault("checkpoint store slow")
async def test_a_store_that_takes_longer_than_a_check_for_each_call_of_ours_delays_and_loses_nothing(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Kills(when=do.AtStep(7))]), "oracle": Script()}, work=Work(steps=30))
    plain = world.wiring

    async def slow(call: Any, *args: Any) -> Any:
        await asyncio.sleep(5)
        return await inline(call, *args)

    world.wiring = lambda: replace(plain(), io=slow)
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "fenced"), ("oracle", "done")], JobState.SUCCEEDED)


@pytest.mark.fault("checkpoint store lying")
async def test_a_store_that_lies_about_what_it_stored_leaves_one_line_of_entries(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Kills(when=do.AtStep(12))]), "oracle": Script()}, work=Work(steps=30))
    store = world.site.store
    assert isinstance(store, MemoryStore)
    store.faults.say_exists, store.faults.lose_answer, store.faults.lose_request = 3, 3, 3
    row = await ran(world)
    assert (attempts(row), row.state) == ([("azure", "fenced"), ("oracle", "done")], JobState.SUCCEEDED)
    assert store.faults.lose_request == 0, "every lie was told"
    numbers = [int(key.rsplit("/", 1)[1]) for key in sorted(store.objects) if "/log/" in key]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.fault("checkpoint truncated or its hash wrong")
@pytest.mark.parametrize("bytes_left", [b"", b"step 1", None])
async def test_a_spoilt_checkpoint_is_passed_over_for_the_one_before(a_world, bytes_left: bytes | None) -> None:
    """Truncated, or gone: step 10 was saved and does not count, so the next attempt goes on behind step 5."""
    world = a_world({"azure": Script(scenes=[do.Kills(when=do.AtStep(12))]), "oracle": Script()}, work=Work(steps=30))
    store = world.site.store
    assert isinstance(store, MemoryStore)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(13)
        [newest] = [key for key in store.objects if f"/ckpt/{10:012d}-" in key]
        store.delete(newest)
        if bytes_left is not None:
            store.put(newest, bytes_left)
        row = await until_over(server, row.job)
    assert attempts(row) == [("azure", "fenced"), ("oracle", "done")]
    assert min(w.step for w in world.site.witness if w.epoch == 2) == 6


@pytest.mark.fault("contract amended mid-window")
async def test_a_holder_that_loses_its_right_in_its_window_may_still_accept_and_is_asked_no_more(a_world) -> None:
    slow = Script(offers=[do.Declines(after_s=60), do.Accepts()])
    world = a_world({"azure": Script(), "zeus": slow}, first_right("zeus"), work=Work(steps=20))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.amend(world.document(first_right("azure")), "ann")
        row = await until_over(server, row.job)
    opened = [e for e in world.events(row.job) if isinstance(e, ev.OfferOpened)]
    assert [(e.provider, e.contract) for e in opened] == [("zeus", 1), ("azure", 2)]


@pytest.mark.fault("cancel while a launch is unknown")
@pytest.mark.parametrize("line", [do.Starts(reply_lost=True, after_s=5), do.RequestLost(), do.NeverStarts()])
async def test_a_job_cancelled_while_nobody_knows_of_its_launch_leaves_nothing_alive(a_world, line: do.Do) -> None:
    """The one call of `launch` that could tell is never answered; whatever it made is stopped.

    A cancel before anything runs leaks what is being made; here it is swept (skypilot#4410, dstack#2068).
    """
    silent = [do.Loses(verb="launch", nth=n, reply=True) for n in range(1, 50)]
    world = a_world({"azure": Script(launches=[line], faults=silent)}, work=Work(steps=1000))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(3)
        assert (await server.desk.job(row.job)).state is JobState.LAUNCHING
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job, 1500)
        await asyncio.sleep(120)
        assert world.providers["azure"].machines.listing() == ()
    assert row.state is JobState.CANCELLED and not [run for run in world.site.runs if run.to_s is None]


@pytest.mark.fault("provider double-billing")
async def test_a_charge_that_comes_twice_counts_once(a_world) -> None:
    world = a_world({"azure": Script(bills_twice=True, scenes=[do.Kills(when=do.AtStep(7))]), "oracle": Script()})
    row = await ran(world)
    assert row.attempts[0].charge == 8 * 7 * 2_000_000 // 3600


@pytest.mark.fault("provider double-billing")
async def test_a_charge_that_is_made_anew_is_found_by_the_audit() -> None:
    """Another id is another charge, and its price is right: but no GPU can have run for so long."""
    lost = Script(bills_anew=True, scenes=[do.Kills(when=do.AtStep(200))])
    world = World({"azure": lost, "oracle": Script()}, work=Work(steps=220))
    row: JobRow = await ran(world)
    assert row.attempts[0].charge == 2 * (8 * 200 * 2_000_000 // 3600)
    found = audit(MemoryLedger(world.disk).snapshot()).findings
    assert {finding.sentence for finding in found} == {21}
