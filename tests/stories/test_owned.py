"""Capacity that is owned already: who is placed in it, whom that leaves unasked, and when it is no longer used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.cli.audit import audit
from orchestrator.core.explain import golden, timeline
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.job import JobState
from orchestrator.model.offer import OfferOut, Reason
from orchestrator.simulate.world import World, agreement, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from tests.stories.agreements import HOUR, SILENT, right, told
from tests.stories.words import attempts, kinds, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

SECOND = 1_000_000
DAY = 24 * HOUR
LONG = Work(steps=3000)


def block(provider: str = "yves", gpus: int = 16, **more: Any) -> Block:
    """Sixteen H100 of yves, who comes last in the market, for a day."""
    begin = {"from_us": STORY_BEGINS_US, "until_us": STORY_BEGINS_US + DAY * SECOND}
    return Block(**{"name": "b", "provider": provider, "accelerator": "H100", "gpus": gpus, "region": "eu-1",
                    "price": 2_000_000, **begin, **more})  # fmt: skip


def blocks_of(world: World, job: str) -> list[tuple[str, str, str, str]]:
    opened = [e for e in world.events(job) if isinstance(e, ev.OfferOpened)]
    return [(e.provider, e.clause, e.trigger, e.block) for e in opened]


def three(contracts: dict[str, Any] | None = None, *owned: Block, **scripts: Script) -> dict[str, Any]:
    given = {name: scripts.get(name, Script()) for name in ("oracle", "zeus", "yves")}
    return {"scripts": given, "contracts": contracts, "blocks": owned or (block(),)}


def naming(holder: str = "zeus") -> dict[str, Any]:
    """A first right to what is owned."""
    return first_right(holder, select={"trigger": ["owned"]})


async def test_owned_capacity_comes_first_and_opens_no_first_right(a_world) -> None:
    world = a_world(**three(right(), zeus=SILENT))
    row = await ran(world)
    assert attempts(row) == [("yves", "done")]
    assert blocks_of(world, row.job) == [("yves", "", "owned", "yves/b")]
    assert row.attempts[0].block == "yves/b" and row.attempts[0].hold == 16_000_000


async def test_how_much_of_it_is_taken_is_told(a_world) -> None:
    world = a_world(**three(right()))
    async with world.server() as server:
        told = [await server.desk.taken()]
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        told.append(await server.desk.taken())
        await until_over(server, row.job)
        told.append(await server.desk.taken())
    assert told == [{"yves/b": 0}, {"yves/b": 8}, {"yves/b": 0}]


async def test_what_does_not_fit_into_it_is_an_ordinary_new_job(a_world) -> None:
    """16 GPUs: two jobs of 8 fill it, the third meets the gate, and whoever comes when one is over goes in again."""
    no = Script(offers=[do.Declines(after_s=1)] * 9)
    world = a_world(**three(right(), zeus=no), work=Work(steps=100))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission()))[0].job for _ in range(3)]
        for job in jobs:
            await until_over(server, job)
        later, _ = await server.desk.submit(submission())
        await until_over(server, later.job)
    assert [blocks_of(world, job)[0][0] for job in (*jobs, later.job)] == ["yves", "yves", "zeus", "yves"]
    assert told(world, jobs[2]) == ["zeus", "oracle"]


@pytest.mark.parametrize(
    ("job", "owned"),
    [
        ({"workers": {"gpus": 17, "accelerator": ["H100"]}}, block()),
        ({"workers": {"gpus": 8, "accelerator": ["H100"]}}, block(accelerator="B200")),
        ({"maxRuntime": "25h"}, block()),
        ({"maxRuntime": "1h"}, block(until_us=STORY_BEGINS_US + 1800 * SECOND)),
        ({"maxRuntime": "1h"}, block(from_us=STORY_BEGINS_US + 1800 * SECOND)),
        ({"ceilingUsdPerGpuHour": 5}, block(price=6_000_000)),
        ({}, block(region="eu-9")),
        ({}, block(provider="nobody")),
    ],
    ids=["larger", "kind", "longer", "ending", "coming", "dear", "nowhere", "stranger"],
)  # fmt: skip
async def test_a_job_that_does_not_fit_is_asked_about_as_ever(a_world, job, owned) -> None:
    world = a_world(**three(None, owned))
    row = await ran(world, **job)
    assert blocks_of(world, row.job) == [("oracle", "", "new", "")]


async def test_a_first_right_that_names_owned_is_opened_before(a_world) -> None:
    no = Script(offers=[do.Declines(after_s=1)] * 9)
    world = a_world(**three(naming(), zeus=no))
    row = await ran(world)
    assert blocks_of(world, row.job) == [
        ("zeus", "agreement/rofr", "owned", "yves/b"),
        ("yves", "", "owned", "yves/b"),
    ]
    gates = next(e.gates for e in world.events(row.job) if isinstance(e, ev.Intended))
    assert [(gate.clause, gate.by) for gate in gates] == [("agreement/rofr", "declined")]


async def test_who_asks_more_than_was_agreed_for_its_block_makes_a_counter_and_sells_as_others_do(a_world) -> None:
    """Its holds are at the agreed price; what it asks in the market is another thing."""
    dear = Script(offers=[do.Accepts(price=6_160_000)] * 9)
    world = a_world({"yves": dear}, None, blocks=(block(),))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
    said = golden(timeline([(0, e) for e in world.events(row.job)]))
    assert blocks_of(world, row.job) == [("yves", "", "owned", "yves/b"), ("yves", "", "new", "")]
    assert [(a.block, a.price) for a in row.attempts] == [("", 6_160_000)]
    no = next(e for e in world.events(row.job) if isinstance(e, ev.OfferAnswered))
    assert (no.accepted, no.reason) == (False, "counter") and no.detail.startswith("price")
    assert "yves declined: its yes was to other terms than ours" in said


async def test_a_first_right_of_the_owner_to_its_own_block_is_at_the_agreed_price_too(a_world) -> None:
    dear = Script(offers=[do.Accepts(price=2_100_000), do.Accepts(price=2_000_000)])
    world = a_world({"yves": dear}, naming("yves"), blocks=(block(),))
    row = await ran(world)
    assert [(e.accepted, e.price) for e in world.events(row.job) if isinstance(e, ev.OfferAnswered)] == [
        (False, None),
        (True, 2_000_000),
    ]


async def test_a_job_may_pay_less_than_was_agreed(a_world) -> None:
    world = a_world({"yves": Script(offers=[do.Accepts(price=1_500_000)])}, None, blocks=(block(),))
    row = await ran(world, ceilingUsdPerGpuHour=5)
    assert (row.attempts[0].block, row.attempts[0].price) == ("yves/b", 1_500_000)


async def test_its_own_holder_is_asked_once_behind_its_gate(a_world) -> None:
    """It accepts: the job is in the block, by the first right."""
    world = a_world(**three(naming("yves")))
    row = await ran(world)
    assert blocks_of(world, row.job) == [("yves", "agreement/rofr", "owned", "yves/b")]
    assert row.attempts[0].block == "yves/b"


async def test_a_holder_that_takes_the_job_itself_takes_nothing_of_the_block(a_world) -> None:
    world = a_world(**three(naming()))
    row = await ran(world)
    assert attempts(row) == [("zeus", "done")] and row.attempts[0].block == ""


async def test_an_exclusive_keeps_others_out_of_their_own_block(a_world) -> None:
    only = agreement("zeus", {"id": "alone", "type": "exclusive"})
    world = a_world(**three(only))
    row = await ran(world)
    assert blocks_of(world, row.job) == [("zeus", "", "new", "")]


async def test_law_keeps_a_job_out_of_a_block(a_world) -> None:
    law = {"id": "law", "type": "residency", "regionsIn": ["US"]}
    world = a_world(**three(agreement("oracle", law)))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        assert (await server.desk.job(row.job)).state is JobState.HELD
    assert told(world, row.job) == []


async def test_a_block_whose_provider_declines_leaves_its_gate_to_be_passed(a_world) -> None:
    """The holder of the first right owns the block too: its no in the block is no answer to the gate."""
    yves = Script(offers=[do.Declines(after_s=1), do.Declines(after_s=1)] + [do.Accepts()] * 9)
    world = a_world(**three(first_right("yves"), yves=yves))
    row = await ran(world)
    assert blocks_of(world, row.job) == [
        ("yves", "", "owned", "yves/b"),
        ("yves", "agreement/rofr", "new", ""),
        ("oracle", "", "new", ""),
    ]


async def test_a_silent_or_unreachable_block_costs_no_more_than_a_window(a_world) -> None:
    yves = Script(offers=[do.Silent()] * 9)
    world = a_world(**three(None, yves=yves))
    row = await ran(world)
    assert told(world, row.job) == ["yves", "oracle"]
    assert row.attempts[0].intended_at - row.submitted_at < 90 * SECOND


async def test_the_offer_says_owned_and_the_launch_names_the_block(a_world) -> None:
    said: list[tuple[str, bytes]] = []

    def notes(offer: OfferOut, number: int) -> do.Accepts:
        said.append((offer.trigger, offer.terms))
        return do.Accepts()

    world = a_world(**three(None, yves=Script(offers=notes)))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers={"gpus": 8}))
        await until_over(server, row.job)
    assert said[0][0] == "owned" and b'"accelerators":["H100"]' in said[0][1]
    assert [launch.order.block for launch in world.providers["yves"].machines.launches.values()] == ["b"]


async def test_a_job_that_lost_its_machines_goes_into_a_block_as_owned(a_world) -> None:
    oracle = Script(scenes=[do.Kills(when=do.At(12))])
    owned = block(from_us=STORY_BEGINS_US + 8 * SECOND)
    world = a_world(**three(None, owned, oracle=oracle), work=Work(steps=60))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
    assert [(p, t) for p, _, t, _ in blocks_of(world, row.job)] == [("oracle", "new"), ("yves", "owned")]


async def test_a_job_that_lost_its_machines_in_a_block_goes_back_into_it_where_nobody_else_may_have_it(a_world) -> None:
    yves = Script(scenes=[do.Kills(when=do.AtStep(7))])
    world = a_world({"yves": yves}, None, blocks=(block(),))
    row = await ran(world)
    assert attempts(row) == [("yves", "fenced"), ("yves", "done")]
    assert [told[2:] for told in blocks_of(world, row.job)] == [("owned", "yves/b")] * 2
    assert (row.ended_at or 0) - row.submitted_at < 300e6


async def test_a_block_that_begins_takes_whoever_waits(a_world) -> None:
    full = Script(offers=[do.Declines(after_s=1, for_s=3000)] * 30)
    world = a_world(**three(None, block(from_us=STORY_BEGINS_US + 600 * SECOND), oracle=full, zeus=full,
                            yves=Script(offers=[do.Declines(after_s=1, for_s=3000), do.Accepts()])))  # fmt: skip
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job)
    begun = row.attempts[0].intended_at - STORY_BEGINS_US
    assert row.attempts[0].block == "yves/b" and 600 * SECOND <= begun < 602 * SECOND


async def test_what_is_applied_at_a_running_server_lifts_who_is_held_and_stays_until_the_file_changes(a_world) -> None:
    """Everything costs more than the job may; a block at an agreed price does not."""
    world = a_world({"oracle": Script(), "yves": Script(offers=[do.Accepts(price=2_000_000)])}, work=Work(steps=20))
    for provider in world.providers.values():
        provider.stage.set_price("H100", 5_000_000)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour=3))
        await asyncio.sleep(5)
        assert (await server.desk.job(row.job)).state is JobState.HELD
        force = await server.desk.own((block(),), "ann")
        assert [b.ref for b in force.blocks] == ["yves/b"]
        row = await until_over(server, row.job)
    assert row.attempts[0].block == "yves/b"
    async with world.server() as server:
        assert (await server.desk.in_force()).blocks == (block(),)
    world.blocks = (block(name="c"),)
    async with world.server() as server:
        assert (await server.desk.in_force()).blocks == world.blocks


async def test_what_runs_in_a_block_counts_over_restarts_and_when_the_block_shrinks(a_world) -> None:
    world = a_world(**three(), work=LONG)
    async with world.server() as server:
        first, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        await server.desk.own((block(gpus=8),), "ann")
    world.blocks = (block(gpus=8),)
    async with world.server() as server:
        second, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        assert (await server.desk.job(first.job)).state is JobState.RUNNING
        assert told(world, second.job) == ["oracle"]
        await server.desk.own((), "ann")
        third, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
    assert told(world, third.job) == ["oracle"]


async def test_an_acceptance_that_comes_when_the_block_is_gone_is_not_used(a_world) -> None:
    world = a_world(**three(None, yves=Script(offers=[do.Accepts(after_s=20)])))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.own((), "ann")
        row = await until_over(server, row.job)
    assert [e.why for e in world.events(row.job) if isinstance(e, ev.OfferWithdrawn)] == ["block_gone"]
    assert attempts(row) == [("oracle", "done")]


async def test_the_audit_counts_by_itself() -> None:
    """The server is made to believe in twice the GPUs that its ledger says are owned."""
    world = World(**three(None, block(gpus=16)), work=LONG)
    async with world.server() as server:
        server.engine.core.book.ledger = replace(server.engine.core.book.ledger, blocks=(block(gpus=32),))
        for _ in range(3):
            await server.desk.submit(submission())
        await asyncio.sleep(20)
    findings = audit(MemoryLedger(world.disk).snapshot()).findings
    assert ("24 GPUs of 16") in " ".join(f.words for f in findings if f.sentence == 40)


async def test_an_elastic_job_takes_as_much_of_a_block_as_was_accepted(a_world) -> None:
    """Of 16 GPUs two jobs of up to 8 take 3 each; a third one, whose most is 8, fits beside them, a fourth does not."""
    few = Script(offers=[do.Accepts(workers=3)] * 4)
    size = {"count": {"min": 2, "max": 8}, "gpus": 1, "accelerator": ["H100"]}
    world = a_world(**three(yves=few), work=LONG)
    async with world.server() as server:
        jobs = []
        for _ in range(4):
            jobs.append((await server.desk.submit(submission(workers=size)))[0].job)
            await asyncio.sleep(5)
        row = await server.desk.job(jobs[0])
    assert [blocks_of(world, job)[0][3] for job in jobs] == ["yves/b"] * 3 + [""]
    assert row.attempts[0].workers == 3


NEVER = do.Declines(reason=Reason.SPEC)


async def test_a_job_that_may_fit_into_what_is_owned_is_not_held_although_its_owner_sells_nothing_like_it(
    a_world,
) -> None:
    """The block's own no is good for a moment, to this job and to the other that waits."""
    yves = Script(offers=[do.Declines(for_s=30), NEVER, NEVER, do.Accepts(), do.Accepts()])
    world = a_world({"yves": yves}, None, blocks=(block(gpus=8),))
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission()))[0].job for _ in range(2)]
        rows = [await until_over(server, job) for job in jobs]
    assert [attempts(row) for row in rows] == [[("yves", "done")]] * 2
    assert all("Held" not in kinds(world, job) for job in jobs)


