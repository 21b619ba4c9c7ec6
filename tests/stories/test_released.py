"""Exclusives and ends by event: nobody but the holder until something frees the class. Whole lives."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import Reason
from orchestrator.simulate.world import provider_document, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.scripts import Script
from tests.stories.agreements import FULL, HOUR, SILENT, alone, beside, freed, record, right, told
from tests.stories.words import attempts, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_an_exclusive_holder_is_asked_again_and_again_and_nobody_else(a_world) -> None:
    """A job for a reservation alone spills over; here an exclusive keeps it, and it waits (skypilot#4766)."""
    world = a_world({"azure": FULL, "oracle": Script()}, alone("consent"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(HOUR)
        await server.desk.cancel(row.job, "test")
        await until_over(server, row.job)
    assert set(told(world, row.job)) == {"azure"} and len(told(world, row.job)) > 3


async def test_a_consent_for_one_job_opens_the_market_for_it_alone(a_world) -> None:
    world = a_world({"azure": FULL, "oracle": Script()}, alone("consent"))
    async with world.server() as server:
        mine, _ = await server.desk.submit(submission())
        other, _ = await server.desk.submit(submission())
        await asyncio.sleep(100)
        await record(server, "consent", holder="azure", job=mine.job)
        mine = await until_over(server, mine.job)
        assert (await server.desk.job(other.job)).state in (JobState.QUEUED, JobState.OFFERING)
        await server.desk.cancel(other.job, "test")
        await until_over(server, other.job)
    assert attempts(mine) == [("oracle", "done")] and ("oracle", "consent") in freed(world, mine.job)
    assert set(told(world, other.job)) == {"azure"}


async def test_a_consent_for_all_wakes_at_once_whoever_waits_and_ends_when_it_says(a_world) -> None:
    world = a_world({"azure": FULL, "oracle": Script()}, alone("consent"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(1000)
        at = world.clock.now_us()
        await record(server, "consent", holder="azure", until=at + 100_000_000)
        row = await until_over(server, row.job)
        assert row.attempts[0].intended_at - at < 2_000_000
        await asyncio.sleep(100)
        late, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        await server.desk.cancel(late.job, "test")
        await until_over(server, late.job)
    assert "oracle" not in told(world, late.job)


async def test_a_consent_survives_a_restart(a_world) -> None:
    world = a_world({"azure": FULL, "oracle": Script()}, alone("consent"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await record(server, "consent", holder="azure", job=row.job)
    async with world.server() as server:
        assert attempts(await until_over(server, row.job)) == [("oracle", "done")]


@pytest.mark.parametrize(
    ("release", "reason", "gives"),
    [
        ("unmet_capacity", Reason.CAPACITY, "unmet_capacity"),
        ("unmet_capacity", Reason.STRATEGIC, None),
        ("holder_declined", Reason.STRATEGIC, "holder_declined"),
        ("holder_declined", Reason.CAPACITY, "holder_declined"),
        ("consent", Reason.CAPACITY, None),
    ],
)
async def test_the_holders_own_no_frees_the_job_where_the_clause_lists_it(a_world, release, reason, gives) -> None:
    azure = Script(offers=[do.Declines(reason=reason, after_s=1)] * 30)
    world = a_world({"azure": azure, "oracle": Script()}, alone(release))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(200)
        await server.desk.cancel(row.job, "test")
        row = await until_over(server, row.job)
    assert [p for p, _ in attempts(row)] == (["oracle"] if gives else [])
    assert freed(world, row.job) == ([("oracle", gives)] if gives else [])


async def test_the_holders_last_word_counts(a_world) -> None:
    """It declined, and said nothing when it was asked again: only its spoken no had freed the job."""
    azure = Script(offers=[do.Declines(after_s=1)] + [do.Silent()] * 99)
    oracle = Script(offers=[do.Silent()] * 99)
    world = a_world({"azure": azure, "oracle": oracle}, alone("holder_declined"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(HOUR / 2)
        await server.desk.cancel(row.job, "test")
        await until_over(server, row.job)
    asked = told(world, row.job)
    assert asked[:3] == ["azure", "oracle", "oracle"] and set(asked[asked.index("azure", 1) :]) == {"azure"}


async def test_an_exclusive_holders_silence_is_no_release(a_world) -> None:
    world = a_world({"azure": SILENT, "oracle": Script()}, alone("holder_declined", "unmet_capacity"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(HOUR)
        await server.desk.cancel(row.job, "test")
        await until_over(server, row.job)
    assert set(told(world, row.job)) == {"azure"}


async def test_a_long_outage_of_the_holder_releases_and_its_return_ends_that(a_world) -> None:
    azure = Script(scenes=[do.Unreachable(when=do.At(5), for_s=3 * HOUR)])
    world = a_world({"azure": azure, "oracle": Script()}, alone("holder_outage", clause={"outageAfter": "1h"}))
    async with world.server() as server:
        await asyncio.sleep(20)
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
        began = next(e.at for e in world.disk.events if e.kind == "HolderUnreachable")
        assert 0 <= row.attempts[0].intended_at - began - HOUR * 1_000_000 < 30_000_000
        assert attempts(row) == [("oracle", "done")]
        await asyncio.sleep(3 * HOUR)
        later, _ = await server.desk.submit(submission())
        assert attempts(await until_over(server, later.job)) == [("azure", "done")]
    assert freed(world, row.job) == [("oracle", "holder_outage")] and freed(world, later.job) == []


async def test_our_own_absence_is_no_outage_of_the_holder(a_world) -> None:
    azure = Script(scenes=[do.Unreachable(when=do.At(5))])
    world = a_world({"azure": azure, "oracle": Script()}, alone("holder_outage", clause={"outageAfter": "1h"}))
    async with world.server() as server:
        await asyncio.sleep(20)
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(30)
    await asyncio.sleep(2 * HOUR)
    async with world.server() as server:
        await asyncio.sleep(HOUR / 2)
        assert (await server.desk.job(row.job)).attempts == ()
        assert attempts(await until_over(server, row.job)) == [("oracle", "done")]


@pytest.mark.parametrize(("azure_s", "oracle_s"), [(5, 20), (20, 5)])
async def test_an_outage_of_our_own_network_is_none_of_the_holder(a_world, azure_s: int, oracle_s: int) -> None:
    """Whichever poll fails first; others are back a moment before the holder is."""
    azure = Script(scenes=[do.Unreachable(when=do.At(azure_s), for_s=2 * HOUR - azure_s + 5)])
    oracle = Script(scenes=[do.Unreachable(when=do.At(oracle_s), for_s=2 * HOUR - oracle_s)])
    bound = alone("holder_outage", clause={"outageAfter": "1h"})
    world = a_world({"azure": azure, "oracle": oracle}, bound)
    async with world.server() as server:
        await asyncio.sleep(60)
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job, 3 * HOUR)
    assert attempts(row) == [("azure", "done")]


async def test_a_holder_that_stays_away_after_our_own_outage_is_away_from_then_on(a_world) -> None:
    azure = Script(scenes=[do.Unreachable(when=do.At(5))])
    oracle = Script(scenes=[do.Unreachable(when=do.At(20), for_s=2 * HOUR)])
    world = a_world({"azure": azure, "oracle": oracle}, alone("holder_outage", clause={"outageAfter": "1h"}))
    async with world.server() as server:
        await asyncio.sleep(60)
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job, 4 * HOUR)
    assert attempts(row) == [("oracle", "done")]
    assert 0 <= row.attempts[0].intended_at - world.disk.events[0].at - (3 * HOUR + 20) * 1_000_000 < 60_000_000


async def test_a_holder_that_may_not_serve_releases_only_where_it_is_listed(a_world) -> None:
    bound = alone("unlawful_for_holder")
    law = {"id": "eu", "type": "residency", "select": {"residency": ["eu"]}, "operatorJurisdictionIn": ["EU"]}
    term = bound["spec"]["contracts"][0]["term"]
    bound["spec"]["contracts"].append({"id": "law", "term": term, "clauses": [law]})
    there = provider_document(["azure", "oracle"], oracle={"operatorJurisdiction": "EU"})
    world = a_world({"azure": Script(), "oracle": Script()}, bound, providers=there)
    row = await ran(world, residency="eu")
    assert told(world, row.job) == ["oracle"] and freed(world, row.job) == [("oracle", "unlawful_for_holder")]
    assert told(world, (await ran(world)).job) == ["azure"]


ENDS = [{"event": name, "quorum": 2, "attesters": ["ann", "bob", "cyd"]} for name in ("agi", "war")]


@pytest.mark.parametrize(
    ("attested", "ended"),
    [
        ([("agi", "ann"), ("agi", "bob")], True),
        ([("agi", "ann"), ("agi", "ann")], False),
        ([("agi", "ann"), ("agi", "dan")], False),
        ([("war", "ann"), ("agi", "bob")], False),
    ],
)
async def test_an_event_ends_a_clause_once_its_quorum_has_attested_it(a_world, attested, ended) -> None:
    world = a_world({"azure": FULL, "oracle": Script()}, alone(endsOn=ENDS))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(200)
        for event, by in attested:
            await record(server, "event", by, name=event)
        await asyncio.sleep(60)
        await server.desk.cancel(row.job, "test")
        await until_over(server, row.job)
    assert ("oracle" in told(world, row.job)) is ended


async def test_an_ended_right_stays_ended_over_restarts(a_world) -> None:
    world = a_world({"zeus": Script(), "oracle": Script()}, right(endsOn=[{"event": "agi"}]))
    async with world.server() as server:
        await record(server, "event", name="agi")
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
    assert {e.clause for e in world.events(row.job) if isinstance(e, ev.OfferOpened)} == {""}
    assert freed(world, row.job)[0][1] == "ended"


async def test_a_consent_that_ends_before_the_yes_has_freed_nobody(a_world) -> None:
    slow = Script(offers=[do.Accepts(after_s=30)])
    world = a_world({"azure": FULL, "oracle": slow}, alone("consent"))
    async with world.server() as server:
        await record(server, "consent", holder="azure", until=world.clock.now_us() + 20_000_000)
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(HOUR)
        await server.desk.cancel(row.job, "test")
        row = await until_over(server, row.job)
    assert "exclusive_revived" in [e.why for e in world.events(row.job) if isinstance(e, ev.OfferWithdrawn)]
    assert attempts(row) == [] and set(told(world, row.job)) == {"azure", "oracle"}


SLOW = Script(offers=[do.Accepts(after_s=600)])


def revived(world, job: str) -> list[str]:
    """Whose yes came when an exclusive was back."""
    to = {e.n: e.provider for e in world.events(job) if isinstance(e, ev.OfferOpened)}
    back = (e for e in world.events(job) if isinstance(e, ev.OfferWithdrawn) and e.why == "exclusive_revived")
    return [to[e.n] for e in back]


async def test_a_consent_that_ends_inside_a_first_rights_window_has_freed_nobody(a_world) -> None:
    world = a_world({"azure": SLOW, "zeus": FULL, "oracle": Script()}, beside("consent"))
    async with world.server() as server:
        await record(server, "consent", holder="zeus", until=world.clock.now_us() + 300_000_000)
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(HOUR)
        await server.desk.cancel(row.job, "test")
        row = await until_over(server, row.job)
    assert revived(world, row.job) == ["azure"] and attempts(row) == []
    assert told(world, row.job)[0] == "azure" and set(told(world, row.job)[1:]) == {"zeus"}


async def test_an_exclusive_holder_that_is_back_inside_a_first_rights_window_has_the_job(a_world) -> None:
    zeus = Script(scenes=[do.Unreachable(when=do.At(5), for_s=HOUR + 300)])
    world = a_world({"azure": SLOW, "zeus": zeus, "oracle": Script()}, beside("holder_outage", outageAfter="1h"))
    async with world.server() as server:
        await asyncio.sleep(20)
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
    assert revived(world, row.job) == ["azure"] and attempts(row) == [("zeus", "done")]


async def test_an_exclusive_holders_no_that_is_a_day_old_at_a_first_rights_yes_has_freed_nobody(a_world) -> None:
    zeus, azure = Script(offers=[do.Declines()]), Script(offers=[do.Accepts(after_s=24.5 * HOUR)])
    world = a_world({"azure": azure, "zeus": zeus}, beside("holder_declined", window="25h"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job, 26 * HOUR)
    assert revived(world, row.job) == ["azure"] and attempts(row) == [("zeus", "done")]
