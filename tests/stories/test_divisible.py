"""Divisible jobs: who accepts a part is the job's, and the rest is another job, which they have refused (R7)."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.environment import own_variables
from orchestrator.core.explain import golden, timeline
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.model.offer import Reason
from orchestrator.model.placement import parse_shape, parse_terms
from orchestrator.model.wire import AttemptEnv
from orchestrator.ports.ledger import Committed
from orchestrator.simulate.world import (
    POLICY,
    Server,
    World,
    agreement,
    first_right,
    provider_document,
    submission,
    until_over,
)
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.agreements import alone, freed, record, right, rights, told
from tests.stories.words import attempts

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

EIGHT = {"count": 8, "gpus": 1, "accelerator": ["H100"]}


def takes(*workers: int | None) -> Script:
    return Script(offers=[do.Accepts(workers=n) for n in workers])


async def divided(world: World, **spec: Any) -> list[JobRow]:
    """The job and what was left of it, and of that, each at its end."""
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT, **spec))
        return await parts(server, row.job)


async def parts(server: Server, job: str) -> list[JobRow]:
    found = [await until_over(server, job)]
    while found[-1].rest:
        found.append(await until_over(server, found[-1].rest))
    return found


def sizes(world: World, name: str) -> list[tuple[str, int]]:
    """(job, workers) of each launch there."""
    return [(one.order.job, one.order.workers) for one in world.providers[name].machines.launches.values()]


def opened(world: World, job: str, n: int = 1) -> ev.OfferOpened:
    return next(e for e in world.events(job) if isinstance(e, ev.OfferOpened) and e.n == n)


def pieces(world: World, row: JobRow) -> tuple[str, str, str]:
    """What its last launch tells user code: its first piece, how many it has, and how many the whole had."""
    name = row.attempts[-1].provider
    launch = [one for one in world.providers[name].machines.launches.values() if one.order.job == row.job][-1]
    told = own_variables(AttemptEnv.from_json(launch.order.attempt), "nonce", Path("work"))
    told |= AttemptEnv.from_json(launch.order.attempt).environment
    return told["ORCHESTRATOR_PIECE"], told["ORCHESTRATOR_WORKERS"], told["ORCHESTRATOR_PIECES"]


async def test_what_the_holder_leaves_goes_straight_to_the_market(a_world) -> None:
    world = a_world({"azure": takes(3), "oracle": Script()}, first_right("azure"))
    mine, rest = await divided(world)
    assert (attempts(mine), attempts(rest)) == ([("azure", "done")], [("oracle", "done")])
    assert (sizes(world, "azure"), sizes(world, "oracle")) == ([(mine.job, 3)], [(rest.job, 5)])
    assert (told(world, mine.job), told(world, rest.job)) == (["azure"], ["oracle"])
    assert (mine.rest, rest.rest_of, rest.piece, rest.name) == (rest.job, f"{mine.job}-o1", 3, mine.name)


async def test_one_commit_holds_the_acceptance_and_what_it_leaves(a_world) -> None:
    world = a_world({"azure": takes(3), "oracle": Script()}, first_right("azure"))
    ends: list[int] = []
    world.on_commit = lambda _: ends.append(len(world.disk.events))
    mine, rest = await divided(world)
    split = next(e for e in world.events(mine.job) if isinstance(e, ev.Split))
    came = next(e for e in world.events(rest.job) if isinstance(e, ev.Submitted))
    assert (split.workers, split.left, split.rest) == (3, 5, rest.job)
    assert came.rest is not None and came.rest.asked == ("azure",)
    (no,) = came.rest.refused
    assert (no.provider, no.how, no.reason, no.job, no.n) == ("azure", "split", Reason.CAPACITY, mine.job, 1)
    offered = parse_terms(world.disk.specs[opened(world, mine.job).terms])
    assert (offered.divisible, offered.workers, offered.fewest) == (True, 8, 1)
    assert parse_terms(world.disk.specs[no.terms]) == offered.left_by(3)
    shapes = [parse_shape(world.disk.specs[digest]) for digest in (split.shape, came.shape)]
    assert [(s.workers, s.fewest, s.pieces) for s in shapes] == [(3, 3, 8), (5, 1, 8)]
    commit = {(e.job, e.kind): bisect_left(ends, n) for n, e in enumerate(world.disk.events, 1)}
    assert len({commit[mine.job, "OfferAnswered"], commit[mine.job, "Split"], commit[mine.job, "Intended"]}) == 1
    assert commit[rest.job, "Submitted"] == commit[mine.job, "Split"] < commit[rest.job, "Intended"]


async def test_whose_whole_it_takes_is_not_split(a_world) -> None:
    world = a_world({"azure": takes(None), "oracle": Script()}, first_right("azure"))
    (row,) = await divided(world)
    assert (sizes(world, "azure"), row.rest) == ([(row.job, 8)], "")


async def test_in_the_market_each_takes_what_it_has_room_for(a_world) -> None:
    """Split twice: three jobs run side by side, and together they are the eight pieces."""
    world = a_world({name: Script() for name in ("azure", "coreweave", "oracle")})
    world.providers["azure"].stage.gpus, world.providers["coreweave"].stage.gpus = 2, 3
    rows = await divided(world)
    assert [attempts(row) for row in rows] == [[(n, "done")] for n in ("azure", "coreweave", "oracle")]
    assert [row.piece for row in rows] == [0, 2, 5]
    assert [pieces(world, row) for row in rows] == [("0", "2", "8"), ("2", "3", "8"), ("5", "3", "8")]
    assert max(row.attempts[0].intended_at for row in rows) - rows[0].submitted_at < 1_000_000


async def test_user_code_knows_its_pieces_after_a_loss_too(a_world) -> None:
    """What was accepted is the job's size for all its life: whoever takes over takes exactly that."""
    lost = Script(offers=[do.Accepts(workers=3)], scenes=[do.Kills(when=do.AtStep(12))])
    world = a_world({"azure": lost, "oracle": Script()}, None, Work(steps=40, checkpoint_every=5))
    mine, rest = await divided(world)
    assert attempts(mine) == [("azure", "fenced"), ("oracle", "done")]
    assert [size for job, size in sizes(world, "oracle") if job == mine.job] == [3]
    assert (pieces(world, mine), pieces(world, rest)) == (("0", "3", "8"), ("3", "5", "8"))
    again = [e for e in world.events(mine.job) if isinstance(e, ev.OfferOpened)][-1]
    assert not parse_terms(world.disk.specs[again.terms]).elastic


