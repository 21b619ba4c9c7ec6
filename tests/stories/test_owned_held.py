"""Held jobs and capacity that is owned: whom nothing but a block may take goes into it as soon as there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.model.offer import OfferOut, Reason
from orchestrator.simulate.world import Server, World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.test_divisible import EIGHT
from tests.stories.test_owned import NEVER, block, three
from tests.stories.words import attempts, kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

FOUR = {"gpus": 4, "accelerator": ["H100"]}
CHEAP = do.Accepts(price=2_000_000)


def dear(a_world, *first: do.Say, unwanted: Collection[str] = ()) -> World:
    """All costs more than the jobs may, but for a block of four; `first`: what its owner says before it agrees to all
    but the `unwanted`."""
    said = iter(first)

    def answer(offer: OfferOut, _: int) -> do.Say:
        return do.Declines(reason=Reason.SPEC) if offer.offer.partition("-")[0] in unwanted else next(said, CHEAP)

    scripts = {"oracle": Script(), "yves": Script(offers=answer)}
    world = a_world(scripts, None, Work(steps=200), blocks=(block(gpus=4),))
    for provider in world.providers.values():
        provider.stage.set_price("H100", 5_000_000)
    return world


async def begun(server: Server, **more: object) -> JobRow:
    row, _ = await server.desk.submit(submission(**{"workers": FOUR, "ceilingUsdPerGpuHour": 3, **more}))
    await asyncio.sleep(3)
    return await server.desk.job(row.job)


@pytest.mark.parametrize(
    "no", [do.Declines(for_s=100), do.Declines(reason=Reason.ERROR), do.Silent()], ids=["full", "a bug", "silence"]
)
async def test_one_that_was_declined_there_is_put_to_it_again(a_world, no: do.Say) -> None:
    """Nobody else may take it, so that it would wait for a person although its place is owned."""
    world = dear(a_world, no)
    async with world.server() as server:
        row = await begun(server)
        row = await until_over(server, row.job, 900)
    assert (attempts(row), row.attempts[0].block) == ([("yves", "done")], "yves/b")
    assert "Held" not in kinds(world, row.job) and kinds(world, row.job).count("OfferOpened") == 2


@pytest.mark.parametrize(
    "no", [do.Declines(for_s=100), do.Declines(reason=Reason.PRICE), do.Silent()], ids=["full", "dear", "silence"]
)
async def test_a_no_of_its_owner_that_passes_its_right_to_it_leaves_no_job_stuck(a_world, no: do.Say) -> None:
    """It is good for a day; whom nobody else may take is offered to it again, round after round, ungated (R10)."""
    world = dear(a_world, no, no)
    world.agree(first_right("yves", select={"trigger": ["owned"]}))
    async with world.server() as server:
        row = await begun(server)
        row = await until_over(server, row.job, 2400)
    offers = [e for e in world.events(row.job) if isinstance(e, ev.OfferOpened)]
    assert [(e.block, e.clause) for e in offers] == [("yves/b", "agreement/rofr"), ("yves/b", ""), ("yves/b", "")]
    assert attempts(row) == [("yves", "done")]


async def test_nor_does_it_where_the_block_is_full_by_the_next_round(a_world) -> None:
    world = dear(a_world, do.Declines(reason=Reason.PRICE))
    world.agree(first_right("yves", select={"trigger": ["owned"]}))
    async with world.server() as server:
        row = await begun(server)
        other = await begun(server, workers={**FOUR, "gpus": 2})
        await asyncio.sleep(60)
        assert (await server.desk.job(row.job)).reason == "over_ceiling"
        other, row = [await until_over(server, one.job) for one in (other, row)]
    assert (row.attempts[0].block, other.attempts[0].block) == ("yves/b", "yves/b")
    assert row.attempts[0].intended_at - (other.ended_at or 0) < 2_000_000


@pytest.mark.parametrize("away", ["yves", "oracle"], ids=["its provider", "who has a right to it"])
async def test_it_goes_into_the_block_once_whoever_is_to_be_asked_is_back(a_world, away: str) -> None:
    world = dear(a_world, *[do.Declines(reason=Reason.PRICE)] * (away == "oracle"))
    world.agree(first_right(away, select={"trigger": ["owned"]}))
    async with world.server() as server:
        await asyncio.sleep(5)
        world.providers[away].play(do.Unreachable(when=do.At(0), for_s=300))
        await asyncio.sleep(30)
        row = await begun(server)
        assert row.reason == "over_ceiling"
        row = await until_over(server, row.job, 900)
    assert row.attempts[0].block == "yves/b"


async def test_it_goes_on_in_the_block_where_it_was_lost_once_that_may_be_trusted_again(a_world) -> None:
    world = dear(a_world)
    async with world.server() as server:
        row = await begun(server)
        await asyncio.sleep(20)
        yves = world.providers["yves"]
        yves.play(do.Unreachable(when=do.At(0), for_s=300))
        yves.play(do.DataCut(when=do.At(0), for_s=300))
        row = await until_over(server, row.job, 7200)
    assert [(attempt.block, attempt.how) for attempt in row.attempts] == [("yves/b", "fenced"), ("yves/b", "done")]


async def test_what_is_no_longer_owned_holds_it_as_ever(a_world) -> None:
    world = dear(a_world, *[do.Declines(for_s=5)] * 9)
    async with world.server() as server:
        row = await begun(server)
        assert row.state is JobState.QUEUED and row.wait_until is not None
        await server.desk.own((), "ann")
        await asyncio.sleep(60)
        assert (await server.desk.job(row.job)).reason == "over_ceiling"


async def test_one_that_the_block_does_not_take_keeps_no_other_of_its_shape_out(a_world) -> None:
    unwanted: set[str] = set()
    world = dear(a_world, do.Declines(reason=Reason.SPEC), unwanted=unwanted)
    async with world.server() as server:
        first = await begun(server)
        unwanted.add(first.job)
        inside = await begun(server, workers={**FOUR, "gpus": 2})
        waits = await begun(server)
        assert [row.reason for row in (inside, waits)] == ["", "over_ceiling"]
        inside, waits = [await until_over(server, row.job) for row in (inside, waits)]
        assert not (await server.desk.job(first.job)).attempts
    assert waits.attempts[0].block == "yves/b"
    assert waits.attempts[0].intended_at - (inside.attempts[0].ended_at or 0) < 2_000_000


async def test_as_many_go_on_as_there_is_room_for_and_the_oldest_first(a_world) -> None:
    world = dear(a_world)
    async with world.server() as server:
        rows = [await begun(server) for _ in range(4)]
        rows = [await until_over(server, row.job) for row in rows]
    assert [attempts(row) for row in rows] == [[("yves", "done")]] * 4
    assert sorted(rows, key=lambda row: row.attempts[0].intended_at) == rows
    assert [kinds(world, row.job).count("Resumed") for row in rows] == [0, 1, 1, 1]


@pytest.mark.parametrize(("gpus", "held"), [(3, True), (4, False)])
async def test_a_block_that_may_take_no_part_of_a_job_keeps_it_from_being_held_no_longer(a_world, gpus, held) -> None:
    """Zeus's right to what is owned lets nobody take fewer than four of eight."""
    agreed = first_right("zeus", select={"trigger": ["owned"]}, partial={"minGpus": 4})
    no = Script(offers=[NEVER] * 9)
    world = a_world(**three(agreed, block(gpus=gpus), oracle=no, zeus=no, yves=no))
    async with world.server() as server:
        row = await begun(server, divisible=True, workers=EIGHT, ceilingUsdPerGpuHour=None)
        await asyncio.sleep(60)
        assert (kinds(world, row.job)[-1] == "Held") is held
        await server.desk.own((block(gpus=4),), "ann")
        await asyncio.sleep(5)
        assert kinds(world, row.job)[-1] != "Held"


async def test_one_that_a_full_block_declined_for_long_goes_into_it_as_soon_as_room_comes_free(a_world) -> None:
    world = dear(a_world, do.Declines(for_s=21_600))
    async with world.server() as server:
        row = await begun(server)
        await asyncio.sleep(60)
        world.providers["yves"].play(do.Frees(when=do.At(0), gpus=4))
        row = await until_over(server, row.job, 900)
    assert row.attempts[0].block == "yves/b" and row.attempts[0].intended_at - row.submitted_at < 120e6
