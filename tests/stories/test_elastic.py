"""Elastic jobs: an offer names a range of workers, an acceptance a number in it, a refusal covers it all (R6)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.core.explain import golden, timeline
from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import Reason
from orchestrator.model.placement import parse_terms, terms_hash
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.agreements import right, told
from tests.stories.words import attempts, ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

RANGE = {"count": {"min": 2, "max": 8}, "gpus": 1, "accelerator": ["H100"]}


def takes(*workers: int | None) -> Script:
    return Script(offers=[do.Accepts(workers=n) for n in workers])


async def elastic(world: World, **spec: Any) -> Any:
    return await ran(world, workers=RANGE, **spec)


def sizes(world: World, name: str) -> list[int]:
    """How many workers each launch there was ordered with."""
    return [launch.order.workers for launch in world.providers[name].machines.launches.values()]


async def test_an_acceptance_says_how_many_of_the_range_and_so_many_are_launched(a_world) -> None:
    world = a_world({"azure": takes(5)})
    row = await elastic(world, ceilingUsdPerGpuHour=4)
    assert (row.state, row.attempts[0].workers, sizes(world, "azure")) == (JobState.SUCCEEDED, 5, [5])
    opened, yes, intended = (
        next(e for e in world.events(row.job) if isinstance(e, kind))
        for kind in (ev.OfferOpened, ev.OfferAnswered, ev.Intended)
    )
    assert (yes.workers, intended.workers) == (5, 5)
    assert (opened.hold, intended.hold) == (8 * 4_000_000, 5 * yes.price)
    terms = parse_terms(world.disk.specs[opened.terms])
    assert (terms.min_workers, terms.workers, terms_hash(terms)) == (2, 8, opened.terms)


async def test_a_yes_without_a_number_takes_all(a_world) -> None:
    world = a_world({"azure": takes(None)})
    assert (await elastic(world)).attempts[0].workers == 8


@pytest.mark.parametrize("workers", [1, 9])
async def test_a_yes_outside_the_range_is_a_counter_and_its_earmark_goes_back(a_world, workers: int) -> None:
    world = a_world({"azure": takes(workers), "oracle": takes(3)}, first_right("azure"))
    row = await elastic(world)
    no = next(e for e in world.events(row.job) if isinstance(e, ev.OfferAnswered))
    assert (no.accepted, no.reason, attempts(row)) == (False, Reason.COUNTER, [("oracle", "done")])
    assert [line["kind"] for line in world.providers["azure"].stage.journal].count("withdrawn") >= 1


async def test_a_part_of_a_job_of_one_size_is_a_counter(a_world) -> None:
    world = a_world({"azure": takes(1), "oracle": Script()}, first_right("azure"))
    row = await ran(world, workers={"count": 2, "gpus": 4, "accelerator": ["H100"]})
    assert attempts(row) == [("oracle", "done")] and row.attempts[0].workers is None


async def test_a_refusal_covers_the_whole_range(a_world) -> None:
    """Whoever comes next may take any number: azure has refused them all."""
    world = a_world({"azure": Script(offers=[do.Declines()]), "oracle": takes(2)}, first_right("azure"))
    row = await elastic(world)
    assert told(world, row.job) == ["azure", "oracle"] and row.attempts[0].workers == 2


async def test_elsewhere_it_goes_on_with_another_number(a_world) -> None:
    lost = Script(offers=[do.Accepts(workers=8)], scenes=[do.Kills(when=do.AtStep(12))])
    world = a_world({"azure": lost, "oracle": takes(2)}, None, Work(steps=40, checkpoint_every=5))
    row = await elastic(world)
    assert [(a.provider, a.workers) for a in row.attempts] == [("azure", 8), ("oracle", 2)]
    assert row.state is JobState.SUCCEEDED


async def test_a_provider_takes_as_many_as_it_has_room_for(a_world) -> None:
    world = a_world({"azure": Script()})
    world.providers["azure"].stage.gpus = 6
    row = await elastic(world)
    assert (row.attempts[0].workers, row.state) == (6, JobState.SUCCEEDED)


async def test_an_exemption_counts_what_was_accepted(a_world) -> None:
    """Two jobs of at most 8 GPU-hours that take 3 each fill a total of 14 to 6: a third one, which may take 8, fits."""
    small = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 64}}}
    world = a_world(
        {"zeus": Script(offers=[do.Silent()] * 9), "oracle": takes(3, 3, 3, 3)},
        right(small | {"maxGpuHoursPerWindow": [14, "7d"]}), Work(steps=600),
    )  # fmt: skip
    async with world.server() as server:
        jobs = []
        for _ in range(4):
            jobs.append((await server.desk.submit(submission(workers=RANGE)))[0].job)
            await asyncio.sleep(30)
    assert [told(world, job) for job in jobs] == [["oracle"]] * 3 + [["zeus"]]


async def test_an_exemption_must_select_every_size_and_a_clause_any_one(a_world) -> None:
    """Half of the range is below the threshold: that exempts nobody, and the right of large jobs is over it."""
    large = {"gpus": {"gte": 8}}
    few = {"id": "few", "because": "below_threshold", "select": {"gpus": {"lt": 5}}}
    for more in ({"select": large}, {"exempt": [few]}):
        world = a_world({"zeus": Script(offers=[do.Declines()]), "oracle": takes(2)}, first_right("zeus", **more))
        assert told(world, (await elastic(world)).job) == ["zeus", "oracle"]


async def test_explain_says_how_many(a_world) -> None:
    world = a_world({"azure": takes(1, 2), "oracle": takes(3)}, first_right("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=RANGE))
        await until_over(server, row.job)
    lines = golden(timeline([(0, e) for e in world.events(row.job)], quiet=True))
    assert "azure declined: its yes was to other terms than ours\n" in lines
    assert "oracle accepted with 3 workers\n" in lines and "launching at oracle with 3 workers\n" in lines
