"""Adapters with bugs, and suppliers that hang: what goes wrong at one provider stays there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.adapters.byhand import ByHand, Webhook
from orchestrator.model import event as ev
from orchestrator.runlog import paths
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing.agents import Work
from orchestrator.testing.scripted import ScriptedProvider
from orchestrator.testing.scripts import Script
from orchestrator.testing.stores import MemoryStore

pytestmark = pytest.mark.looptime


class Buggy:
    """A provider, one verb of which fails as no adapter should."""

    def __init__(self, inner: ScriptedProvider, verb: str) -> None:
        self._inner, self._verb = inner, verb
        self.called = 0

    def __getattr__(self, name: str) -> Any:
        return self._fails if name == self._verb else getattr(self._inner, name)

    async def _fails(self, *_: Any) -> Any:
        self.called += 1
        self._inner.stage.note("turned_away", "", verb=self._verb)  # what its adapter loses, a cloud never did
        raise RecursionError("a stranger's bug")


@pytest.mark.parametrize("verb", ["capabilities", "place_offers", "launch", "stop", "observe", "list_ours", "withdraw"])
async def test_an_adapter_with_a_bug_fails_alone(a_world: Any, verb: str) -> None:
    world = a_world({"azure": Script(), "oracle": Script()})
    world.providers["azure"] = azure = Buggy(world.providers["azure"], verb)
    async with world.server() as server:
        rows = [(await server.desk.submit(submission()))[0] for _ in range(2)]
        await server.desk.cancel(rows[0].job, "ann")
        over = await until_over(server, rows[1].job)
        await asyncio.sleep(120)
        assert (azure.called > 0, server.engine.failed, over.state) == (True, None, "succeeded")


async def test_a_reply_of_the_wrong_length_is_an_adapters_bug_too(a_world: Any) -> None:
    world = a_world({"azure": Script(), "oracle": Script()})

    async def nothing(*_: Any) -> list[Any]:
        return []

    world.providers["azure"].place_offers = nothing
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        assert (await until_over(server, row.job)).attempts[0].provider == "oracle"


async def test_each_offer_by_hand_is_delivered_when_its_own_was_acknowledged(tmp_path: Path) -> None:
    """One that hangs puts off neither those of its batch nor those that come later."""
    (tmp_path / "secret").write_text("a-secret")
    seen: list[str] = []

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    async def reply(request: httpx.Request) -> httpx.Response:
        offer = json.loads(request.content)["offer"]["offer"]
        seen.append(offer)
        await asyncio.sleep(300 if offer == seen[0] else 0)
        return httpx.Response(200, content=nothing())

    told = World({"azure": Script(), "oracle": Script()}, first_right("azure"))
    webhook = Webhook("https://a.example/o", f"file:{tmp_path / 'secret'}", lambda: 0, httpx.MockTransport(reply))
    told.providers["azure"] = ByHand(told.providers["azure"], webhook)
    told.by_hand = frozenset({"azure"})
    async with told.server() as server:
        jobs = [row.job for row, _ in [await server.desk.submit(submission()) for _ in range(2)]]
        await asyncio.sleep(5)
        jobs.append((await server.desk.submit(submission()))[0].job)
        await asyncio.sleep(5)
        delivered = [[e for e in told.events(job) if isinstance(e, ev.OfferDelivered)] for job in jobs]
    assert sorted(map(len, delivered)) == [0, 1, 1] and not delivered[jobs.index(seen[0].rpartition("-o")[0])]


async def test_an_entry_that_nobody_understands_stops_its_own_job_alone() -> None:
    """Put there by its user code, or by an agent that is newer than this server. Not judged: no auditor can read it."""
    world = World({"azure": Script()}, work=Work(steps=900))
    async with world.server() as server:
        rows = [(await server.desk.submit(submission()))[0] for _ in range(2)]
        await asyncio.sleep(15)
        slot = server.engine.keeper.state(rows[0].job).position
        world.site.store.put(paths.log_slot(rows[0].project, rows[0].job, slot), b"{}")
        for row in rows:
            await server.desk.cancel(row.job, "ann")
        assert (await until_over(server, rows[1].job)).state == "cancelled"
        assert (await server.desk.job(rows[0].job)).state == "stopping" and server.engine.failed is None


async def test_a_store_that_was_emptied_says_of_nobody_that_he_never_ran(a_world: Any) -> None:
    """The server was started with another url under the store's name: what runs is left alone until that is right."""
    world = a_world({"azure": Script(), "oracle": Script()}, work=Work(steps=900))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(15)
    right, world.store = world.store, MemoryStore()
    async with world.server() as server:
        await asyncio.sleep(300)
        await server.desk.cancel(row.job, "ann")
        await asyncio.sleep(300)
        [attempt] = (await server.desk.job(row.job)).attempts
        assert attempt.state != "ended" and not world.store.objects
    world.store = right
    async with world.server() as server:
        assert (await until_over(server, row.job)).state == "cancelled"
