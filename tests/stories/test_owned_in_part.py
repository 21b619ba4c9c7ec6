"""Divisible jobs and capacity that is owned: a block without room for the whole takes the part that fits (R7)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.core.explain import golden, timeline
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState, RefusalRow
from orchestrator.model.offer import Reason
from orchestrator.model.placement import parse_terms
from orchestrator.simulate.world import Server, World, agreement, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.scripts import Script
from tests.stories.agreements import right, told
from tests.stories.test_divisible import EIGHT, divided, opened, parts, pieces, sizes, takes
from tests.stories.test_owned import DAY, LONG, SECOND, block, blocks_of, naming, three
from tests.stories.words import attempts, kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

NO = Script(offers=[do.Declines(after_s=1)] * 9)
SIX = block(gpus=6)
ONE = {"gpus": 1, "accelerator": ["H100"]}


def offered(world: World, job: str) -> list[tuple[str, int, int]]:
    """(whom, the least and the most workers) of each offer."""
    found = [e for e in world.events(job) if isinstance(e, ev.OfferOpened)]
    terms = [parse_terms(world.disk.specs[e.terms]) for e in found]
    return [(e.block or e.provider, t.fewest, t.workers) for e, t in zip(found, terms, strict=True)]


def refused(world: World, rest: JobRow) -> tuple[RefusalRow, ...]:
    """The noes that what is left began with."""
    came = next(e for e in world.events(rest.job) if isinstance(e, ev.Submitted))
    assert came.rest is not None
    return came.rest.refused


async def begun(server: Server, **spec: Any) -> JobRow:
    row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT, **spec))
    await asyncio.sleep(5)
    return await server.desk.job(row.job)


async def test_a_block_takes_what_it_has_room_for_and_the_rest_is_an_ordinary_new_job(a_world) -> None:
    """The first right is over all of the rest, and nothing but the block's room was ever offered to its owner."""
    world = a_world(**three(right(), SIX))
    mine, rest = await divided(world)
    assert (blocks_of(world, mine.job), offered(world, mine.job)) == (
        [("yves", "", "owned", "yves/b")], [("yves/b", 1, 6)]
    )  # fmt: skip
    assert (mine.attempts[0].block, sizes(world, "yves")) == ("yves/b", [(mine.job, 6)])
    assert (refused(world, rest), rest.piece, attempts(rest)) == ((), 6, [("zeus", "done")])
    assert (blocks_of(world, rest.job), offered(world, rest.job)) == (
        [("zeus", "agreement/rofr", "new", "")], [("zeus", 1, 2)]
    )  # fmt: skip
    assert pieces(world, rest) == ("6", "2", "8")


async def test_its_owner_may_take_fewer_and_has_refused_no_right_by_that(a_world) -> None:
    """It is the holder of the first right as well: of what it left it is asked, for all of that."""
    world = a_world(**three(first_right("yves"), SIX, yves=takes(4, None)))
    mine, rest = await divided(world)
    assert (refused(world, rest), sizes(world, "yves")) == ((), [(mine.job, 4), (rest.job, 4)])
    assert offered(world, rest.job) == [("yves", 1, 4)]


async def test_nor_behind_its_own_right_to_the_block(a_world) -> None:
    """More than the block has room for was not offered to it: that is asked for again, elsewhere by another right."""
    agreed = first_right("yves", select={"trigger": ["owned", "new"]})
    world = a_world(**three(agreed, SIX, yves=takes(4, None)))
    mine, rest = await divided(world)
    assert [offered(world, row.job) for row in (mine, rest)] == [[("yves/b", 1, 6)], [("yves", 1, 4)]]
    assert (opened(world, mine.job).clause, refused(world, rest)) == ("agreement/rofr", ())


async def test_who_declines_the_part_leaves_the_whole_to_everybody_in_the_same_round(a_world) -> None:
    world = a_world(**three(right(), SIX, yves=Script(offers=[do.Declines(after_s=1)])))
    (row,) = await divided(world)
    assert offered(world, row.job) == [("yves/b", 1, 6), ("zeus", 1, 8)]
    assert (row.round, attempts(row)) == (1, [("zeus", "done")])


@pytest.mark.parametrize("say", [do.Declines(after_s=1), do.Silent()], ids=["a no", "silence"])
async def test_a_no_to_the_part_is_none_to_the_job(a_world, say) -> None:
    """Its owner holds the first right to the block and to what is new, and an exclusive that its no would free; it was
    offered six of eight, and so is asked for eight."""
    agreed = agreement(
        "yves",
        {"id": "rofr", "type": "first_right", "window": "1m", "select": {"trigger": ["owned", "new"]}},
        {"id": "alone", "type": "exclusive", "release": ["holder_declined", "unmet_capacity"]},
    )
    world = a_world(**three(agreed, SIX, yves=Script(offers=[say])))
    (row,) = await divided(world)
    assert offered(world, row.job) == [("yves/b", 1, 6), ("yves", 1, 8)]
    assert (opened(world, row.job).clause, attempts(row)) == ("agreement/rofr", [("yves", "done")])


