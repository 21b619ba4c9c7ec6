"""A job is given another size: at once while it waits, after it has saved and stopped while it runs (R1, R6)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.environment import own_variables
from orchestrator.core.explain import timeline
from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import Reason
from orchestrator.ports.desk import Refused
from orchestrator.simulate.world import agreement, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from orchestrator.testing.stores import MemoryStore
from tests.stories.agreements import told
from tests.stories.scaling import FOUR, GROWTH, JUST_BEFORE_S, SAVES, asked, scaled, scaled_twice, sizes, starts, until
from tests.stories.words import attempts, kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


# ---- what waits ------------------------------------------------------------------------------------------------------


async def test_a_job_that_waits_between_rounds_is_another_size_at_once(a_world) -> None:
    azure = Script(offers=[do.Declines(for_s=300)])
    world = a_world({"azure": azure})
    row = await scaled(world, 10, 2)
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 4, 4), ("new", 2, 2)]
    assert (sizes(world, "azure"), row.episode, attempts(row)) == ([2], 1, [("azure", "done")])
    assert row.ended_at is not None and row.ended_at - row.submitted_at < 60_000_000, "it waits out no refusal of four"


async def test_an_open_offer_is_taken_back_and_the_new_size_offered(a_world) -> None:
    azure = Script(offers=[do.Silent()])
    world = a_world({"azure": azure, "oracle": Script()}, first_right("azure"))
    row = await scaled(world, 10, 8, 2)
    [back] = [e for e in world.events(row.job) if isinstance(e, ev.OfferWithdrawn)]
    assert (back.n, back.why) == (1, "scaled")
    gated = "azure", "agreement/rofr", "new"
    assert asked(world, row.job) == [(*gated, 4, 4), (*gated, 2, 8)]
    assert (sizes(world, "azure"), row.attempts[0].workers) == ([8], 8)


async def test_a_yes_to_the_old_size_comes_too_late(a_world) -> None:
    """Its provider does not hear of the withdrawal, says yes, and is told to let it go."""
    slow = Script(offers=[do.Accepts(after_s=20)] * 2, faults=[do.Loses(verb="withdraw", nth=n) for n in range(1, 40)])
    world = a_world({"azure": slow})
    row = await scaled(world, 10, 8)
    assert kinds(world, row.job).count("LateAnswer") == 1 and sizes(world, "azure") == [8]


async def test_a_holder_s_no_to_more_is_none_to_less(a_world) -> None:
    """Smaller is better for the holder than what it refused (R8), larger is not."""
    no = Script(offers=[do.Declines()])
    market = Script(offers=[do.Silent()])
    for size, order in ((2, ["azure", "oracle", "azure"]), (8, ["azure", "oracle", "oracle"])):
        world = a_world({"azure": no, "oracle": market}, first_right("azure"))
        row = await scaled(world, 10, size)
        assert told(world, row.job) == order


@pytest.mark.parametrize(("smaller", "order"), [(2, ["azure", "oracle", "oracle"]), (1, ["azure", "oracle", "azure"])])
async def test_a_holder_s_no_covers_what_is_smaller_by_as_much_as_its_clause_tolerates(
    a_world, smaller: int, order: list[str]
) -> None:
    no, market = Script(offers=[do.Declines()]), Script(offers=[do.Silent()])
    world = a_world({"azure": no, "oracle": market}, first_right("azure", reofferIf={"smaller": smaller}))
    row = await scaled(world, 10, 2)
    assert told(world, row.job) == order


async def test_a_held_job_goes_on_when_its_new_size_can_be_had(a_world) -> None:
    never = Script(offers=[do.Declines(reason=Reason.SPEC)])
    world = a_world({"azure": never})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(10)
        assert (await server.desk.job(row.job)).reason == "declined_by_all"
        await server.desk.scale(row.job, 2, 0, "me")
        row = await until_over(server, row.job)
    assert row.state is JobState.SUCCEEDED and sizes(world, "azure") == [2]


async def test_a_held_job_is_decided_anew_among_others_that_are_held_at_its_new_size(a_world) -> None:
    """What they were told says nothing of it: two workers of it were never offered to anybody."""
    never = Script(offers=[do.Declines(reason=Reason.SPEC)] * 2)
    world = a_world({"azure": never})
    async with world.server() as server:
        small, _ = await server.desk.submit(submission(workers={**FOUR, "count": 2}))
        await asyncio.sleep(5)
        large, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(5)
        await server.desk.scale(large.job, 2, 0, "me")
        row = await until_over(server, large.job)
        assert (row.state, (await server.desk.job(small.job)).reason) == (JobState.SUCCEEDED, "declined_by_all")
        await server.desk.cancel(small.job, "me")
    assert sizes(world, "azure") == [2]


async def test_a_held_job_tells_what_holds_it_at_its_new_size_and_says_so_once(a_world) -> None:
    law = {"id": "law", "type": "residency", "select": {"gpus": {"gte": 100}}, "regionsIn": ["MARS"]}
    world = a_world({"azure": Script()}, agreement("azure", law))
    async with world.server() as server:
        await asyncio.sleep(1)
        row, _ = await server.desk.submit(submission(workers={**FOUR, "count": 400}, ceilingUsdPerGpuHour="1.00"))
        assert row.reason == "no_lawful_provider"
        await server.desk.scale(row.job, 4, 0, "me")
        assert (await server.desk.job(row.job)).reason == "over_ceiling"
        for price in (1_500_000, 1_200_000):
            world.providers["azure"].stage.set_price("H100", price)
            await asyncio.sleep(5)
        assert kinds(world, row.job).count("Held") == 2
        world.providers["azure"].stage.set_price("H100", 900_000)
        row = await until_over(server, row.job, 60)
    assert row.state is JobState.SUCCEEDED


async def test_what_all_have_declined_for_good_stays_so_while_it_is_too_dear_as_well(a_world) -> None:
    never = Script(offers=[do.Declines(reason=Reason.SPEC)])
    world = a_world({"azure": never})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(ceilingUsdPerGpuHour="3.00"))
        for price in (4_000_000, 2_500_000):
            await asyncio.sleep(5)
            assert (await server.desk.job(row.job)).reason == "declined_by_all"
            world.providers["azure"].stage.set_price("H100", price)
        await asyncio.sleep(5)
        assert kinds(world, row.job).count("Held") == 1
        await server.desk.cancel(row.job, "me")


# ---- what runs -------------------------------------------------------------------------------------------------------


async def test_what_runs_saves_and_goes_on_larger_behind_that_very_step(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    row = await scaled(world, 15, 8)
    assert (row.state, attempts(row)) == (JobState.SUCCEEDED, [("azure", "released"), ("azure", "done")])
    assert [a.workers for a in row.attempts] == [4, None] and sizes(world, "azure") == [4, 8]
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 4, 4), ("scale_up", 8, 8)]
    last = max(w.step for w in world.site.witness if w.epoch == 1)
    assert starts(world, row.job) == [(1, 0), (2, last)]
    assert [w.step for w in world.site.witness] == list(range(1, 41)), "no step is lost, none is done twice"
    assert (row.attempts[0].why, row.avoid, row.episode) == ("scaled", (), 2)


async def test_a_growth_is_offered_to_whose_clause_selects_it_first(a_world) -> None:
    """The clause is about growths alone: the job was free, what it grows by is not."""
    world = a_world({"oracle": Script(), "zeus": Script()}, first_right("zeus", **GROWTH), work=SAVES)
    row = await scaled(world, 15, 4, count=2)
    assert [(who, why) for who, _, why, _, _ in asked(world, row.job)] == [("oracle", "new"), ("zeus", "scale_up")]
    assert attempts(row) == [("oracle", "released"), ("zeus", "done")]


async def test_a_holder_that_declines_a_growth_leaves_it_to_the_market(a_world) -> None:
    no = Script(offers=[do.Declines()])
    world = a_world({"oracle": Script(), "zeus": no}, first_right("zeus", **GROWTH), work=SAVES)
    row = await scaled(world, 15, 8)
    assert told(world, row.job) == ["oracle", "zeus", "oracle"] and sizes(world, "oracle") == [4, 8]


async def test_a_growth_after_a_loss_is_one(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(12))], offers=[do.Accepts(), do.Declines(for_s=100)])
    world = a_world({"oracle": dies, "zeus": Script()}, first_right("zeus", **GROWTH), work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await until(server, row.job, lambda row: row.episode == 2)
        await server.desk.scale(row.job, 8, 0, "me")
        await until_over(server, row.job)
    assert [(who, why) for who, _, why, _, _ in asked(world, row.job)][-1] == ("zeus", "scale_up")


async def test_a_growth_in_two_wishes_is_offered_first_to_whose_it_is(a_world) -> None:
    """First to less, and between the end of what ran and the next offer to more than ran."""
    select = {"trigger": ["new", "scale_up"], "gpus": {"gte": 5}}
    world = a_world({"oracle": Script(), "zeus": Script()}, first_right("zeus", select=select), work=SAVES)
    row = await scaled_twice(world, 3, 8)
    assert [(who, why) for who, _, why, _, _ in asked(world, row.job)][-1] == ("zeus", "scale_up")
    assert attempts(row) == [("oracle", "released"), ("zeus", "done")]


async def test_up_and_back_again_is_no_growth(a_world) -> None:
    select = {"trigger": ["new", "replace"]}
    no = Script(offers=[do.Declines()])
    world = a_world({"oracle": Script(), "zeus": no}, first_right("zeus", select=select), work=SAVES)
    row = await scaled_twice(world, 5, 4)
    gated = [(who, why) for who, clause, why, _, _ in asked(world, row.job) if clause]
    assert gated == [("zeus", "new"), ("zeus", "replace")]


async def test_a_growth_while_the_replacement_is_launching_is_one(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(12))], offers=[do.Accepts(), do.Declines(for_s=100)])
    slow = Script(launches=[do.Starts(after_s=60)])
    world = a_world({"oracle": dies, "x": slow, "zeus": Script()}, first_right("zeus", **GROWTH), work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await until(server, row.job, lambda row: len(row.attempts) == 2)
        await server.desk.scale(row.job, 8, 0, "me")
        row = await until_over(server, row.job)
    assert attempts(row) == [("oracle", "fenced"), ("x", "gone"), ("zeus", "done")]


async def test_smaller_is_no_growth(a_world) -> None:
    world = a_world({"oracle": Script(), "zeus": Script()}, first_right("zeus", **GROWTH), work=SAVES)
    row = await scaled(world, 15, 2)
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 4, 4), ("replace", 2, 2)]
    assert sizes(world, "oracle") == [4, 2] and row.state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("terms", "asked_again"),
    [({"smaller": 2}, False), ({"smaller": 1}, True), ({}, True)],
    ids=["as much as is tolerated", "more than is tolerated", "nothing is tolerated"],
)
async def test_a_no_that_is_inherited_covers_what_was_made_smaller_within_its_tolerance(
    a_world, terms: dict[str, int], asked_again: bool
) -> None:
    """It ran in the market by the holder's no to four; scaled to two, it is replaced. What is told beforehand is so."""
    right = first_right("azure", onReplace="inherit", reofferIf=terms)
    world = a_world({"azure": Script(offers=[do.Declines()] * 2), "oracle": Script()}, right, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        row, _ = await server.desk.scale(row.job, 2, 0, "me")
        notices = await server.desk.notices(row)
        row = await until_over(server, row.job)
    assert [said.startswith("once it has stopped azure is offered the job") for said in notices] == [True] * asked_again
    lines = timeline((0, event) for event in world.events(row.job))
    why = [line.detail for line in lines if "episode 2: offered" in line.plain]
    assert ["refusals of an earlier episode are good for it" in said for said in why] == [not asked_again]
    gated = [offer[2:] for offer in asked(world, row.job) if offer[1]]
    assert gated == [("new", 4, 4), *[("replace", 2, 2)] * asked_again]
    assert attempts(row) == [("oracle", "released"), ("oracle", "done")] and sizes(world, "oracle") == [4, 2]


async def test_an_elastic_job_grows_above_what_was_accepted_of_it(a_world) -> None:
    some = Script(offers=[do.Accepts(workers=2), do.Accepts(workers=3)])
    world = a_world({"azure": some}, work=SAVES)
    row = await scaled(world, 15, 4, 3, count={"min": 2, "max": 4})
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 2, 4), ("scale_up", 3, 4)]
    assert [a.workers for a in row.attempts] == [2, 3]


