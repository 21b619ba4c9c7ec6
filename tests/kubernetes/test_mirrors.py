"""What is known of a cluster whose API server lets us read only a part of it, or whose watches hang without a word?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestrator.adapters.providers.kubernetes.resources import NODE, Node
from orchestrator.adapters.providers.kubernetes.watching import Mirror
from orchestrator.model.offer import SightingState
from orchestrator.ports.provider import Misconfigured, Unreachable
from tests.kubernetes.onenode import NODES, QUOTAS, RAN, OneNode
from tests.kubernetes.paper import PaperApi

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
LONG_S = 600


@asynccontextmanager
async def a_mirror(api: PaperApi) -> AsyncIterator[Mirror[Node]]:
    """Of one node."""
    api.put(NODE.path(name="n1"))
    made = Mirror(api, NODES, Node, lambda *_: None)  # type: ignore[arg-type]
    made.start()
    await asyncio.sleep(1)
    yield made
    await made.aclose()


async def test_nodes_that_cannot_be_read_any_more_take_the_provider_down() -> None:
    async with OneNode() as site:
        site.api.deny(NODES)
        await asyncio.sleep(25)
        assert await site.told() == SightingState.RUNNING, "an API server that is restarted is no news"
        await asyncio.sleep(10)
        for ask in (site.listed, site.told):
            with pytest.raises(Misconfigured, match=r"nodes: 403.*rights"):
                await ask()


async def test_no_end_is_confirmed_by_nodes_that_could_not_be_read_meanwhile() -> None:
    async with OneNode() as site:
        site.api.deny(NODES)
        site.lose()
        await site.stays(SightingState.STOPPING, LONG_S)
        site.api.denied.clear()
        await asyncio.sleep(6)
        assert await site.listed() == await site.told() == SightingState.STOPPING


async def test_a_listing_asks_the_nodes_on_whose_word_an_end_rests_and_no_others() -> None:
    async with OneNode() as site:
        site.api.frozen.add(NODES)
        assert await site.listed() == SightingState.RUNNING and site.lists() == 1
        site.lose()
        await asyncio.sleep(1)
        assert await site.listed() == SightingState.STOPPING and site.lists() == 2
        await asyncio.sleep(35)
        assert await site.listed() == SightingState.STOPPING


async def test_a_feed_confirms_nothing_by_nodes_whose_watches_say_nothing() -> None:
    async with OneNode() as site:
        site.api.frozen.add(NODES)
        site.lose()
        await site.stays(SightingState.STOPPING, LONG_S)
        assert site.lists() > 3


async def test_whoever_waits_for_news_is_told_once_nodes_are_not_known_any_more() -> None:
    async with OneNode() as site:
        site.api.frozen.add(NODES)
        site.lose()
        cursor = (await site.provider.observe(None, 0)).cursor
        with pytest.raises(Unreachable, match="bring nothing"):
            for _ in range(LONG_S):
                news = await site.provider.observe(cursor, 29_000_000)
                cursor = news.cursor
                assert all(seen.state is SightingState.STOPPING for seen in news.sightings)


async def test_a_phase_that_anybody_may_have_written_is_not_believed_while_nodes_cannot_be_read() -> None:
    async with OneNode() as site:
        site.api.deny(NODES)
        await asyncio.sleep(1)
        site.api.put(RAN, status={"phase": "Failed"})
        site.lose()
        await asyncio.sleep(1)
        assert await site.told() == SightingState.STOPPING


async def test_quotas_that_cannot_be_read_answer_no_offer() -> None:
    async with OneNode() as site:
        site.api.deny(QUOTAS)
        await asyncio.sleep(35)
        with pytest.raises(Misconfigured, match="resourcequotas: 403"):
            await site.told()
        site.api.denied.clear()
        await asyncio.sleep(6)
        assert await site.told() == SightingState.RUNNING


async def test_a_watch_that_is_refused_is_tried_ever_less() -> None:
    api = PaperApi()
    async with a_mirror(api):
        api.deny(NODES)
        await asyncio.sleep(60)
    assert 10 <= len(api.asked) <= 20


async def test_a_quiet_watch_is_good_again_without_a_word() -> None:
    api = PaperApi()
    async with a_mirror(api) as mirror:
        api.deny(NODES)
        await asyncio.sleep(20)
        api.denied.clear()
        await asyncio.sleep(20)
        assert mirror.known() and mirror.failing is None and mirror.lists == 1


async def test_a_long_list_is_not_begun_anew_by_whoever_asks_meanwhile() -> None:
    api = PaperApi()
    with api.late(f"GET {NODES}"):
        mirror = Mirror(api, NODES, Node, lambda *_: None)  # type: ignore[arg-type]
        mirror.start()
        for _ in range(3):
            await asyncio.sleep(4)
            mirror.again()
    await asyncio.sleep(1)
    assert mirror.known() and api.asked.count(f"GET {NODES}") == 1
    await mirror.aclose()
