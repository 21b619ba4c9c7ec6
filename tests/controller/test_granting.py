"""Wishes of other servers, as the leader grants them: one that ends servers is not tried on a third."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from orchestrator.engine.follower import FollowerDesk, Told, WishBody
from orchestrator.engine.granting import POISON, TRIES_MOST, Granting
from orchestrator.model.capacity import Block
from orchestrator.model.contract import DAY_US
from orchestrator.model.event import Scaled
from orchestrator.model.ids import launch_key
from orchestrator.ports.desk import Busy
from orchestrator.ports.inbox import Wished
from orchestrator.ports.ledger import Batch, Committed
from orchestrator.simulate.world import Server, World, submission, until_over
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.scripts import Script
from tests.stories.test_visiting import Open, running, visit
from tests.stories.words import ran

pytestmark = pytest.mark.looptime


class Table:
    """An inbox with one wish in it, and a ledger that keeps what is answered."""

    def __init__(self, kind: str, body: WishBody, tries: int = 1) -> None:
        self._wishes = [Wished(7, kind, msgspec.json.encode(body), tries)]
        self.told: list[Told] = []

    async def take(self) -> list[Wished]:
        taken, self._wishes = self._wishes, []
        return taken

    async def wait(self, patience_s: float) -> None:
        await asyncio.sleep(patience_s)

    async def commit(self, batch: Batch) -> None:
        self.told += [msgspec.json.decode(reply.body, type=Told) for reply in batch.replies]


async def grant(table: Table, server: Server) -> None:
    work = asyncio.ensure_future(Granting(table, table, server.desk).run())  # type: ignore[arg-type]
    await asyncio.sleep(1)
    work.cancel()


@pytest.mark.parametrize(("tries", "granted", "told"), [
    (TRIES_MOST, 1, []), (TRIES_MOST + 1, 0, [Told(error="Refused", words=POISON)]),
])  # fmt: skip
async def test_a_wish_that_two_leaders_ended_with_is_refused_by_the_third(
    tries: int, granted: int, told: list[Told]
) -> None:
    table, world = Table("submit", WishBody(submission=submission()), tries), World({"azure": Script()})
    async with world.server() as server:
        await grant(table, server)
        assert (len(server.engine.core.book.jobs), table.told) == (granted, told)


async def test_a_visit_has_its_reply_in_the_commit_that_writes_it_down() -> None:
    world = World({"azure": Script()})
    world.providers["azure"] = Open("azure", world.providers["azure"])
    async with world.server() as server:
        row = await running(server)
        table = Table("visit", WishBody(visit=visit(row)))
        kept, commit = list[Batch](), server.engine.wiring.ledger.commit

        async def watched(batch: Batch) -> Committed:
            kept.append(batch)
            return await commit(batch)

        server.engine.wiring.ledger.commit = watched  # type: ignore[method-assign]
        await grant(table, server)
    [batch] = [batch for batch in kept if batch.replies]
    assert [event.kind for event in batch.events] == ["Accessed"] and table.told == []
    told = msgspec.json.decode(batch.replies[0].body, type=Told)
    assert told == Told(id=launch_key(row.job, 1), created=True)


async def test_who_leads_says_how_much_of_what_is_owned_is_taken() -> None:
    begin = {"from_us": STORY_BEGINS_US, "until_us": STORY_BEGINS_US + DAY_US}
    block = Block(name="b", provider="azure", accelerator="H100", gpus=16, region="eu-1", **begin)
    async with World({"azure": Script()}, blocks=(block,)).server() as server:
        await running(server)
        await grant(table := Table("taken", WishBody()), server)
    assert table.told == [Told(taken={"azure/b": 8})]


async def test_where_no_server_leads_nobody_knows_how_much_is_taken() -> None:
    desk = FollowerDesk(World({"azure": Script()}).wiring())
    assert await desk.taken() is None
    with pytest.raises(Busy):
        await desk.providers()


async def test_who_leads_says_whether_something_of_a_job_is_left() -> None:
    world = World({"azure": Script(stop_s=40)})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
        for ending in (True, False):
            await grant(table := Table("ending", WishBody(job=row.job)), server)
            assert table.told == [Told(ending=ending)]
            await asyncio.sleep(60)


async def test_where_no_server_leads_what_ended_lately_may_be_left() -> None:
    world = World({"azure": Script()})
    row = await ran(world)
    desk = FollowerDesk(world.wiring())
    assert await desk.ending(row)
    await asyncio.sleep(3600)
    assert not await desk.ending(row)


@pytest.mark.parametrize("workers", [1, 3])
async def test_another_size_has_its_reply_in_the_commit_that_writes_it_down(workers: int) -> None:
    """The same size is no change, and is told as none."""
    world = World({"azure": Script()})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        table = Table("scale", WishBody(job=row.job, by="somebody", workers=workers))
        await grant(table, server)
        now = await server.desk.job(row.job)
    assert table.told == ([Told(id=row.job)] if workers == 1 else [])
    assert [event.workers for event in world.events(row.job) if isinstance(event, Scaled)] == [3] * (workers == 3)
    assert (now.next or now.size) is None or workers == 3