async def test_a_part_below_the_clause_s_least_is_a_decline_and_nobody_may_take_less(a_world) -> None:
    world = a_world({"azure": takes(3), "oracle": takes(4)}, first_right("azure", partial={"minGpus": 4}))
    mine, rest = await divided(world)
    no = next(e for e in world.events(mine.job) if isinstance(e, ev.OfferAnswered))
    assert (no.accepted, no.reason) == (False, Reason.COUNTER)
    assert (told(world, mine.job), sizes(world, "oracle")[0]) == (["azure", "oracle"], (mine.job, 4))
    assert parse_terms(world.disk.specs[opened(world, mine.job, 2).terms]).fewest == 4
    assert told(world, rest.job) == ["oracle"], "azure's no to four and more covers the last four, oracle's part them"


async def test_what_is_left_below_the_least_is_offered_again_to_whom_it_was_not_offered(a_world) -> None:
    """Azure refused parts of four and more; three it was never offered (R8)."""
    world = a_world(
        {"azure": Script(offers=[do.Declines()]), "oracle": takes(5)}, first_right("azure", partial={"minGpus": 4})
    )
    mine, rest = await divided(world)
    assert (told(world, mine.job), told(world, rest.job)) == (["azure", "oracle"], ["azure"])
    assert attempts(rest) == [("azure", "done")]


