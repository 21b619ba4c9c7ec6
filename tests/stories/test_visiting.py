"""Who got at a running job is in the ledger before the way is open; it moves nothing and outlives the job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.local.provider import LocalProvider
from orchestrator.adapters.providers.mock import MockProvider
from orchestrator.core.explain import timeline
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.ports.access import Access
from orchestrator.ports.desk import NoShell, NothingRuns, Visit
from orchestrator.simulate.world import Server, World, submission, until_over
from orchestrator.testing.access import FakeAccess
from orchestrator.testing.scripted import ScriptedProvider
from orchestrator.testing.scripts import Script

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Open(FakeAccess, ScriptedProvider):
    """A provider that lets people in."""

    def __init__(self, name: str, like: ScriptedProvider) -> None:
        FakeAccess.__init__(self)
        self.__dict__.update(like.__dict__)


def opened(world: World) -> World:
    world.providers["azure"] = Open("azure", world.providers["azure"])
    return world


async def running(server: Server) -> JobRow:
    row, _ = await server.desk.submit(submission())
    await asyncio.sleep(5)
    return await server.desk.job(row.job)


def visit(row: JobRow, **more: object) -> Visit:
    return Visit(**{"job": row.job, "by": "ann", "what": "exec", "rank": 0, "name": "bash", **more})  # type: ignore[arg-type]


async def test_who_goes_in_is_in_the_ledger_and_nothing_moves(a_world: Callable[..., World]) -> None:
    world = opened(a_world({"azure": Script()}))
    async with world.server() as server:
        before = await running(server)
        entered = await server.desk.enter(visit(before))
        assert entered.access is world.providers["azure"] and entered.key == f"{before.job.lower()}-e1"
        after = await server.desk.job(before.job)
        assert (after.state, after.accesses) == (JobState.RUNNING, 1)
        await server.desk.enter(visit(before, what="dump", rank=None, name=""))
        row = await until_over(server, before.job)
    assert (row.state, row.accesses) == (JobState.SUCCEEDED, 2)
    lines = [line.plain for line in timeline((0, e) for e in world.events(before.job))]
    assert {"ann asked to run bash at rank 0 of azure", "ann asked to look at the stacks at azure"} <= {*lines}


async def test_this_machine_and_kubernetes_have_a_way_in_and_mock_clouds_have_none() -> None:
    found = {kind.__name__: issubclass(kind, Access) for kind in (LocalProvider, KubernetesProvider, MockProvider)}
    assert found == {"LocalProvider": True, "KubernetesProvider": True, "MockProvider": False}


async def test_a_cloud_without_a_way_in_says_so_and_nothing_is_written(a_world: Callable[..., World]) -> None:
    world = a_world({"azure": Script()})
    async with world.server() as server:
        row = await running(server)
        with pytest.raises(NoShell, match="the cloud gives no shell: azure"):
            await server.desk.enter(visit(row))
        await until_over(server, row.job)
    assert not [e for e in world.events() if isinstance(e, ev.Accessed)]


@pytest.mark.parametrize("when", ["ended", "stopping", "waiting"])
async def test_what_does_not_run_cannot_be_entered(a_world: Callable[..., World], when: str) -> None:
    world = opened(a_world({"azure": Script()}))
    async with world.server() as server:
        row = await {"ended": ended, "stopping": stopping, "waiting": waiting}[when](server)
        with pytest.raises(NothingRuns, match="none of its attempts runs now"):
            await server.desk.enter(visit(row))
    assert not [e for e in world.events() if isinstance(e, ev.Accessed)]


async def ended(server: Server) -> JobRow:
    return await until_over(server, (await running(server)).job)


async def stopping(server: Server) -> JobRow:
    row = await running(server)
    return await server.desk.cancel(row.job, "me")


async def waiting(server: Server) -> JobRow:
    row, _ = await server.desk.submit(submission(workers={"gpus": 1, "accelerator": ["TPU"]}))
    return row
