"""Exemptions, their totals, waivers, classes and overrides: who need not wait for a holder. Whole lives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.cli.audit import audit
from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import OfferOut
from orchestrator.ports.desk import Mistaken, Refused
from orchestrator.simulate.world import agreement, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from tests.stories.agreements import HOUR, SILENT, alone, freed, record, right, told
from tests.stories.words import kinds, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

BUILD = {"id": "own", "because": "own_build", "select": {"labels": {"site": ["own"]}}, "evidence": ["approved"]}
SMALL = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 64}}}


async def test_a_label_exempts_nobody_without_the_evidence_of_an_attester(a_world) -> None:
    world = a_world({"zeus": SILENT, "oracle": Script()}, right(BUILD))
    async with world.server() as server:
        mine, _ = await server.desk.submit(submission(labels={"site": "own"}))
        other, _ = await server.desk.submit(submission(labels={"site": "own"}))
        await asyncio.sleep(5)
        assert told(world, mine.job) == told(world, other.job) == ["zeus"]
        await record(server, "evidence", name="approved", job=mine.job, approver="Ann Other", document="ab" * 32)
        third, _ = await server.desk.submit(submission(labels={"site": "own"}))
        await record(server, "evidence", name="approved", job=third.job, approver="Ann Other")
        await asyncio.sleep(HOUR)
        rows = [await until_over(server, job.job) for job in (mine, other, third)]
    assert [r.state for r in rows] == [JobState.SUCCEEDED] * 3
    assert freed(world, mine.job) == [("oracle", "own")]
    assert freed(world, other.job) == []
    offers = [e for e in world.events(mine.job) if isinstance(e, ev.OfferOpened) and e.freed]
    assert offers[0].freed[0].approver == "Ann Other" and offers[0].freed[0].because == "own_build"


async def test_evidence_to_be_cited_counts_for_whoever_cites_it_and_for_nobody_else(a_world) -> None:
    world = a_world({"oracle": Script(), "zeus": SILENT}, right(BUILD))
    own = {"site": "own"}
    async with world.server() as server:
        there = await record(server, "evidence", name="approved", cited=True, approver="Ann Other")
        elsewhere, _ = await server.desk.submit(submission())
        about = await record(server, "evidence", name="approved", job=elsewhere.job)
        cites, _ = await server.desk.submit(submission(labels=own, evidence=[there.id]))
        silent, _ = await server.desk.submit(submission(labels=own))
        stolen, _ = await server.desk.submit(submission(labels=own, evidence=[about.id]))
        with pytest.raises(Refused, match="there is no record evidence-x"):
            await server.desk.submit(submission(labels=own, evidence=["evidence-x"]))
        await asyncio.sleep(5)
    assert [told(world, row.job) for row in (cites, silent, stolen)] == [["oracle"], ["zeus"], ["zeus"]]


async def test_a_record_whose_end_is_past_is_a_slip_that_names_its_field(a_world) -> None:
    world = a_world({"oracle": Script(), "zeus": SILENT}, right(BUILD))
    async with world.server() as server:
        with pytest.raises(Mistaken, match="until: it is past"):
            await record(server, "evidence", name="approved", until=1)


def limited(per: str, most: int = 32) -> dict[str, Any]:
    return SMALL | {"maxGpuHoursPerWindow": [most, "7d"], "per": per}


async def test_cutting_work_up_does_not_escape_the_right(a_world) -> None:
    """Each job may use 8 GPU-hours, 32 may be exempt: equal to the limit passes, the fifth meets the gate."""
    world = a_world({"zeus": SILENT, "oracle": Script()}, right(limited("set")), Work(steps=600))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission()))[0].job for _ in range(4)]
        await asyncio.sleep(30)
        fifth, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
    assert [told(world, job) for job in jobs] == [["oracle"]] * 4
    assert told(world, fifth.job) == ["zeus"]


async def test_what_was_not_used_is_given_back_at_the_end(a_world) -> None:
    """The four end after a minute, and what they did not use is free again, also for a server that was not there."""
    world = a_world({"zeus": SILENT, "oracle": Script()}, right(limited("set")), Work(steps=60))
    async with world.server() as server:
        for _ in range(4):
            row, _ = await server.desk.submit(submission())
            await until_over(server, row.job)
    async with world.server() as server:
        fifth, _ = await server.desk.submit(submission())
        await until_over(server, fifth.job)
        assert told(world, fifth.job) == ["oracle"]
        long, _ = await server.desk.submit(submission(maxRuntime="4h"))  # 32 more, and some was used
        await asyncio.sleep(10)
    assert told(world, long.job) == ["zeus"]


async def test_by_lineage_each_line_of_jobs_has_a_total_of_its_own(a_world) -> None:
    world = a_world({"zeus": SILENT, "oracle": Script()}, right(limited("lineage", 8)), Work(steps=600))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission()))[0].job for _ in range(6)]
        await asyncio.sleep(30)
    assert [told(world, job) for job in jobs] == [["oracle"]] * 6


async def test_of_many_offers_under_one_total_only_those_that_fit_are_used(a_world) -> None:
    slow = Script(offers=lambda offer, n: do.Accepts(after_s=5))
    world = a_world({"zeus": SILENT, "oracle": slow}, right(limited("set", 8)), Work(steps=600))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission(priority=n)))[0].job for n in range(3)]
        await asyncio.sleep(60)
        rows = [await server.desk.job(job) for job in jobs]
    assert sorted(row.state for row in rows) == [JobState.OFFERING, JobState.OFFERING, JobState.RUNNING]
    assert [e.why for e in world.events() if isinstance(e, ev.OfferWithdrawn)] == ["exempt_total"] * 2


async def test_a_waiver_costs_a_job_no_time_within_its_bounds(a_world) -> None:
    world = a_world({"zeus": SILENT, "oracle": Script()}, right())
    async with world.server() as server:
        await record(server, "waiver", holder="zeus", classes=("training",), gpus=8)
        small, _ = await server.desk.submit(submission())
        large, _ = await server.desk.submit(submission(workers={"count": 2, "gpus": 8, "accelerator": ["H100"]}))
        small = await until_over(server, small.job)
        await asyncio.sleep(5)
        await server.desk.cancel(large.job, "test")
        await until_over(server, large.job)
    assert small.attempts[0].intended_at - small.submitted_at < 1_000_000
    assert told(world, large.job) == ["zeus"] and freed(world, small.job) == [("oracle", "waived")]


def away(since_s: float) -> Script:
    return Script(offers=[do.Silent()] * 9, scenes=[do.Unreachable(when=do.At(since_s))])


@pytest.mark.parametrize("since_s", [5, 100], ids=["before its delivery", "before its answer"])
async def test_an_offer_at_a_holder_that_is_away_is_taken_back_once_that_frees_its_clause(a_world, since_s) -> None:
    """It has been for long enough: no job waits for it, nor does one that was offered before."""
    world = a_world({"zeus": away(since_s), "oracle": Script()}, right({"id": "away", "because": "holder_outage"}))
    async with world.server() as server:
        await asyncio.sleep(60)
        early, _ = await server.desk.submit(submission())
        early = await until_over(server, early.job)
        late, _ = await server.desk.submit(submission())
        await until_over(server, late.job)
    assert told(world, early.job) == ["zeus", "oracle"] and told(world, late.job) == ["oracle"]
    assert freed(world, early.job) == freed(world, late.job) == [("oracle", "away")]
    assert 800e6 < early.attempts[0].intended_at - early.submitted_at < 1000e6
    assert [e.why for e in world.events(early.job) if isinstance(e, ev.OfferWithdrawn)] == ["freed"]


@pytest.mark.parametrize("what", [
    {"what": "override", "clause": "agreement/rofr", "why": "it is down", "approver": "Ann Other"},
    {"what": "waiver", "holder": "zeus"}, {"what": "event", "name": "agi"},
])  # fmt: skip
async def test_so_is_one_whose_clause_a_record_frees(a_world, what: dict[str, str]) -> None:
    world = a_world({"zeus": away(5), "oracle": Script()}, right(endsOn=[{"event": "agi"}]))
    async with world.server() as server:
        await asyncio.sleep(60)
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(HOUR)
        assert told(world, row.job) == ["zeus"]
        await record(server, **what)
        await until_over(server, row.job, 120)
    assert told(world, row.job) == ["zeus", "oracle"]


async def test_an_attester_settles_the_class_of_a_job(a_world) -> None:
    """Offered to the holder of the class that its document claims; of another it is free: that offer is taken back."""
    classes: list[str] = []

    def notes(offer: OfferOut, _: int) -> do.Say:
        classes.append(offer.workload)
        return do.Accepts()

    clause = {"select": {"class": ["training"]}}
    world = a_world({"azure": SILENT, "oracle": Script(offers=notes)}, alone("consent", clause=clause))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await record(server, "class", name="research", job=row.job)
        row = await until_over(server, row.job)
    assert told(world, row.job) == ["azure", "oracle"]
    assert [e.why for e in world.events(row.job) if isinstance(e, ev.OfferWithdrawn)] == ["reclassified"]
    assert classes == ["research"]


async def test_an_override_frees_the_clause_that_it_names(a_world) -> None:
    world = a_world({"azure": SILENT, "oracle": Script()}, alone())
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await record(
            server, "override", clause="agreement/alone", job=row.job, approver="C. Executive", why="outage 4711"
        )
        row = await until_over(server, row.job)
    assert ("oracle", "override") in freed(world, row.job)
    ledger = MemoryLedger(world.disk)
    report = audit(ledger.snapshot())
    await ledger.close()
    breaches = [(b.clause, b.job, b.approver, b.why) for b in report.declared]
    assert breaches == [("agreement/alone", row.job, "C. Executive", "outage 4711")]
    assert next(v.judged for v in report.verdicts if v.number == 14) == told(world, row.job).count("azure")


async def test_a_waiver_that_the_contract_holds_counts_until_its_day(a_world) -> None:
    """The story begins on 2026-01-01; the right holds again from the next midnight on."""
    waiver = {"class": ["training"], "gpus": 8, "until": "2026-01-02"}
    clause = {"id": "rofr", "type": "first_right", "window": "15m", "standingWaiver": waiver}
    world = a_world({"oracle": Script(), "zeus": SILENT}, agreement("zeus", clause))
    await asyncio.sleep(24 * HOUR - 120)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
        await asyncio.sleep(120)
        later, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
    assert told(world, row.job) == ["oracle"] and told(world, later.job) == ["zeus"]


async def test_a_decline_that_covers_more_is_a_waiver_for_whoever_waits(a_world) -> None:
    """Three wait for the same holder; its no to the first covers such jobs for an hour, and the others go at once."""
    first = do.Declines(after_s=30, covers=(("training",), 8, HOUR))
    zeus = Script(offers=[first] + [do.Silent()] * 9)
    world = a_world({"oracle": Script(), "zeus": zeus}, right())
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission()))[0].job for _ in range(3)]
        rows = [await until_over(server, job) for job in jobs]
        assert all(r.attempts[0].intended_at - r.submitted_at < 45_000_000 for r in rows)
        fourth, _ = await server.desk.submit(submission())
        await until_over(server, fourth.job)
        await asyncio.sleep(HOUR)
        fifth, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
    assert told(world, fourth.job) == ["oracle"] and told(world, fifth.job) == ["zeus"]
    (record,) = [e.record for e in world.events() if isinstance(e, ev.Recorded)]
    assert (record.id, record.by, record.clause) == (f"waiver-{jobs[0]}-o1", "zeus", "agreement/rofr")


async def test_declines_that_cover_the_same_again_make_one_record_that_lasts_longer(a_world) -> None:
    """What it covers is smaller than what it is asked for, so it is asked again and says it again: for an hour from
    then, and in the end for no longer than it said before."""
    says = [do.Declines(after_s=1, covers=(("training",), 4, seconds)) for seconds in (HOUR, HOUR, 60)]
    world = a_world({"oracle": Script(), "zeus": Script(offers=says)}, right())
    async with world.server() as server:
        for _ in says:
            await until_over(server, (await server.desk.submit(submission()))[0].job)
        records = (await server.desk.in_force()).records
    first, second = [e.record for e in world.events("") if isinstance(e, ev.Recorded)]
    assert (first.id, replace(first, until=second.until)) == (second.id, second) and second.until > first.until
    assert [replace(known, at=0) for known in records] == [second]
    async with world.server() as server:
        await asyncio.sleep(1)
        assert (await server.desk.in_force()).records == records
    ledger = MemoryLedger(world.disk)
    assert not audit(ledger.snapshot()).findings
    await ledger.close()


async def test_two_first_rights_are_passed_by_rank(a_world) -> None:
    """Clusters are tried by the alphabet; here in the order that was agreed, not by name (kueue#9270, kueue#12854)."""
    second = {"id": "second", "type": "first_right", "window": "5m", "rank": 2}
    two = right()
    two["spec"]["contracts"].append(
        {**two["spec"]["contracts"][0], "id": "other", "holder": "yves", "clauses": [second]}
    )
    no = Script(offers=[do.Declines(after_s=1)] * 3)
    world = a_world({"oracle": Script(), "yves": no, "zeus": no}, two)
    row = await ran(world)
    asked = [(e.provider, e.clause) for e in world.events(row.job) if isinstance(e, ev.OfferOpened)]
    assert asked == [("zeus", "agreement/rofr"), ("yves", "other/second"), ("oracle", "")]


async def test_what_runs_at_the_holder_uses_up_nothing_of_an_exemption(a_world) -> None:
    """It is the cheapest, so an exempt job is put to it like to anybody: its yes stands, and counts for no total."""
    zeus = Script(offers=lambda offer, n: do.Accepts(after_s=5))
    world = a_world({"zeus": zeus}, right(limited("set", 8)), Work(steps=600))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission(priority=n)))[0].job for n in range(3)]
        await asyncio.sleep(60)
        rows = [await server.desk.job(job) for job in jobs]
    assert [row.state for row in rows] == [JobState.RUNNING] * 3
    assert not [e for e in world.events() if isinstance(e, ev.OfferWithdrawn)]