async def test_after_its_growth_a_loss_is_a_loss(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(25))])
    world = a_world({"azure": dies, "oracle": Script()}, work=SAVES)
    row = await scaled(world, 15, 8)
    assert [offer[2:] for offer in asked(world, row.job)][-1] == ("replace", 8, 8)
    assert row.state is JobState.SUCCEEDED and sizes(world, "oracle") == [8]


async def test_a_loss_before_the_stop_was_read_is_a_growth_all_the_same(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(12))])
    often = Work(steps=40, checkpoint_every=5, dies_after_s=20)
    world = a_world({"azure": dies, "oracle": Script()}, work=often)
    row = await scaled(world, 12, 8)
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 4, 4), ("scale_up", 8, 8)]
    assert row.state is JobState.SUCCEEDED


async def test_the_last_wish_counts(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        for size in (8, 3):
            await server.desk.scale(row.job, size, 0, "me")
        row = await until_over(server, row.job)
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 4, 4), ("replace", 3, 3)]
    assert row.size is not None and (row.size.workers, row.next, len(row.attempts)) == (3, None, 2)


async def test_a_wish_that_was_taken_back_while_the_store_was_away_may_be_wished_again(a_world) -> None:
    """Nobody has stopped for it the first time."""
    world = a_world({"azure": Script()}, work=SAVES)
    store = world.site.store
    assert isinstance(store, MemoryStore)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(12)
        for away, most in ((True, 8), (True, 4), (False, 8)):
            store.faults.down = away
            await server.desk.scale(row.job, most, 0, "me")
            await asyncio.sleep(6)
        row = await until_over(server, row.job)
    assert (attempts(row), sizes(world, "azure")) == ([("azure", "released"), ("azure", "done")], [4, 8])


