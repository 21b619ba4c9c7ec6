"""A pod is gone from the API server: when does that say that it ended, and when only that somebody deleted it?"""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.adapters.providers.kubernetes.machines import AWAY_S, SETTLE_S
from orchestrator.model.offer import SightingState
from tests.kubernetes.onenode import GRACE_S, LAUNCH, NODES, RAN, RECORDS, OneNode

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
UNSEEN_S, LONG_S = 50, 600
"""For how long Kubernetes does not notice that a node was cut off; and longer than anything."""
SURE_S = AWAY_S + GRACE_S + SETTLE_S


async def test_a_pod_deleted_by_force_on_a_node_just_cut_off_is_not_gone() -> None:
    async with OneNode() as site:
        site.deleted()
        await site.stays(SightingState.STOPPING, UNSEEN_S)
        assert await site.listed() == SightingState.STOPPING
        site.answers(False)
        await site.stays(SightingState.STOPPING, LONG_S)
        site.answers(True, since="2026-01-01T00:10:00Z")
        await site.stays(SightingState.STOPPING, SURE_S - 1)
        await asyncio.sleep(2)
        assert (await site.told(), await site.listed()) == (SightingState.GONE, None)


async def test_a_pod_deleted_by_force_on_a_node_that_is_there_is_gone_once_the_node_must_be_there() -> None:
    async with OneNode() as site:
        site.deleted()
        await site.stays(SightingState.STOPPING, SURE_S - 1)
        await asyncio.sleep(2)
        assert (await site.told(), await site.listed()) == (SightingState.GONE, None)


async def test_a_pod_whose_kubelet_said_that_it_ended_before_it_let_it_go_is_gone_at_once() -> None:
    async with OneNode() as site:
        site.put(RAN, status={"phase": "Failed"})
        site.deleted()
        await asyncio.sleep(1)
        assert (await site.told(), await site.listed()) == (SightingState.GONE, None)


async def test_a_node_that_was_away_while_nobody_could_look_has_to_be_ready_for_as_long() -> None:
    async with OneNode() as site:
        site.api.deny(NODES)
        site.deleted()
        await site.stays(SightingState.STOPPING, LONG_S)
        site.answers(True, since="2026-01-01T00:10:00Z")
        site.api.denied.clear()
        await site.stays(SightingState.STOPPING, SURE_S - 1)
        await asyncio.sleep(10)
        assert await site.told() == SightingState.GONE


async def test_a_machine_of_which_no_record_may_be_made_is_listed_until_it_must_be_gone() -> None:
    """It was deleted while its node was cut off, and nothing in the cluster tells of it any more."""
    async with OneNode(RECORDS) as site:
        site.lose()
        for _ in range(LONG_S):
            await asyncio.sleep(1)
            assert await site.listed() == SightingState.STOPPING
        site.answers(True, since="2026-01-01T00:10:00Z")
        await asyncio.sleep(SURE_S + 2)
        assert await site.listed() is None


async def test_a_record_that_may_not_be_made_is_tried_every_few_seconds() -> None:
    async with OneNode(RECORDS) as site:
        for _ in range(60):
            await asyncio.sleep(1)
            await site.told()
        assert 10 <= site.api.asked.count(f"POST {RECORDS}") <= 14
        site.api.full.clear()
        await asyncio.sleep(6)
        await site.told()
        assert f"{RECORDS}/{LAUNCH}" in site.api.objects