@pytest.mark.parametrize(
    ("begins", "ends", "held"),
    [(HOUR, DAY, False), (DAY - HOUR / 2, DAY, True), (-HOUR, HOUR / 2, True), (-HOUR, HOUR * 2, False)],
)
async def test_nor_while_a_block_is_owned_or_is_to_come_that_lasts_for_long_enough(a_world, begins, ends, held) -> None:
    when = {"from_us": STORY_BEGINS_US + int(begins * SECOND), "until_us": STORY_BEGINS_US + int(ends * SECOND)}
    world = a_world({"yves": Script(offers=[NEVER] * 9)}, None, blocks=(block(**when),))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
    assert ("Held" in kinds(world, row.job)) is held


async def test_a_held_job_goes_on_once_capacity_is_owned_that_it_fits_into(a_world) -> None:
    world = a_world({"yves": Script(offers=[NEVER])})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        assert kinds(world, row.job)[-1] == "Held"
        await server.desk.own((block(),), "somebody")
        row = await until_over(server, row.job)
    assert row.attempts[0].block == "yves/b"


async def test_who_is_woken_by_a_block_waits_on_until_the_moment_that_was_known(a_world) -> None:
    """Its machines were lost at the only one who is cheap enough and there, who is not asked for a while; the block is
    never free for all of it, however often something in it is over."""
    oracle = Script(scenes=[do.Kills(when=do.AtStep(3))])
    yves, away = (
        Script(offers=[do.Accepts(price=2_000_000)] * 9),
        Script(scenes=[do.Unreachable(when=do.At(0.5), for_s=9000)]),
    )
    world = a_world({"oracle": oracle, "yves": yves, "azure": away}, None, Work(steps=60), blocks=(block(gpus=9),))
    world.providers["oracle"].stage.set_price("H100", 1_000_000)
    world.providers["yves"].stage.set_price("H100", 5_000_000)
    async with world.server() as server:
        for _ in range(9):
            await server.desk.submit(submission(workers={"gpus": 1, "accelerator": ["H100"]}))
            await asyncio.sleep(2)
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour=3))
        row = await until_over(server, row.job)
    ends = [e.until for e in world.events(row.job) if isinstance(e, ev.RoundEnded)]
    assert ends[-1] == ends[-2] <= row.attempts[1].intended_at < ends[-1] + SECOND
    assert [a.provider for a in row.attempts] == ["oracle", "oracle"]