@pytest.mark.parametrize(
    ("owned", "first", "then"),
    [
        ((block(gpus=3), block(gpus=6, name="c")), ("yves/c", 1, 6), ("yves/b", 1, 2)),
        ((block(gpus=6), block(gpus=6, name="c", until_us=STORY_BEGINS_US + DAY // 2 * SECOND)),
         ("yves/c", 1, 6), ("yves/b", 1, 2)),
        ((block(gpus=5), block(gpus=2, name="c", provider="zeus")), ("yves/b", 1, 5), ("zeus/c", 1, 2)),
    ],
    ids=["the larger", "the one that ends soonest", "what is left of the rest"],
)  # fmt: skip
async def test_of_several_blocks_the_one_that_takes_most_comes_first(a_world, owned, first, then) -> None:
    world = a_world(**three(None, *owned))
    rows = await divided(world)
    assert [offered(world, row.job)[0] for row in rows[:2]] == [first, then]


async def test_what_fits_whole_is_not_divided(a_world) -> None:
    """Although the smaller block ends sooner."""
    sooner = block(gpus=6, name="c", until_us=STORY_BEGINS_US + DAY // 2 * SECOND)
    world = a_world(**three(None, block(gpus=8), sooner))
    (row,) = await divided(world)
    assert offered(world, row.job) == [("yves/b", 1, 8)]


async def test_a_part_takes_its_own_size_of_the_block_and_leaves_the_other_room_to_others(a_world) -> None:
    """Four of eight GPUs are another's: the part is four, and what its owner left of it is free for the next."""
    world = a_world(**three(None, block(gpus=8), yves=takes(None, 3, None)), work=LONG)
    async with world.server() as server:
        await server.desk.submit(submission(workers={"gpus": 4, "accelerator": ["H100"]}))
        row = await begun(server)
        world.blocks = (block(gpus=8),)
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission(workers=ONE)))[0].job for _ in range(2)]
        await asyncio.sleep(5)
    assert offered(world, row.job) == [("yves/b", 1, 4)]
    assert [blocks_of(world, job)[0][3] for job in jobs] == ["yves/b", ""]


@pytest.mark.parametrize(("took", "why"), [(4, []), (5, ["block_gone"])])
async def test_of_a_block_that_shrinks_meanwhile_as_much_is_used_as_there_is(a_world, took, why) -> None:
    world = a_world(**three(None, SIX, yves=Script(offers=[do.Accepts(after_s=20, workers=took)])))
    async with world.server() as server:
        row = await begun(server)
        await server.desk.own((block(gpus=4),), "ann")
        rows = await parts(server, row.job)
    assert [e.why for e in world.events(row.job) if isinstance(e, ev.OfferWithdrawn)] == why
    assert attempts(rows[0]) == [("oracle" if why else "yves", "done")] and len(rows) == (1 if why else 2)


@pytest.mark.parametrize(("gpus", "first"), [(3, ("zeus", 4, 8)), (5, ("yves/b", 4, 5))])
async def test_nobody_takes_less_in_a_block_than_a_first_right_lets_its_holder_take(a_world, gpus, first) -> None:
    """Although it is not opened by what is owned; three of the five are a counter."""
    world = a_world(**three(first_right("zeus", partial={"minGpus": 4}), block(gpus=gpus), yves=takes(3)))
    rows = await divided(world)
    assert offered(world, rows[0].job)[0] == first
    assert attempts(rows[0]) == [("zeus", "done")]


@pytest.mark.parametrize("gpus", [8, 16])
async def test_nor_of_what_fits_whole(a_world, gpus) -> None:
    world = a_world(**three(first_right("zeus", partial={"minGpus": 4}), block(gpus=gpus)))
    (row,) = await divided(world)
    assert offered(world, row.job) == [("yves/b", 4, 8)]


async def test_a_right_to_what_is_owned_is_asked_for_the_whole_before_the_block_is_for_its_part(a_world) -> None:
    world = a_world(**three(naming(), SIX, zeus=NO))
    mine, rest = await divided(world)
    assert offered(world, mine.job) == [("yves/b", 1, 8), ("yves/b", 1, 6)]
    assert told(world, mine.job) == ["zeus", "yves"]
    assert [(no.provider, no.how, no.job) for no in refused(world, rest)] == [("zeus", "declined", mine.job)]


