"""A launch whose making failed is completed, whatever was seen of it meanwhile. The cluster is on paper."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.completing import Completing
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.objects import manifests
from orchestrator.adapters.providers.kubernetes.resources import JOB, SECRET, Thing
from orchestrator.ports.provider import Unreachable
from orchestrator.testing.builders import an_order
from orchestrator.testing.clock import FakeClock
from tests.kubernetes.paper import PaperApi

pytestmark = pytest.mark.looptime
CONNECTION = parse_connection("k", {"image": "i", "agentImage": "a", "runtime": "job", "namespace": "team"})


async def test_a_launch_that_was_seen_while_it_was_made_is_completed_once_its_making_has_failed() -> None:
    api, clock, order = PaperApi(), FakeClock(), an_order()
    cluster = Cluster(api, CONNECTION, clock.now_us)  # type: ignore[arg-type]
    completing = Completing(cluster, "l", clock.now_us, clock.entropy)
    await cluster.ready()

    async def look() -> None:
        await asyncio.sleep(2)
        await completing.look([*cluster.dirty])
        cluster.dirty.clear()

    with pytest.raises(Unreachable), completing.making(order.key):
        job = manifests(order, CONNECTION, "job", "l", workload=None, token="t")[0]
        await api.create(JOB.path("team"), job, Thing)
        await look()
        raise Unreachable("no reply to POST secrets")
    await look()
    assert any(path.startswith(SECRET.path("team")) for path in api.objects)