async def test_what_never_started_is_the_same_episode_and_no_fault_of_its_provider(a_world) -> None:
    """The holder had the launch; that we took it back is no refusal of its."""
    late = Script(launches=[do.Starts(after_s=60)])
    world = a_world({"azure": late, "oracle": Script()}, first_right("azure"), work=SAVES)
    row = await scaled(world, 20, 8)
    assert [offer[2] for offer in asked(world, row.job)] == ["new", "new"]
    assert attempts(row) == [("azure", "gone"), ("azure", "done")]
    assert (row.refusals, row.avoid, row.episode, {run.epoch for run in world.site.runs}) == ((), (), 1, {2})


@pytest.mark.parametrize("count", [4, {"min": 2, "max": 4}])
async def test_user_code_is_told_how_many_it_is_now(a_world, count: Any) -> None:
    """Whether it had one size before or a range: what reads the variable once goes on reading it."""
    world = a_world({"azure": Script()}, work=SAVES)
    await scaled(world, 15, 6, count=count)
    told_each = [own_variables(agent.env, "nonce", Path("work")) for agent in world.site.agents]
    assert [variables["ORCHESTRATOR_WORKERS"] for variables in told_each] == ["4", "6"]


# ---- races -----------------------------------------------------------------------------------------------------------


async def test_a_done_that_came_first_wins(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=20, step_s=0.95))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(JUST_BEFORE_S)
        await server.desk.scale(row.job, 8, 0, "me")
        row = await until_over(server, row.job)
    assert (row.state, attempts(row), row.next, row.size) == (JobState.SUCCEEDED, [("azure", "done")], None, None)
    assert "Scaled" in kinds(world, row.job)