async def test_its_size_frees_no_part_of_a_block(a_world) -> None:
    """The right to what is owned, and the exclusive, are over jobs of eight GPUs: the six are a part of one (R17)."""
    large = {"gpus": {"gte": 8}}
    world = a_world(**three(first_right("zeus", select={"trigger": ["owned"], **large}), SIX))
    assert told(world, (await divided(world))[0].job) == ["zeus"]
    only = agreement("zeus", {"id": "alone", "type": "exclusive", "select": large})
    world = a_world(**three(only, SIX))
    assert [told(world, row.job) for row in await divided(world)] == [["zeus"]]


async def test_the_rest_is_no_small_job_for_an_exemption_either(a_world) -> None:
    """Two of eight GPU-hours would fit into its total of seven; the eight of which they are a part do not."""
    below = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 64}}}
    total = {"maxGpuHoursPerWindow": [7, "7d"], "per": "lineage"}
    world = a_world(**three(right(below | total), SIX))
    _, rest = await divided(world)
    assert told(world, rest.job) == ["zeus"]


async def test_a_part_that_is_lost_is_one_size(a_world) -> None:
    """Once its machines are gone the block is smaller: nobody takes four of the six."""
    lost = Script(scenes=[do.Kills(when=do.AtStep(12))])
    world = a_world(**three(None, SIX, yves=lost), work=Work(steps=40, checkpoint_every=5))
    async with world.server() as server:
        row = await begun(server)
        await server.desk.own((block(gpus=4),), "ann")
        mine, rest = await parts(server, row.job)
    assert offered(world, mine.job) == [("yves/b", 1, 6), ("oracle", 6, 6)]
    assert (pieces(world, mine), pieces(world, rest)) == (("0", "6", "8"), ("6", "2", "8"))


async def test_a_job_that_has_run_is_not_divided_by_a_block(a_world) -> None:
    lost = Script(scenes=[do.Kills(when=do.AtStep(12))])
    coming = block(gpus=6, from_us=STORY_BEGINS_US + 8 * SECOND)
    world = a_world(**three(None, coming, oracle=lost), work=Work(steps=40, checkpoint_every=5))
    (row,) = await divided(world)
    assert offered(world, row.job) == [("oracle", 1, 8), ("zeus", 8, 8)]


async def test_explain_says_for_how_many_the_block_has_room(a_world) -> None:
    world = a_world(**three(None, SIX, yves=takes(4)))
    mine, _ = await divided(world)
    said = golden(timeline([(0, e) for e in world.events(mine.job)]))
    assert "offered to yves: owned capacity yves/b, which has room for 6 workers\n" in said
    assert "split: yves took 4 workers, the other 4 are a job of their own\n" in said


async def test_a_job_is_not_held_while_a_block_may_take_a_part_of_it(a_world) -> None:
    """Everybody says that they never can, the owner for now."""
    never = do.Declines(reason=Reason.SPEC)
    world = a_world({"yves": Script(offers=[do.Declines(for_s=30), never, do.Accepts()])}, None, blocks=(SIX,))
    async with world.server() as server:
        row = await begun(server)
        row = await until_over(server, row.job)
    assert row.attempts[0].block == "yves/b"


def dear(a_world, *took: int | None) -> World:
    """Half of a block is another job's for a while, and all others are too dear."""
    yves = Script(offers=[do.Accepts(price=2_000_000, workers=n) for n in (None, *took)])
    world = a_world({"oracle": Script(), "yves": yves}, None, Work(steps=200), blocks=(block(gpus=8),))
    for provider in world.providers.values():
        provider.stage.set_price("H100", 5_000_000)
    return world


async def test_what_is_left_goes_into_the_block_as_soon_as_there_is_room(a_world) -> None:
    """It is held until then."""
    world = dear(a_world, 4, None)
    async with world.server() as server:
        other, _ = await server.desk.submit(submission(workers={"gpus": 4, "accelerator": ["H100"]}))
        mine = await begun(server, ceilingUsdPerGpuHour=3)
        assert (await server.desk.job(mine.rest)).state is JobState.HELD
        rest = await until_over(server, mine.rest)
        other = await server.desk.job(other.job)
    assert other.ended_at is not None and [a.block for a in rest.attempts] == ["yves/b"]
    assert 0 <= rest.attempts[0].intended_at - other.ended_at < 2 * SECOND


async def test_of_a_block_that_has_spare_room_the_rest_is_offered_that_a_little_later(a_world) -> None:
    """Whoever took three of four is not asked for the fourth at once, and the rest waits for that, not for a person."""
    world = dear(a_world, 3, None)
    async with world.server() as server:
        await server.desk.submit(submission(workers={"gpus": 4, "accelerator": ["H100"]}))
        mine = await begun(server, ceilingUsdPerGpuHour=3)
        await asyncio.sleep(35)
        rest = await server.desk.job(mine.rest)
    assert offered(world, rest.job) == [("yves/b", 1, 1)]
    assert 30 * SECOND <= rest.attempts[0].intended_at - mine.attempts[0].intended_at < 32 * SECOND
    assert "Held" not in kinds(world, rest.job)
