"""A class that only its submitter claims: what does it free, whom does it bind, and what does an attester change?"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import OfferOut
from orchestrator.simulate.world import World, agreement, provider_document, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.scripts import Script
from tests.stories.agreements import SILENT, freed, record, told
from tests.stories.words import ran

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

API = {"id": "api", "type": "exclusive", "select": {"class": ["api"]}}
ROBOTS = {"id": "robots", "type": "exclusive", "select": {"class": ["robots"]}}
SMALL = {"id": "evaluations", "because": "below_threshold", "select": {"class": ["evaluation"]}}
RIGHT = {"id": "rofr", "type": "first_right", "window": "15m", "select": {"class": ["training", "evaluation"]},
         "exempt": [SMALL]}  # fmt: skip


def doubting(how: str, *names: str) -> dict[str, Any]:
    """A provider set whose policy takes a claimed class so."""
    made = provider_document(names)
    made["spec"]["policies"]["default"] = {**made["spec"]["policies"]["default"], "classification": how}
    return made


def two(how: str, *clauses: dict[str, Any], zeus: Script = SILENT) -> dict[str, Any]:
    scripts = {"oracle": Script(), "zeus": zeus}
    return {"scripts": scripts, "contracts": agreement("zeus", *clauses), "providers": doubting(how, *scripts)}


async def test_by_the_strictest_every_clause_holds_that_would_for_some_class(a_world) -> None:
    """It claims to be of no class that anybody has a right to, and might be API work, which is zeus' alone."""
    world = a_world(**two("strictest", API))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        assert told(world, row.job) == ["zeus"]
        await record(server, "class", name="training", job=row.job)
        await until_over(server, row.job)
    assert told(world, row.job) == ["zeus", "oracle"]
    assert [e.why for e in world.events(row.job) if isinstance(e, ev.OfferWithdrawn)] == ["reclassified"]


async def test_what_is_only_claimed_exempts_nobody(a_world) -> None:
    world = a_world(**two("strictest", RIGHT))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(**{"class": "evaluation"}))
        await asyncio.sleep(5)
        assert told(world, row.job) == ["zeus"]
        await record(server, "class", name="evaluation", job=row.job)
        await until_over(server, row.job)
    assert freed(world, row.job) == [("oracle", "evaluations")]


async def test_a_waiver_and_a_consent_of_a_class_free_nobody_who_only_claims_it(a_world) -> None:
    world = a_world(**two("strictest", RIGHT))
    async with world.server() as server:
        await record(
            server, "waiver", holder="zeus", classes=("training",), gpus=8, until=world.clock.now_us() + 10**12
        )
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        assert told(world, row.job) == ["zeus"]
        await record(server, "class", name="training", job=row.job)
        await until_over(server, row.job)
    assert freed(world, row.job) == [("oracle", "waived")]


async def test_a_policy_may_hold_it_until_an_attester_has_recorded_the_class(a_world) -> None:
    world = a_world(**two("held", API))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        row = await server.desk.job(row.job)
        assert (row.state, row.reason, told(world, row.job)) == (JobState.HELD, "classification", [])
        await server.desk.resume(row.job, "somebody")
        await asyncio.sleep(5)
        assert (await server.desk.job(row.job)).state is JobState.HELD
        await record(server, "class", name="training", job=row.job)
        await until_over(server, row.job)
    assert told(world, row.job) == ["oracle"]


async def test_where_no_clause_minds_the_class_nobody_waits(a_world) -> None:
    world = a_world(**two("held", {"id": "rofr", "type": "first_right", "window": "1m"}, zeus=Script()))
    row = await ran(world)
    assert told(world, row.job) == ["zeus"]


async def test_two_exclusives_that_could_both_hold_leave_nobody_but_an_attester(a_world) -> None:
    both = agreement("zeus", API)
    term = both["spec"]["contracts"][0]["term"]
    both["spec"]["contracts"].append({"id": "other", "holder": "oracle", "term": term, "clauses": [ROBOTS]})
    world = a_world({"oracle": Script(), "zeus": Script()}, both, providers=doubting("strictest", "oracle", "zeus"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(**{"class": "robots"}))
        await asyncio.sleep(5)
        row = await server.desk.job(row.job)
        assert (row.state, row.reason) == (JobState.HELD, "classification")
        await record(server, "class", name="api", job=row.job)
        await until_over(server, row.job)
    assert told(world, row.job) == ["zeus"]


@pytest.mark.parametrize(("recorded", "offers"), [("training", 1), ("research", 2)])
async def test_an_offer_never_says_two_things(a_world, recorded, offers) -> None:
    """The reply to its delivery is lost, a class is recorded, it is delivered again: the same bytes, or another one."""
    said: dict[str, set[OfferOut]] = {}
    world: World = a_world({"oracle": Script(faults=[do.Loses(verb="place_offers", nth=1)])})
    provider = world.providers["oracle"]
    placed = provider.place_offers

    async def noting(offers: list[OfferOut]) -> Any:
        for offer in offers:
            said.setdefault(offer.offer, set()).add(offer)
        return await placed(offers)

    provider.place_offers = noting  # type: ignore[method-assign]
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(0.5)
        await record(server, "class", name=recorded, job=row.job)
        await until_over(server, row.job)
    assert [len(bytes_) for bytes_ in said.values()] == [1] * offers
