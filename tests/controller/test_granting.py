"""Wishes of other servers, as the leader grants them: one that ends servers is not tried on a third."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from orchestrator.engine.follower import Told, WishBody
from orchestrator.engine.granting import POISON, TRIES_MOST, Granting
from orchestrator.ports.inbox import Wished
from orchestrator.ports.ledger import Batch
from orchestrator.simulate.world import World, submission
from orchestrator.testing.scripts import Script

pytestmark = pytest.mark.looptime


class Table:
    """An inbox with one wish in it, and a ledger that keeps what is answered."""

    def __init__(self, tries: int) -> None:
        self._wishes = [Wished(7, "submit", msgspec.json.encode(WishBody(submission=submission())), tries)]
        self.told: list[Told] = []

    async def take(self) -> list[Wished]:
        taken, self._wishes = self._wishes, []
        return taken

    async def wait(self, patience_s: float) -> None:
        await asyncio.sleep(patience_s)

    async def commit(self, batch: Batch) -> None:
        self.told += [msgspec.json.decode(reply.body, type=Told) for reply in batch.replies]


@pytest.mark.parametrize(("tries", "granted", "told"), [
    (TRIES_MOST, 1, []), (TRIES_MOST + 1, 0, [Told(error="Refused", words=POISON)]),
])  # fmt: skip
async def test_a_wish_that_two_leaders_ended_with_is_refused_by_the_third(
    tries: int, granted: int, told: list[Told]
) -> None:
    table, world = Table(tries), World({"azure": Script()})
    async with world.server() as server:
        work = asyncio.ensure_future(Granting(table, table, server.desk).run())  # type: ignore[arg-type]
        await asyncio.sleep(1)
        work.cancel()
        assert (len(server.engine.core.book.jobs), table.told) == (granted, told)
