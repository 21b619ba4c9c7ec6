"""What somebody who looks at a job is told besides where it stands: what limits nothing, waits, or is out of reach."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from orchestrator.engine.desk import EngineDesk
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.model.job import JobRow, JobState
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.simulate.world import Server, World, agreement, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from orchestrator.testing.stores import MemoryStore

pytestmark = pytest.mark.looptime
EU = {"id": "eu", "type": "residency", "select": {"residency": ["eu"]}, "regionsIn": ["EU"]}
NOTHING = "no clause in force names this residency tag, so it limits nothing"


@pytest.mark.parametrize(
    ("clauses", "residency", "told"),
    [([], "mars", True), ([EU], "mars", True), ([EU], "eu", False), ([], None, False)],
)
async def test_a_residency_that_no_clause_names_is_told(clauses: list[Any], residency: str | None, told: bool) -> None:
    world = World({"azure": Script()}, agreement("azure", *clauses) if clauses else None)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(residency=residency))
        notices = await server.desk.notices(row)
        assert [NOTHING in notice and f"`{residency}`" in notice for notice in notices] == [True] * told
        assert await server.desk.notices(await until_over(server, row.job)) == []


async def test_why_machines_are_not_there_yet_is_told_while_they_are_waited_for() -> None:
    said = 'p-0/ray: ImagePullBackOff: Back-off pulling image "nosuch:1"'
    world = World({"azure": Script(launches=[do.NeverStarts(detail=said)]), "oracle": Script()})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        waiting = await server.desk.job(row.job)
        assert (waiting.state, await server.desk.notices(waiting)) == (
            JobState.LAUNCHING,
            [f"azure says of its machines: {said}"],
        )
        assert await server.desk.notices(await until_over(server, row.job)) == []


async def test_a_store_that_is_gone_is_told_to_whoever_asks() -> None:
    world = World({"azure": Script()}, work=Work(steps=300))
    assert isinstance(world.store, MemoryStore)
    faults = world.store.faults
    async with world.server() as server:
        desk = EngineDesk(server.engine, StoreWatch(server.engine.wiring))
        row = await running(server)
        assert (await desk.check_stores(), await desk.notices(row)) == ({"main": ()}, [])
        faults.down = True
        [lacks] = (await desk.check_stores())["main"]
        assert "the store is down" in lacks and "stop themselves" in lacks
        [notice] = await desk.notices(row)
        assert re.search("its run log is out of reach since 00:0.*: the store is down .*; if the job", notice)
        assert "it stops itself by 00:00:3" in notice
        with pytest.raises(StoreUnavailable):
            await desk.readable(row)
        with pytest.raises(StoreUnavailable):
            [chunk async for chunk in desk.logs(row.job, False)]
        faults.down = False
        assert (await desk.check_stores(), await desk.notices(row)) == ({"main": ()}, [])


async def running(server: Server) -> JobRow:
    row, _ = await server.desk.submit(submission())
    await asyncio.sleep(10)
    row = await server.desk.job(row.job)
    assert row.state is JobState.RUNNING
    return row
