"""What does a shape cost that nobody can serve? One look from time to time, however many of it wait and come in."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.shapebook import Moments
from orchestrator.model.contract import Trigger
from orchestrator.simulate.world import submission
from orchestrator.testing import scripts as do
from orchestrator.testing.scripts import Script
from tests.stories.agreements import alone, record

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_however_many_come_in_while_nobody_can_be_asked_one_moment_is_noted_for_all(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Unreachable(when=do.At(1), for_s=7200)])})
    async with world.server() as server:
        await asyncio.sleep(20)
        for _ in range(50):
            await server.desk.submit(submission())
            await asyncio.sleep(0.1)
        book = server.engine.core.book
        assert len(book.sleepers.heap) == len(book.shapes) == 1
        await asyncio.sleep(300)
        assert len(book.sleepers.heap) == 1


async def test_however_often_an_answer_is_made_anew_its_end_is_noted_once(a_world) -> None:
    world = a_world({"azure": Script(scenes=[do.Unreachable(when=do.At(1), for_s=7200)])}, alone("consent"))
    async with world.server() as server:
        await asyncio.sleep(20)
        await server.desk.submit(submission())
        for _ in range(20):
            await record(server, "consent", holder="azure", until=world.clock.now_us() + 5_000_000)
            await asyncio.sleep(10)
        assert len(server.engine.core.book.rulebook.expiring.heap) == 1


async def test_an_earlier_moment_takes_the_place_of_a_later_one_and_a_later_one_of_none() -> None:
    shape, moments = ("s", Trigger.NEW), Moments()
    for moment in (30, 20, 25):
        moments.note(shape, moment)
    assert (moments.first(), moments.pop(19), moments.pop(20)) == (20, [], [shape])
    assert moments.pop(30) == []
    moments.note(shape, 40)
    assert moments.pop(40) == [shape]