async def test_the_next_right_is_asked_for_what_the_first_leaves(a_world) -> None:
    world = a_world({"azure": takes(2), "oracle": takes(4), "zeus": Script()}, rights("azure", "oracle"))
    rows = await divided(world)
    assert [told(world, row.job) for row in rows] == [["azure"], ["oracle"], ["zeus"]]
    assert [opened(world, row.job).clause for row in rows] == ["of-azure/rofr", "of-oracle/rofr", ""]
    (gates,) = [e.gates for e in world.events(rows[2].job) if isinstance(e, ev.Intended)]
    assert [(g.holder, g.by, g.offer) for g in gates] == [
        ("azure", "split", f"{rows[0].job}-o1"), ("oracle", "split", f"{rows[1].job}-o1")
    ]  # fmt: skip


async def test_after_the_tail_the_holder_is_asked_for_the_rest_again(a_world) -> None:
    slow = Script(offers=[do.Silent()] * 3)
    world = a_world({"azure": takes(3), "oracle": slow}, first_right("azure", tail="30s"))
    mine, rest = await divided(world)
    assert told(world, rest.job) == ["oracle", "azure"] and mine.rest == rest.job


async def test_an_exclusive_that_frees_unmet_capacity_frees_what_its_holder_leaves(a_world) -> None:
    for release, who in (("unmet_capacity", "oracle"), ("holder_declined", "oracle"), ("consent", "azure")):
        world = a_world({"azure": takes(3, 5), "oracle": Script()}, alone(release))
        rows = await divided(world)
        assert [attempts(row) for row in rows] == [[("azure", "done")], [(who, "done")]]


async def test_an_exclusive_that_its_holder_freed_is_free_for_each_part_of_the_whole_that_it_declined(a_world) -> None:
    """Its no to all eight covers three of them, three again after a rejected launch, and two of the five others."""
    for launch in (do.Starts(), do.Rejects()):
        market = Script(offers=[do.Accepts(workers=3)], launches=[launch])
        scripts = {"azure": Script(offers=[do.Declines()] * 9), "oracle": market, "zeus": takes(2)}
        rows = await divided(a_world(scripts, alone("holder_declined")))
        assert [row.piece for row in rows][:2] == [0, 3] and len(rows) > 1
        assert all(a.provider != "azure" for row in rows for a in row.attempts)


async def test_a_part_that_is_cancelled_leaves_the_others(a_world) -> None:
    world = a_world({"azure": takes(3), "oracle": Script()}, first_right("azure"), Work(steps=60))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT))
        await asyncio.sleep(20)
        await server.desk.cancel(row.job, "me")
        mine, rest = await parts(server, row.job)
    assert (mine.state, rest.state) == (JobState.CANCELLED, JobState.SUCCEEDED)


async def test_a_server_that_dies_at_the_split_goes_on_with_both(a_world) -> None:
    world = a_world(
        {"azure": Script(offers=[do.Accepts(workers=3, after_s=30)]), "oracle": Script()}, first_right("azure")
    )

    def die(_: Committed) -> None:
        if any(e.kind == "Split" for e in world.disk.events):
            raise ConnectionError("the machine is gone")

    world.on_commit = die
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT))
        await asyncio.sleep(60)
        assert server.engine.failed is not None and sizes(world, "azure") == []
    world.on_commit = None
    async with world.server() as server:
        mine, rest = await parts(server, row.job)
    assert (attempts(mine), attempts(rest)) == ([("azure", "done")], [("oracle", "done")])
    assert (sizes(world, "azure"), sizes(world, "oracle")) == ([(mine.job, 3)], [(rest.job, 5)])


async def test_a_small_part_is_still_bound_by_what_binds_the_whole(a_world) -> None:
    """The right is over jobs of eight GPUs; the three that were taken, when they are lost, are no small job (R17)."""
    lost = Script(offers=[do.Accepts(workers=3)], scenes=[do.Kills(when=do.AtStep(12))])
    few = {"id": "few", "because": "below_threshold", "select": {"gpus": {"lt": 8}}}
    for terms in ({"select": {"gpus": {"gte": 8}}}, {"exempt": [few]}):
        world = a_world(
            {"azure": lost, "oracle": Script()}, first_right("azure", **terms), Work(steps=40, checkpoint_every=5)
        )
        mine, _ = await divided(world)
        assert told(world, mine.job) == ["azure", "azure"]


