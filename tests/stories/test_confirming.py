"""Ends that only listings can confirm: for a cancelled job, for a newcomer, across restarts and lies."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.model import event as ev
from orchestrator.model.job import JobState
from orchestrator.model.offer import Listing
from orchestrator.simulate.world import World, provider_document, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from orchestrator.testing.stores import MemoryStore
from tests.stories.words import attempts

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def only_confirmed(*names: str) -> dict[str, object]:
    """Attempts that never stop by themselves: nobody may take over before their end is confirmed."""
    providers = provider_document(names)
    isolation = {"check": "2s", "limit": "20s", "grace": "3s"}
    providers["spec"]["policies"] = {"default": {"isolation": isolation, "onUnreachable": "confirmed_stop_only"}}
    return providers


async def test_a_cancelled_job_without_a_limit_ends_when_its_machines_are_confirmed_gone(a_world) -> None:
    world = a_world({"azure": Script()}, work=Work(steps=900), providers=only_confirmed("azure"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        world.providers["azure"].freeze()  # it will never read the stop
        await server.desk.cancel(row.job, "me")
        row = await until_over(server, row.job, 300)
    assert (row.state, attempts(row)) == (JobState.CANCELLED, [("azure", "fenced")])


async def test_a_newcomer_is_cleared_although_the_server_that_asked_for_the_stop_is_gone(a_world) -> None:
    away = do.Unreachable(when=do.At(12), for_s=60)
    dies = Script(scenes=[do.Kills(when=do.At(11)), away])
    world: World = a_world({"azure": dies, "oracle": Script()}, providers=only_confirmed("azure", "oracle"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(12.5)
    await asyncio.sleep(5)
    async with world.server() as server:
        row = await until_over(server, row.job, 600)
    assert attempts(row) == [("azure", "fenced"), ("oracle", "done")]
    assert [e.cleared for e in world.events(row.job) if isinstance(e, ev.Started)] == [False, True]


async def test_a_store_that_is_away_when_an_end_is_confirmed_holds_up_no_sweep(a_world) -> None:
    """What is to be written there waits; what else runs at that provider is looked at all the same."""
    azure = Script(scenes=[do.Kills(when=do.AtStep(7))], stop_s=20)
    world = a_world({"azure": azure, "oracle": Script()}, providers=only_confirmed("azure", "oracle"))
    provider, store, looks = world.providers["azure"], world.site.store, []
    listed = provider.list_ours

    async def list_ours() -> Listing:
        looks.append(await listed())
        return looks[-1]

    assert isinstance(store, MemoryStore)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        for _ in range(120):
            if len((await server.desk.job(row.job)).attempts) == 2:
                break
            await asyncio.sleep(1)
        store.faults.down, provider.list_ours = True, list_ours
        await asyncio.sleep(600)
        empty = [look for look in looks if not look.sightings]
        store.faults.down = False
        row = await until_over(server, row.job, 600)
    assert attempts(row) == [("azure", "fenced"), ("oracle", "done")]
    assert len(empty) > 5


async def test_a_newcomer_without_a_limit_that_never_starts_is_left_too(a_world) -> None:
    dies = Script(scenes=[do.Kills(when=do.AtStep(7))])
    world = a_world({"azure": dies, "coreweave": Script(launches=[do.NeverStarts()]), "oracle": Script()},
                    providers=only_confirmed("azure", "coreweave", "oracle"))  # fmt: skip
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        row = await until_over(server, row.job, 1800)
    assert attempts(row) == [("azure", "fenced"), ("coreweave", "gone"), ("oracle", "done")]
