"""A block of owned capacity is prolonged: never past somebody's right to that, whoever applies it, nor in part."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
import structlog
from msgspec.structs import replace
from structlog.testing import capture_logs

from orchestrator.cli.audit import audit
from orchestrator.core.audit.registry import Report
from orchestrator.core.explain import golden, timeline
from orchestrator.core.facts import OwnedWish
from orchestrator.engine.reading import owned
from orchestrator.engine.serving import Serving
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.documents import DocumentError
from orchestrator.model.job import LedgerRow
from orchestrator.ports.desk import Busy, Mistaken
from orchestrator.ports.ledger import LedgerLocked
from orchestrator.simulate.world import World, first_right
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from tests.stories.agreements import record

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
RENEWING = first_right("zeus", select={"trigger": ["renew"]})
Q1 = Block(
    name="q1", provider="yves", accelerator="H100", gpus=16, region="eu-1", from_us=STORY_BEGINS_US,
    until_us=STORY_BEGINS_US + DAY_US,
)  # fmt: skip
LONGER = replace(Q1, until_us=Q1.until_us + DAY_US)
OTHER = replace(Q1, name="other", gpus=8)


def given(contracts: dict[str, Any] | None = RENEWING) -> dict[str, Any]:
    return {"scripts": {"yves": Script(), "zeus": Script()}, "contracts": contracts, "blocks": (Q1,)}


def applied(world: World) -> list[tuple[Block, ...]]:
    return [e.blocks for e in world.events() if isinstance(e, ev.CapacityInForce)]


def audited(world: World) -> Report:
    report = audit(MemoryLedger(world.disk).snapshot())
    world.disk.holder = None
    return report


def judged(world: World) -> tuple[int, int]:
    """How often sentence 44 was judged, and broken."""
    (found,) = [v for v in audited(world).verdicts if v.number == 44]
    return found.judged, found.violations


async def test_it_is_refused_whole_until_the_holder_s_no_is_on_record(a_world) -> None:
    world = a_world(**given())
    async with world.server() as server:
        with pytest.raises(DocumentError) as refused:
            await server.desk.own((LONGER, OTHER), "ann")
        assert [(p.path, p.code) for p in refused.value.problems] == [("spec.blocks.q1.to", "renewal")]
        assert "agreement/rofr gives zeus the first right to 24 h more of 16 H100" in str(refused.value)
        assert "`orchestrator record waiver zeus --gpus 16 --block yves/q1 " in str(refused.value)
        assert (await server.desk.in_force()).blocks == (Q1,), "the other block is not applied either"
        await record(
            server, "waiver", holder="zeus", gpus=16, block="yves/q1", block_to=LONGER.until_us,
            until=STORY_BEGINS_US + DAY_US,
        )  # fmt: skip
        with pytest.raises(DocumentError):  # who let a day go has said nothing of a year
            await server.desk.own((replace(LONGER, until_us=Q1.until_us + 365 * DAY_US), OTHER), "ann")
        assert (await server.desk.own((LONGER, OTHER), "ann")).blocks == (LONGER, OTHER)
    assert applied(world) == [(Q1,), (LONGER, OTHER)] and judged(world) == (1, 0)
    assert "on record: zeus waives more of yves/q1, to 2026-" in golden(timeline([(0, e) for e in world.events()]))


async def test_a_server_does_not_start_with_it_and_leaves_no_trace(a_world) -> None:
    world = a_world(**given())
    async with world.server():
        pass
    before, world.blocks = len(world.disk.events), (LONGER,)
    with pytest.raises(DocumentError, match=r"spec\.blocks\.q1\.to"):
        async with world.server():
            raise AssertionError("it leads")
    assert len(world.disk.events) == before
    world.blocks = (Q1,)
    async with world.server() as server:
        await record(server, "waiver", holder="zeus", gpus=16, until=STORY_BEGINS_US + DAY_US)
    world.blocks = (LONGER,)
    async with world.server() as server:
        assert (await server.desk.in_force()).blocks == (LONGER,)
    assert judged(world) == (1, 0)


async def test_a_contract_that_comes_with_the_longer_block_counts_at_once(a_world) -> None:
    world = a_world(**given(None))
    async with world.server():
        pass
    world.blocks = (LONGER,)
    world.agree(RENEWING)
    with pytest.raises(DocumentError):
        async with world.server():
            raise AssertionError("it leads")


class Behind(MemoryLedger):
    """Another server has the lead, as long as it lives."""

    other_lives = True

    async def next_term(self) -> int:
        if self.other_lives:
            raise LedgerLocked("another server leads")
        return await super().next_term()


async def test_who_takes_over_leads_without_its_own_file_where_that_may_not_be_applied_any_more(a_world) -> None:
    """The waiver has ended since it began to follow."""
    world = a_world(**given())
    async with world.server() as server:
        await record(server, "waiver", holder="zeus", gpus=16, until=STORY_BEGINS_US + HOUR_US)
    world.blocks = (LONGER,)
    wiring = world.wiring()
    wiring.ledger.crash()
    ledger = Behind(world.disk)
    serving = Serving(dataclasses.replace(wiring, ledger=ledger))
    await serving.start()
    assert not serving.leads
    await asyncio.sleep(3601)
    ledger.other_lives = False
    structlog.reset_defaults()
    with capture_logs() as logs:
        running = asyncio.ensure_future(serving.run())
        await asyncio.sleep(2)
    assert serving.leads and (await serving.desk.in_force()).blocks == (Q1,)
    (error,) = [one for one in logs if one["log_level"] == "error"]
    assert "is not applied" in error["event"] and "spec.blocks.q1.to: agreement/rofr gives zeus" in error["why"]
    assert "`orchestrator capacity apply`" in error["remedy"]
    await serving.stop()
    await running
    await ledger.close()
    assert applied(world) == [(Q1,)]


@pytest.mark.parametrize(("before", "how"), [((Q1,), "with the document of before"), ((), "without --capacity")])
async def test_who_is_refused_at_a_start_reads_how_to_have_a_server_meanwhile(a_world, before, how) -> None:
    world = a_world(**given() | {"blocks": before})
    async with world.server() as server:
        if not before:
            await server.desk.own((Q1,), "ann")
    world.blocks = (LONGER,)
    with pytest.raises(DocumentError, match=f"until then start the server {how}: what is in force stays so"):
        async with world.server():
            raise AssertionError("it leads")
    world.blocks = before
    async with world.server() as server:
        assert (await server.desk.in_force()).blocks == (Q1,)


@pytest.mark.parametrize(
    ("contracts", "after"),
    [
        (None, LONGER),
        (first_right("yves", select={"trigger": ["renew"]}), LONGER),
        (first_right("zeus", select={"trigger": ["new"]}), LONGER),
        (RENEWING, replace(Q1, gpus=32, until_us=LONGER.until_us)),
        (RENEWING, replace(LONGER, name="q2")),
        (RENEWING, replace(Q1, until_us=Q1.until_us - 1)),
        (RENEWING, Q1),
    ],
    ids=["no contracts", "its own right", "of new jobs", "larger", "another", "shorter", "as it was"],
)  # fmt: skip
async def test_whatever_prolongs_nothing_that_somebody_has_a_right_to_is_applied(a_world, contracts, after) -> None:
    world = a_world(**given(contracts))
    async with world.server() as server:
        assert (await server.desk.own((after,), "ann")).blocks == (after,)


async def test_the_decision_is_the_planner_s_whatever_was_asked_before(a_world) -> None:
    """The right comes into force between the question and the turn."""
    world = a_world(**given())
    async with world.server() as server:
        await server.engine.wish(OwnedWish((LONGER,), "ann"))
    assert applied(world) == [(Q1,)]
    with pytest.raises(Busy):
        owned(LedgerRow(blocks=(Q1,)), (LONGER,))


async def test_one_who_answers_for_the_breach_is_declared(a_world) -> None:
    world = a_world(**given())
    async with world.server() as server:
        await record(server, "override", clause="agreement/rofr", block="yves/q1", block_to=LONGER.until_us,
                     approver="Ann", why="outage 4711")  # fmt: skip
        await server.desk.own((LONGER,), "ann")
    declared = [(b.clause, b.job, b.approver, b.why) for b in audited(world).declared]
    assert declared == [("agreement/rofr", "", "Ann", "outage 4711")]


async def test_what_is_recorded_about_a_block_names_one_that_is_owned(a_world) -> None:
    world = a_world(**given())
    async with world.server() as server:
        with pytest.raises(Mistaken, match="no capacity of that name is owned"):
            await record(server, "consent", holder="zeus", block="yves/q9")