async def test_a_cancel_after_it_wins(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        await server.desk.scale(row.job, 8, 0, "me")
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job)
    assert (row.state, len(row.attempts), row.next, row.size) == (JobState.CANCELLED, 1, None, None)


@pytest.mark.parametrize("after_s", [10, 15, 17])
async def test_a_server_that_dies_goes_on_with_it(a_world, after_s: int) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(after_s)
        await server.desk.scale(row.job, 8, 0, "me")
    await asyncio.sleep(5)
    async with world.server() as server:
        row = await until_over(server, row.job)
    assert (row.state, sizes(world, "azure")) == (JobState.SUCCEEDED, [4, 8])


# ---- what is told beforehand -----------------------------------------------------------------------------------------


LARGE = {"select": {"gpus": {"gte": 5}}}


@pytest.mark.parametrize(
    ("clause", "job", "notice"),
    [
        ({"id": "rofr", "type": "first_right", "window": "15m", **GROWTH}, {},
         "once it has stopped zeus is offered the job alone for 15m (agreement/rofr"),
        ({"id": "large", "type": "exclusive", **LARGE}, {},
         "once it has stopped only zeus may run it, by an exclusive"),
        ({"id": "none", "type": "exclusive", "select": {"class": ["serving"]}}, {"startBy": "2h"},
         "it fails if it does not run again within 2 h of its stop (spec.startBy)"),
    ],
)  # fmt: skip
async def test_what_it_will_meet_with_is_told_with_the_wish(a_world, clause: Any, job: Any, notice: str) -> None:
    world = a_world({"oracle": Script(), "zeus": Script()}, agreement("zeus", clause), work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR, **job))
        await asyncio.sleep(15)
        assert await server.desk.notices(await server.desk.job(row.job)) == []
        row, _ = await server.desk.scale(row.job, 8, 0, "me")
        (said,) = await server.desk.notices(row)
        assert said.startswith(notice)
        await until_over(server, row.job)


async def test_what_runs_is_not_stopped_for_a_size_that_nobody_may_run(a_world) -> None:
    ceiling = {"id": "cap", "type": "price", "ceilingUsdPerGpuHour": 0.01, **LARGE}
    world = a_world({"oracle": Script(launches=[do.Starts()])}, agreement("oracle", ceiling), work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        with pytest.raises(Refused, match=r"runs on as it is.*costs more than its ceiling"):
            await server.desk.scale(row.job, 8, 0, "me")
        row = await until_over(server, row.job)
    assert (attempts(row), kinds(world, row.job).count("Scaled")) == ([("oracle", "done")], 0)
