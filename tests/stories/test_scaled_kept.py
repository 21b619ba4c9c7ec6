"""What another size leaves as it was: what is refused or runs on, and what it takes from nobody (R1, R6, R9)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.core.explain import timeline
from orchestrator.core.facts import Launched, ScaleWish
from orchestrator.core.reasons import why
from orchestrator.model import event as ev
from orchestrator.model.ids import launch_key
from orchestrator.model.job import JobState
from orchestrator.model.offer import Reason, Rejected
from orchestrator.ports.desk import Refused
from orchestrator.simulate.world import POLICY, first_right, provider_document, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.agreements import told
from tests.stories.scaling import FOUR, GROWTH, SAVES, asked, scaled, sizes, until
from tests.stories.words import attempts, kinds

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


# ---- what stays, what is refused -------------------------------------------------------------------------------------


async def test_the_same_size_changes_nothing(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        before = await server.desk.head()
        assert (await server.desk.scale(row.job, 4, 0, "me"))[1] is False
        assert (await server.desk.scale(row.job, 4, 4, "me"))[1] is False
        assert await server.desk.head() == before
        assert (await server.desk.scale(row.job, 8, 0, "me"))[1] is True
        assert (await server.desk.scale(row.job, 8, 0, "me"))[1] is False
        await until_over(server, row.job)
    assert kinds(world, row.job).count("Scaled") == 1


async def test_of_two_equal_wishes_at_once_one_is_a_change(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        both = await asyncio.gather(*(server.desk.scale(row.job, 8, 0, who) for who in ("ann", "bob")))
        assert [changed for _, changed in both] == [True, False]
        await until_over(server, row.job)
    assert kinds(world, row.job).count("Scaled") == 1


async def test_a_cancel_that_comes_first_leaves_nothing_to_change(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        wishes = (server.desk.cancel(row.job, "ann"), server.desk.scale(row.job, 8, 0, "bob"))
        _, said = await asyncio.gather(*wishes, return_exceptions=True)
        assert isinstance(said, Refused) and "it is stopping" in str(said)
        await until_over(server, row.job)


async def test_a_divisible_job_and_one_that_is_over_keep_their_size(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR, divisible=True))
        with pytest.raises(Refused, match="divisible"):
            await server.desk.scale(row.job, 8, 0, "me")
        await until_over(server, row.job)
        with pytest.raises(Refused, match="succeeded"):
            await server.desk.scale(row.job, 8, 0, "me")


async def test_an_amendment_that_selects_on_labels_loses_neither_size(a_world) -> None:
    """Once while the job is about to grow, once when it has."""
    world = a_world({"oracle": Script(), "zeus": Script()}, work=Work(steps=60, checkpoint_every=10, dies_after_s=2.5))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR, labels={"team": "vision", "site": "own"}))
        await asyncio.sleep(15)
        await server.desk.scale(row.job, 8, 0, "me")
        for label in ({"team": ["vision"]}, {"site": ["own"]}):
            select = {"trigger": ["scale_up"], "labels": label}
            await server.desk.amend(world.document(first_right("zeus", select=select)), "ann")
        row = await until_over(server, row.job)
    said = [e for e in world.events(row.job) if isinstance(e, ev.Reshaped)]
    assert [bool(e.next) for e in said] == [True, True]
    assert [offer[::2] for offer in asked(world, row.job)] == [("oracle", "new", 4), ("zeus", "scale_up", 8)]


async def test_what_runs_in_a_size_of_the_new_range_runs_on(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    row = await scaled(world, 15, 8, 4)
    assert (attempts(row), sizes(world, "azure")) == ([("azure", "done")], [4])
    said = [line.plain for line in timeline((0, e) for e in world.events(row.job))]
    assert "to have 4 to 8 workers" in said


async def test_the_range_that_stopped_nothing_counts_after_a_loss(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(25))])
    world = a_world({"azure": dies, "zeus": Script()}, first_right("zeus", **GROWTH), work=SAVES)
    row = await scaled(world, 15, 8, 4)
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 4, 4), ("scale_up", 4, 8)]
    assert attempts(row) == [("azure", "fenced"), ("zeus", "done")]


async def test_a_wish_that_is_taken_back_at_once_stops_nothing(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        await server.engine.core.told([ScaleWish(row.job, size, 0, "me") for size in (8, 4)])
        row = await until_over(server, row.job)
    assert (attempts(row), row.grown) == ([("azure", "done")], False)


async def test_a_wish_that_is_taken_back_when_the_stop_stands_is_no_growth_and_no_fault(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        await server.desk.scale(row.job, 8, 0, "me")
        await asyncio.sleep(0.5)
        await server.desk.scale(row.job, 4, 0, "me")
        row = await until_over(server, row.job)
    assert [offer[2:] for offer in asked(world, row.job)] == [("new", 4, 4), ("replace", 4, 4)]
    assert (attempts(row), row.avoid) == ([("azure", "released"), ("azure", "done")], ())


# ---- what it costs ---------------------------------------------------------------------------------------------------


def once(*names: str) -> dict[str, Any]:
    """A job may have one attempt."""
    document = provider_document(list(names))
    document["spec"]["policies"]["default"] = {**POLICY, "maxAttempts": 1}
    return document


@pytest.mark.parametrize("launch", [do.Starts(after_s=60), do.RequestLost()])
async def test_an_attempt_that_was_stopped_for_another_size_is_none_of_those_that_it_may_have(a_world, launch) -> None:
    """Scaled while it runs, and again while that growth is launching."""
    azure = Script(launches=[do.Starts(), launch])
    world = a_world({"azure": azure}, work=SAVES, providers=once("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        await server.desk.scale(row.job, 6, 0, "me")
        await until(server, row.job, lambda row: len(row.attempts) == 2)
        await asyncio.sleep(5)
        await server.desk.scale(row.job, 8, 0, "me")
        row = await until_over(server, row.job)
    assert (row.state, [a.why for a in row.attempts]) == (JobState.SUCCEEDED, ["scaled", "scaled", ""])


async def test_a_growth_that_never_starts_leaves_it_the_attempt_that_it_may_have(a_world) -> None:
    azure = Script(launches=[do.Starts(), do.NeverStarts()])
    world = a_world({"azure": azure, "oracle": Script()}, work=SAVES, providers=once("azure", "oracle"))
    row = await scaled(world, 15, 8)
    assert (row.state, [a.why for a in row.attempts]) == (JobState.SUCCEEDED, ["scaled", "never_started", ""])


async def test_a_loss_counts_as_ever(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(25))])
    world = a_world({"azure": dies}, work=SAVES, providers=once("azure"))
    row = await scaled(world, 15, 8)
    assert (row.state, row.reason) == (JobState.FAILED, "max_attempts")


async def test_what_was_stopped_for_it_is_no_loss_although_the_wish_went_with_the_ledger(a_world) -> None:
    """The backup is older than the wish; the stop and the release stand in the run log."""
    world = a_world({"azure": Script()}, work=SAVES, providers=once("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        taken = world.disk.backup()
        await server.desk.scale(row.job, 8, 0, "me")
        await asyncio.sleep(1)
    await asyncio.sleep(10)
    await world.put_back(taken)
    async with world.server() as server:
        row = await until(server, row.job, lambda row: row.state is JobState.RUNNING and len(row.attempts) == 2)
        assert [("scale it again" in notice) for notice in await server.desk.notices(row)] == [True]
        row = await until_over(server, row.job)
    assert (row.state, [a.why for a in row.attempts]) == (JobState.SUCCEEDED, ["scaled", ""])
    said = [line.plain for line in timeline((0, e) for e in world.events(row.job))]
    assert "it is to have another size" not in "".join(said)
    assert f"attempt at azure released: {why('scale_lost')}" in said


async def test_a_launch_that_was_lost_is_no_fault_of_its_provider_once_it_was_taken_back(a_world) -> None:
    world = a_world({"azure": Script(launches=[do.RequestLost()])}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await until(server, row.job, lambda row: bool(row.attempts))
        await server.desk.scale(row.job, 8, 0, "me")
        row = await until_over(server, row.job, 60)
    assert (row.state, [a.why for a in row.attempts], row.avoid) == (JobState.SUCCEEDED, ["scaled", ""], ())
    assert world.providers["azure"].calls["withdraw"], "what is kept for a launch that is not to come is given back"


async def test_a_launch_that_was_rejected_says_nothing_of_the_size_to_come(a_world) -> None:
    world = a_world({"azure": Script(launches=[do.NeverStarts()])}, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await until(server, row.job, lambda row: bool(row.attempts))
        core = server.engine.core
        no = Rejected(key=launch_key(row.job, 1), reason=Reason.CAPACITY, until=core.now + 600_000_000)
        await core.told([ScaleWish(row.job, 2, 0, "me"), Launched(no, core.now)])
        row = await until_over(server, row.job, 60)
    assert attempts(row) == [("azure", "rejected"), ("azure", "done")]


async def test_a_scale_is_no_failover_in_the_metrics(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    await scaled(world, 15, 8)
    assert not [name for name in world.disk.counters if name.startswith("orchestrator_failovers_total")]


@pytest.mark.parametrize("most", [400, 8])
async def test_a_refusal_is_not_inherited_by_a_growth(a_world, most: int) -> None:
    """Which is no better for the holder than what it refused, and all the same an offer of its own."""
    no = Script(offers=[do.Declines()] * 2)
    right = first_right("zeus", onReplace="inherit", select={"trigger": ["new", "scale_up"]})
    world = a_world({"oracle": Script(), "zeus": no}, right, work=SAVES)
    row = await scaled(world, 15, most)
    gated = [(who, why, workers) for who, clause, why, _, workers in asked(world, row.job) if clause]
    assert gated == [("zeus", "new", 4), ("zeus", "scale_up", most)]


async def test_a_refusal_is_inherited_by_what_replaces_a_loss(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(25))])
    right = first_right("zeus", onReplace="inherit", select={"trigger": ["new", "replace"]})
    world = a_world({"coreweave": dies, "oracle": Script(), "zeus": Script(offers=[do.Declines()])}, right, work=SAVES)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        row = await until_over(server, row.job)
    assert told(world, row.job) == ["zeus", "coreweave", "oracle"]


async def test_explain_tells_it(a_world) -> None:
    world = a_world({"azure": Script()}, work=SAVES)
    row = await scaled(world, 15, 8, 5)
    said = [line.plain for line in timeline((0, e) for e in world.events(row.job))]
    assert "to have 5 to 8 workers; what runs at azure is asked to save and stop" in said
    assert "attempt at azure released: it is to have another size" in said
    assert "episode 2, to be larger: offered to azure: open market" in said


async def test_capacity_that_comes_free_with_its_own_last_bill_is_not_waited_for(a_world) -> None:
    """On one machine what runs is in its own way: it is gone a second after the first no."""
    azure = Script(offers=[do.Accepts(), do.Declines()], scenes=[do.Frees(when=do.At(19), gpus=8)])
    world = a_world({"azure": azure}, work=SAVES)
    row = await scaled(world, 15, 2)
    billed, offered = (
        [e.at for e in world.disk.events if e.job == row.job and e.kind == kind] for kind in ("Charged", "OfferOpened")
    )
    assert offered[-1] == billed[0]