async def test_a_class_that_is_recorded_for_the_whole_binds_all_that_was_left_of_it(a_world) -> None:
    """Two parts run and the third is offered in the market when the whole turns out to be another's alone."""
    only = agreement("zeus", {"id": "alone", "type": "exclusive", "select": {"class": ["api"]}, "release": ["consent"]})
    scripts = {"azure": takes(3), "coreweave": takes(2), "oracle": Script(offers=[do.Silent()]), "zeus": Script()}
    world = a_world(scripts, only, Work(steps=60))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT))
        await asyncio.sleep(5)
        await record(server, "class", name="api", job=row.job)
        rows = await parts(server, row.job)
    assert [told(world, part.job) for part in rows] == [["azure"], ["coreweave"], ["oracle", "zeus"]]
    assert [e.why for e in world.events(rows[2].job) if isinstance(e, ev.OfferWithdrawn)] == ["reclassified"]
    assert [parse_shape(world.disk.specs[part.shape]).job_class for part in rows] == ["api"] * 3


async def test_a_class_that_was_recorded_before_the_split_is_that_of_both(a_world) -> None:
    """Its policy asks for the class first; what was left of it is not asked for it again."""
    operators = provider_document(["azure", "oracle"])
    operators["spec"]["policies"] = {"default": {**POLICY, "classification": "held"}}
    only = agreement("azure", {"id": "alone", "type": "exclusive", "select": {"class": ["serving"]}})
    world = a_world({"azure": takes(3), "oracle": Script()}, only, providers=operators)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT))
        await asyncio.sleep(5)
        await record(server, "class", name="training", job=row.job)
        rows = await parts(server, row.job)
    assert [told(world, part.job) for part in rows] == [["azure"], ["oracle"]]


async def test_a_class_that_is_recorded_for_a_part_leaves_what_it_was_left_of(a_world) -> None:
    world = a_world({"azure": takes(3), "oracle": Script()}, None, Work(steps=60))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT))
        await asyncio.sleep(5)
        await record(server, "class", name="api", job=(await server.desk.job(row.job)).rest)
        rows = await parts(server, row.job)
    assert [parse_shape(world.disk.specs[part.shape]).job_class for part in rows] == ["training", "api"]


def small(most: int, per: str = "lineage") -> dict[str, Any]:
    """Exempts whatever is no more than so many GPU-hours; the eight would be eight."""
    below = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 64}}}
    return right(below | {"maxGpuHoursPerWindow": [most, "7d"], "per": per})


async def test_what_is_left_is_not_exempt_where_the_whole_was_too_much(a_world) -> None:
    """Five GPU-hours would fit under six; they are of eight, and go to the market by the no of who took three."""
    for per in ("lineage", "set"):
        world = a_world({"zeus": takes(3), "oracle": Script()}, small(6, per))
        mine, rest = await divided(world)
        assert (attempts(mine), attempts(rest)) == ([("zeus", "done")], [("oracle", "done")])
        assert freed(world, mine.job) == freed(world, rest.job) == []


async def test_parts_of_what_was_too_much_stay_bound_when_they_are_lost(a_world) -> None:
    lost = Script(offers=[do.Accepts(workers=4)], scenes=[do.Kills(when=do.AtStep(12))])
    no = Script(offers=[do.Declines()] * 9)
    world = a_world({"zeus": no, "oracle": lost}, small(4), Work(steps=40, checkpoint_every=5))
    rows = await divided(world)
    assert told(world, rows[0].job)[:3] == ["zeus", "oracle", "zeus"]
    assert not any(freed(world, row.job) for row in rows)


