"""A contract set that came into force while jobs were waiting or running: who is asked from then on?"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.cli.audit import audit
from orchestrator.engine.intake import intake
from orchestrator.engine.wiring import Wiring
from orchestrator.model import event as ev
from orchestrator.model.contract import DAY_US
from orchestrator.model.job import JobState
from orchestrator.simulate.world import World, agreement, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from tests.stories.words import kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

MIDNIGHT_US = STORY_BEGINS_US + DAY_US
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


async def test_an_amendment_takes_effect_while_the_server_runs_and_an_open_offer_keeps_its_version(a_world) -> None:
    """Offered in the open market when a first right comes into force: that offer runs on, the next job is gated."""
    slow = Script(offers=[do.Accepts(after_s=20)] * 3)
    world = a_world({"oracle": slow, "zeus": Script(offers=[do.Silent()] * 9)}, work=Work(steps=20))
    async with world.server() as server:
        before, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        force = await server.desk.amend(world.document(first_right("zeus", window="10m")), "ann")
        after, _ = await server.desk.submit(submission())
        before = await until_over(server, before.job)
        assert (await server.desk.job(after.job)).state is JobState.OFFERING
        after = await until_over(server, after.job)
    assert force.contract == 2
    assert gated(world, before.job) == [("oracle", "")]
    assert gated(world, after.job) == [("zeus", "agreement/rofr"), ("oracle", "")]
    versions = {e.contract for e in world.events(before.job) if isinstance(e, ev.OfferOpened | ev.Intended)}
    assert versions == {1}


@pytest.mark.fault("contract amended mid-window")
async def test_an_open_window_is_not_shortened_by_an_amendment(a_world) -> None:
    world = a_world({"oracle": Script(), "zeus": Script(offers=[do.Silent()] * 9)}, first_right("zeus", window="15m"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.amend(world.document(first_right("zeus", window="1m")), "ann")
        row = await until_over(server, row.job)
        later, _ = await server.desk.submit(submission())
        later = await until_over(server, later.job)
    assert 900e6 <= row.attempts[0].intended_at - row.submitted_at < 930e6
    assert 60e6 <= later.attempts[0].intended_at - later.submitted_at < 90e6


async def test_a_tail_that_ends_under_an_open_offer_revives_the_right_whatever_was_amended(a_world) -> None:
    """Refused for a minute, accepted elsewhere after two: by the version of that offer the holder is first again."""
    no = Script(offers=[do.Declines(after_s=1)] + [do.Silent()] * 9)
    slow = Script(offers=[do.Accepts(after_s=50), do.Accepts(after_s=50)])
    world = a_world({"oracle": slow, "yves": slow, "zeus": no}, first_right("zeus", tail="30s"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        await server.desk.amend(world.document(first_right("yves")), "ann")
        row = await until_over(server, row.job)
    assert [e.why for e in world.events(row.job) if isinstance(e, ev.OfferWithdrawn)] == ["gate_revived"]
    assert gated(world, row.job)[-1] == ("yves", "agreement/rofr")


async def test_what_was_applied_survives_a_restart_until_the_file_changes(a_world) -> None:
    world = a_world({"oracle": Script(), "zeus": Script()}, first_right("zeus"))
    async with world.server() as server:
        applied = await server.desk.amend(world.document(first_right("oracle")), "ann")
    async with world.server() as server:
        assert (await server.desk.in_force()).contract_digest == applied.contract_digest
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
    assert gated(world, row.job) == [("oracle", "agreement/rofr")]
    world.agree(first_right("zeus", window="3m"))
    async with world.server() as server:
        assert (await server.desk.in_force()).contract == 3
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
    assert gated(world, row.job) == [("zeus", "agreement/rofr")]


async def test_an_applied_set_that_selects_on_other_labels_sees_those_of_waiting_jobs(a_world) -> None:
    nothing = Script(offers=[do.Declines(after_s=1, for_s=40)] * 3)
    world = a_world({"oracle": nothing, "azure": nothing}, work=Work(steps=20))
    async with world.server() as server:
        mine, _ = await server.desk.submit(submission(labels={"team": "vision"}))
        other, _ = await server.desk.submit(submission(labels={"team": "speech"}))
        await asyncio.sleep(5)
        await server.desk.amend(world.document(VISION), "ann")
        later, _ = await server.desk.submit(submission(labels={"team": "vision"}))
        rows = [await until_over(server, row.job) for row in (mine, other, later)]
    assert [row.state for row in rows] == [JobState.SUCCEEDED] * 3
    assert ("azure", "agreement/rofr") in gated(world, mine.job)
    assert {clause for _, clause in gated(world, other.job)} == {""}
    assert gated(world, later.job)[0] == ("azure", "agreement/rofr")


async def test_a_held_job_is_looked_at_again_and_the_same_set_twice_is_one_version(a_world) -> None:
    law = {"id": "law", "type": "residency", "regionsIn": ["MARS"]}
    world = a_world({"oracle": Script()}, agreement("oracle", law))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(1)
        assert (await server.desk.job(row.job)).state is JobState.HELD
        for _ in range(2):
            force = await server.desk.amend(world.document(first_right("oracle")), "ann")
        assert force.contract == 2
        assert (await until_over(server, row.job)).state is JobState.SUCCEEDED


async def test_a_draft_gates_nobody(a_world) -> None:
    draft = first_right("zeus")
    draft["spec"]["contracts"][0]["status"] = "draft"
    world = a_world({"oracle": Script(), "zeus": Script()})
    async with world.server() as server:
        await server.desk.amend(world.document(draft), "ann")
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
    assert gated(world, row.job) == [("oracle", "")]


async def before_midnight(world: World, seconds: int) -> None:
    await asyncio.sleep((MIDNIGHT_US - world.clock.now_us()) / 1e6 - seconds)


async def test_an_applied_right_begins_on_the_first_day_of_its_term(a_world) -> None:
    world = a_world({"oracle": Script(), "zeus": Script()})
    clause = {"id": "rofr", "type": "first_right", "window": "15m"}
    tomorrow = agreement("zeus", clause, term={"from": "2026-01-02", "to": "2026-12-31"})
    await before_midnight(world, 300)
    async with world.server() as server:
        assert (await server.desk.amend(world.document(tomorrow), "ann")).contract == 2
        today, _ = await server.desk.submit(submission())
        await until_over(server, today.job)
        await before_midnight(world, 0)
        then, _ = await server.desk.submit(submission())
        await until_over(server, then.job)
    assert gated(world, today.job) == [("oracle", "")]
    assert gated(world, then.job) == [("zeus", "agreement/rofr")]


async def test_an_applied_exclusive_ends_with_its_last_day_and_wakes_who_waits(a_world) -> None:
    full = Script(offers=[do.Declines(after_s=1, for_s=3600)] * 99)
    world = a_world({"oracle": Script(), "zeus": full})
    alone = agreement("zeus", {"id": "alone", "type": "exclusive"}, term={"from": "2025-01-01", "to": "2026-01-01"})
    await before_midnight(world, 300)
    async with world.server() as server:
        await server.desk.amend(world.document(alone), "ann")
        row, _ = await server.desk.submit(submission())
        await before_midnight(world, 10)
        assert {who for who, _ in gated(world, row.job)} == {"zeus"}
        row = await until_over(server, row.job)
    assert [(a.provider, a.how) for a in row.attempts] == [("oracle", "done")]
    assert MIDNIGHT_US <= row.attempts[0].intended_at < MIDNIGHT_US + 5_000_000