@pytest.mark.parametrize("before", [{}, {"maxGpuHoursPerWindow": [14, "30m"]}], ids=["none", "shorter"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_total_that_an_amendment_sets_counts_what_was_placed_before_it(a_world, before, restarted) -> None:
    """50 minutes on 8 GPUs are 6.7 GPU-hours: of 14 in a week what is left is too little for a job that may use 8."""
    world = a_world({"zeus": SILENT, "oracle": Script()}, right(SMALL | before), Work(steps=3000))
    async with world.server() as server:
        first, _ = await server.desk.submit(submission())
        await until_over(server, first.job)
        await asyncio.sleep(HOUR)
        second, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        await server.desk.cancel(second.job, "test")
        await until_over(server, second.job)
        await server.desk.amend(world.document(right(limited("set", 14))), "ann")
        if not restarted:
            third, _ = await server.desk.submit(submission())
            await asyncio.sleep(10)
    if restarted:
        async with world.server() as server:
            third, _ = await server.desk.submit(submission())
            await asyncio.sleep(10)
    assert told(world, second.job) == ["oracle"] and told(world, third.job) == ["zeus"]


async def test_two_who_say_the_same_at_once_are_on_record_once(a_world) -> None:
    world = a_world({"zeus": SILENT, "oracle": Script()}, right())
    async with world.server() as server:
        twice = [record(server, "consent", holder="zeus") for _ in range(2)]
        first, second = await asyncio.gather(*twice)
    assert first == second and kinds(world, "").count("Recorded") == 1


@pytest.mark.parametrize("more", [{"holder": "azzure"}, {"holder": "zeus", "clause": "agrement/rofr"}])
async def test_a_record_about_nobody_or_nothing_that_is_agreed_is_refused(a_world, more: dict[str, str]) -> None:
    world = a_world({"zeus": SILENT, "oracle": Script()}, right())
    async with world.server() as server:
        with pytest.raises(Mistaken, match=r"zeus|agreement/rofr"):
            await record(server, "consent", **more)
    assert "Recorded" not in kinds(world, "")


@pytest.mark.parametrize(("what", "name", "said"), [
    ("evidence", "aproved", r"^evidence: .* no 'aproved' \(did you mean approved\?\); they know approved, later, p"),
    ("evidence", "agi", "^evidence: .* no 'agi'; they know"),
    ("event", "agii", r"^event: .* no 'agii' \(did you mean agi\?\); they know agi, coup;"),
])  # fmt: skip
async def test_an_event_or_evidence_that_no_contract_minds_is_refused(a_world, what: str, name: str, said: str) -> None:
    """What a draft minds may be on record before it is in force, and an exemption's own id is evidence."""
    asks = [{"id": "approved", "because": "research"}, {"id": "x", "because": "research", "evidence": ["paper"]}]
    agreed = right(*asks, endsOn=[{"event": "agi"}])
    (active,) = agreed["spec"]["contracts"]
    clause = {**active["clauses"][0], "exempt": [{"id": "later", "because": "own_build"}]}
    draft = {**active, "id": "draft", "status": "draft", "clauses": [clause], "endsOn": [{"event": "coup"}]}
    agreed["spec"]["contracts"].append(draft)
    world = a_world({"zeus": SILENT, "oracle": Script()}, agreed)
    async with world.server() as server:
        with pytest.raises(Mistaken, match=said):
            await record(server, what, name=name)
        for kind, known in (("evidence", "approved"), ("evidence", "later"), ("event", "coup")):
            assert (await record(server, kind, name=known)).name == known
