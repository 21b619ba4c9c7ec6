"""ScriptedProvider plays its part: each line of a script, as a caller of the port sees it."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.model.offer import Capabilities, Confirmed, OutcomeUnknown, Reason, Rejected, SightingState
from orchestrator.model.wire import Clear, Fence, Stop
from orchestrator.ports import provider as port
from orchestrator.runlog.log import JobLog, append_controller, read
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Site, Work
from orchestrator.testing.builders import an_attempt, an_offer, an_order, job_id
from orchestrator.testing.pretend.stage import Stock
from orchestrator.testing.scripted import ScriptedProvider

pytestmark = pytest.mark.looptime


def log_of(site: Site) -> list[str]:
    entries = read(JobLog(site.store, "default", job_id())).state.entries
    return [f"{type(e).__name__.lower()}{e.epoch}" for e in entries]


def fence(site: Site, epoch: int) -> None:
    append_controller(JobLog(site.store, "default", job_id()), read(JobLog(site.store, "default", job_id())).state,
                      Fence(epoch=epoch, id=f"f{epoch}", term=1))  # fmt: skip


async def test_an_empty_script_accepts_and_starts_everything() -> None:
    p = ScriptedProvider("p", crew=(site := Site()))
    await p.place_offers([an_offer()])
    [yes] = (await p.observe(None, 0)).answers
    assert yes.accepted and yes.terms_hash == an_offer().terms_hash and yes.price == 2_000_000
    assert await p.launch([an_order()]) == [Confirmed(an_order().key, "p-c1")]
    await asyncio.sleep(30)
    assert log_of(site)[-1] == "done1"
    assert [w.step for w in site.witness] == list(range(1, 21))
    assert (await p.list_ours()).sightings[0].state is SightingState.ENDED


async def test_a_yes_after_a_while_wakes_the_long_poll() -> None:
    p = ScriptedProvider("p", do.Script(offers=[do.Accepts(after_s=7)]))
    await p.place_offers([an_offer()])
    seen = await p.observe(None, 0)
    assert not seen.answers
    seen = await p.observe(seen.cursor, 60_000_000)
    assert seen.answers[0].accepted and asyncio.get_running_loop().time() == pytest.approx(7)


async def test_a_no_carries_reason_scope_and_until() -> None:
    p = ScriptedProvider("p", do.Script(offers=[do.Declines(for_s=90)]))
    await p.place_offers([an_offer()])
    [no] = (await p.observe(None, 0)).answers
    assert (no.accepted, no.reason, no.until) == (False, Reason.CAPACITY, p.stage.clock.now_us() + 90_000_000)


async def test_dithering_is_notices_and_then_silence() -> None:
    p = ScriptedProvider("p", do.Script(offers=[do.Dithers(for_s=10, then=do.Silent())]))
    await p.place_offers([an_offer()])
    await asyncio.sleep(100)
    seen = await p.observe(None, 0)
    assert [n.kind for n in seen.notices] == ["considering"] * 2 and not seen.answers


async def test_finite_capacity_says_no_and_tells_when_it_is_free_again() -> None:
    p = ScriptedProvider("p", stock=Stock(gpus=8))
    await p.place_offers([an_offer(n=1), an_offer(n=2)])
    assert [a.accepted for a in (await p.observe(None, 0)).answers] == [True, False]
    await p.withdraw([an_offer(n=1).offer])
    assert [n.kind for n in (await p.observe(None, 0)).notices] == ["capacity"]


async def test_a_lost_launch_request_arrives_when_it_is_sent_again() -> None:
    p = ScriptedProvider("p", do.Script(launches=[do.RequestLost(), do.Starts(reply_lost=True), do.Rejects()]))
    one, two, three = (an_order(epoch=e) for e in (1, 2, 3))
    assert [type(r) for r in await p.launch([one, two, three])] == [OutcomeUnknown, OutcomeUnknown, Rejected]
    assert [s.key for s in (await p.list_ours()).sightings] == [two.key]
    assert [type(r) for r in await p.launch([one, two])] == [Confirmed, Confirmed]


async def test_nothing_is_heard_from_an_unreachable_provider_while_its_job_runs_on() -> None:
    away = do.Unreachable(when=do.At(10), for_s=60)
    p = ScriptedProvider("p", do.Script(scenes=[away]), crew=(site := Site(work=Work(steps=20))))
    await p.launch([an_order()])
    await asyncio.sleep(11)
    with pytest.raises(port.Unreachable, match="whether it was done is unknown"):
        await p.list_ours()
    await asyncio.sleep(60)
    assert (await p.list_ours()).sightings[0].state is SightingState.ENDED and log_of(site)[-1] == "done1"


async def test_call_faults_lose_the_request_the_reply_or_turn_away() -> None:
    faults = [
        do.Loses(verb="launch", nth=1),
        do.Loses(verb="launch", nth=2, reply=True),
        do.Throttles(verb="stop", nth=1),
    ]
    p = ScriptedProvider("p", do.Script(faults=faults))
    for listed in (0, 1):
        with pytest.raises(port.Unreachable):
            await p.launch([an_order()])
        assert len((await p.list_ours()).sightings) == listed
    with pytest.raises(port.Throttled):
        await p.stop([an_order().key])


async def test_a_stop_that_does_nothing_works_when_repeated() -> None:
    p = ScriptedProvider("p", do.Script(stops_ignored=2), crew=Site(work=Work(steps=999)))
    await p.launch([an_order()])
    alive = []
    for _ in range(3):
        assert (await p.stop([an_order().key]))[0].acknowledged
        await asyncio.sleep(5)
        alive.append(len((await p.list_ours()).sightings))
    assert alive == [1, 1, 0]


async def test_listings_lag_as_declared() -> None:
    p = ScriptedProvider("p", capabilities=Capabilities(list_lag_us=5_000_000))
    await p.launch([an_order()])
    assert not (await p.list_ours()).sightings
    await asyncio.sleep(5)
    assert (await p.list_ours()).sightings


async def test_bills_grow_by_the_agreed_price_and_may_come_twice() -> None:
    script = do.Script(offers=[do.Accepts(price=3_600_000)], bills_twice=True)
    p = ScriptedProvider("p", script, crew=Site(work=Work(steps=10)))
    await p.place_offers([an_offer()])
    await p.launch([an_order()])
    await asyncio.sleep(20)
    await p.stop([an_order().key])
    await asyncio.sleep(2)
    bills = (await p.observe(None, 0)).charges
    assert [b.final for b in bills] == [False, True, True] and len({b.id for b in bills}) == 1
    assert bills[0].microdollars == 8 * 10 * 1000 and bills[0].gpu_seconds == 80


async def test_hooks_stand_before_and_after_each_call() -> None:
    class Crash(BaseException): ...

    async def crash(verb: str) -> None:
        raise Crash(verb)

    p = ScriptedProvider("p")
    p.before_call = crash
    with pytest.raises(Crash):
        await p.launch([an_order(epoch=1)])
    p.before_call, p.after_call = None, crash
    with pytest.raises(Crash):
        await p.launch([an_order(epoch=2)])
    p.after_call = None
    assert [s.key for s in (await p.list_ours()).sightings] == [an_order(epoch=2).key]


# ---- lives ---------------------------------------------------------------------------------------------------------


async def test_killed_machines_say_nothing_and_the_next_epoch_goes_on_from_the_checkpoint() -> None:
    p = ScriptedProvider("p", do.Script(scenes=[do.Kills(when=do.AtStep(12))]), crew=(site := Site()))
    await p.launch([an_order()])
    await asyncio.sleep(20)
    assert log_of(site) == ["claim1", "start1", "checkpoint1", "checkpoint1"]
    fence(site, 2)
    await p.launch([an_order(epoch=2)])
    await asyncio.sleep(60)
    assert log_of(site)[4:6] == ["fence2", "claim2"] and log_of(site)[-1] == "done2"
    assert [w.step for w in site.witness if w.epoch == 2] == list(range(11, 21))


async def test_a_cut_agent_ends_at_its_limit_and_the_waiting_one_never_overlaps_it() -> None:
    script = do.Script(scenes=[do.DataCut(when=do.At(10), for_s=100)])
    site = Site(work=Work(steps=60))
    old, new = ScriptedProvider("old", script, crew=site), ScriptedProvider("new", crew=site)
    await old.launch([an_order()])
    await asyncio.sleep(12)
    fence(site, 2)
    await new.launch([an_order(epoch=2)])
    await asyncio.sleep(200)
    first, second = site.runs
    assert first.to_s == pytest.approx(30, abs=2.1) and second.from_s == pytest.approx(14 + 23 + 5.23, abs=0.3)
    assert not site.overlaps() and log_of(site)[-1] == "done2"


async def test_a_frozen_agent_wakes_to_a_fence_and_appends_nothing() -> None:
    script = do.Script(scenes=[do.Freezes(when=do.AtStep(7), for_s=90)])
    p = ScriptedProvider("p", script, crew=(site := Site(work=Work(steps=60))))
    await p.launch([an_order()])
    await asyncio.sleep(30)
    before = log_of(site)
    fence(site, 2)
    await asyncio.sleep(100)
    assert log_of(site) == [*before, "fence2"] and site.runs[0].frozen and site.runs[0].to_s is not None


async def test_two_copies_under_one_key_leave_one_that_runs() -> None:
    p = ScriptedProvider("p", do.Script(launches=[do.Starts(copies=2)]), crew=(site := Site()))
    await p.launch([an_order()])
    await asyncio.sleep(40)
    assert len(site.agents) == 2 and len(site.runs) == 1 and log_of(site)[-1] == "done1"


async def test_max_runtime_is_kept_by_the_agent() -> None:
    p = ScriptedProvider("p", crew=(site := Site(work=Work(steps=99))))
    await p.launch([an_order(attempt=an_attempt(max_runtime_left_ms=8_000).to_json())])
    await asyncio.sleep(40)
    assert log_of(site)[-1] == "release1" and site.runs[0].to_s == pytest.approx(10, abs=0.1)


async def test_a_clear_shortens_the_wait_of_a_take_over() -> None:
    p = ScriptedProvider("p", crew=(site := Site(work=Work(steps=40))))
    await p.launch([an_order()])
    await asyncio.sleep(10)
    p.machines.kill()
    fence(site, 2)
    await p.launch([an_order(epoch=2)])
    await asyncio.sleep(5)
    append_controller(log := JobLog(site.store, "default", job_id()), read(log).state, Clear(epoch=2, id="c", term=1))
    await asyncio.sleep(3)
    assert log_of(site)[-1] == "start2" and site.runs[1].from_s < 18


async def test_a_store_that_is_away_for_half_the_limit_stops_nothing() -> None:
    p = ScriptedProvider("p", do.Script(scenes=[do.DataCut(when=do.At(8), for_s=10)]), crew=(site := Site()))
    await p.launch([an_order()])
    await asyncio.sleep(60)
    assert log_of(site)[-1] == "done1" and len(site.runs) == 1 and len(site.witness) == 20


async def test_a_stop_in_the_log_ends_user_code_within_its_grace() -> None:
    p = ScriptedProvider("p", crew=(site := Site(work=Work(steps=99, dies_after_s=60))))
    await p.launch([an_order()])
    await asyncio.sleep(10)
    log = JobLog(site.store, "default", job_id())
    append_controller(log, read(log).state, Stop(epoch=1, reason="cancel", grace_ms=2_000, id="s", term=1))
    await asyncio.sleep(10)
    assert log_of(site)[-1] == "release1" and site.runs[0].to_s == pytest.approx(10 + 2 + 2, abs=2.1)


async def test_an_exit_code_of_user_code_is_the_end_of_the_job() -> None:
    p = ScriptedProvider("p", crew=(site := Site(work=Work(steps=3, exit=7))))
    await p.launch([an_order()])
    await asyncio.sleep(20)
    done = read(JobLog(site.store, "default", job_id())).state.done
    assert done is not None and (done.exit, done.ran_ms) == (7, 3_000)