async def test_of_a_whole_that_fits_every_part_is_exempt_and_all_count_as_one(a_world) -> None:
    """Two, three and three run side by side under eight; the second, lost, would be more: its holder is asked."""
    lost = Script(offers=[do.Accepts(workers=3)], scenes=[do.Kills(when=do.AtStep(12))])
    scripts = {"azure": takes(2), "coreweave": lost, "oracle": Script(), "zeus": Script()}
    for per in ("lineage", "set"):
        world = a_world(scripts, small(8, per), Work(steps=90, checkpoint_every=5))
        rows = await divided(world)
        assert [told(world, row.job) for row in rows] == [["azure"], ["coreweave", "zeus"], ["oracle"]]
        assert [len(freed(world, row.job)) for row in rows] == [1, 1, 1]
        assert [row.root for row in rows] == ["", rows[0].job, rows[0].job]


async def test_a_part_has_no_room_that_the_whole_would_not_have_beside_others(a_world) -> None:
    """Another job has one of the eight GPU-hours: five of eight would fit into seven, and are not exempt."""
    world = a_world({"oracle": takes(None, 3), "zeus": takes(3)}, small(8, "set"), Work(steps=90))
    async with world.server() as server:
        one, _ = await server.desk.submit(submission(workers={"gpus": 1, "accelerator": ["H100"]}))
        await asyncio.sleep(2)
        row, _ = await server.desk.submit(submission(divisible=True, workers=EIGHT))
        rows = await parts(server, row.job)
    assert (freed(world, one.job), told(world, row.job)) == ([("oracle", "small")], ["zeus"])
    assert not any(freed(world, row.job) for row in rows)


async def test_explain_tells_both_sides(a_world) -> None:
    world = a_world({"azure": takes(3), "oracle": Script()}, first_right("azure"))
    mine, rest = await divided(world)
    said = [golden(timeline([(0, e) for e in world.events(row.job)])) for row in (mine, rest)]
    assert "split: azure took 3 workers, the other 5 are a job of their own\n" in said[0]
    assert said[1].startswith("what was left of a job that was split\noffered to oracle: open market\n")


async def test_what_is_left_is_to_start_by_the_same_moment_as_the_whole(a_world) -> None:
    late = Script(offers=[do.Accepts(workers=3, after_s=50)])
    world = a_world({"azure": late, "oracle": Script(offers=[do.Silent()] * 9)}, first_right("azure"))
    mine, rest = await divided(world, startBy="70s")
    assert (attempts(mine), rest.reason) == ([("azure", "done")], "start_by_passed")
    assert rest.ended_at == mine.submitted_at + 70_000_000


async def test_a_part_whose_launch_is_refused_is_offered_on_as_the_size_it_has(a_world) -> None:
    azure = Script(offers=[do.Accepts(workers=3)], launches=[do.Rejects()])
    world = a_world({"azure": azure, "oracle": Script()}, first_right("azure"))
    mine, rest = await divided(world)
    assert attempts(mine) == [("azure", "rejected"), ("oracle", "done")]
    assert sorted(sizes(world, "oracle")) == sorted([(mine.job, 3), (rest.job, 5)])


async def test_a_whole_whose_launch_is_refused_may_be_divided_then(a_world) -> None:
    azure = Script(launches=[do.Rejects()])
    world = a_world({"azure": azure, "oracle": takes(6), "zeus": Script()}, first_right("azure"))
    mine, rest = await divided(world)
    assert [(a.provider, a.workers) for a in mine.attempts] == [("azure", 8), ("oracle", 6)]
    assert (sizes(world, "zeus"), rest.piece) == ([(rest.job, 2)], 6)


async def test_a_yes_that_is_no_longer_free_splits_nothing(a_world) -> None:
    """The holder's refusal is over when the market's part comes: the job is whole, and the holder is asked again."""
    market = Script(offers=[do.Accepts(workers=2, after_s=40)])
    azure = Script(offers=[do.Declines()])
    world = a_world({"azure": azure, "oracle": market}, first_right("azure", tail="30s"))
    (row,) = await divided(world)
    assert told(world, row.job)[:3] == ["azure", "oracle", "azure"]
    assert (attempts(row), row.part) == ([("azure", "done")], 0)
