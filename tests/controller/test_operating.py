"""The controller's two halves, its objects and what it hears from the server, live and end together."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.controller.operating import Choices, operate, together
from orchestrator.sdk import AsyncClient
from tests.kubernetes.cluster import Cluster


class Broken(Exception):
    """A bug of ours."""


async def breaks() -> None:
    raise Broken


async def lives(ended: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()


async def test_whichever_half_breaks_ends_both_and_is_said() -> None:
    for first in (True, False):
        ended = asyncio.Event()
        halves = [asyncio.create_task(breaks()), asyncio.create_task(lives(ended))]
        with pytest.raises(Broken):
            await together(*(halves if first else reversed(halves)))
        assert ended.is_set()


async def test_an_end_that_was_asked_for_is_none_of_its_failures() -> None:
    ended, asked = asyncio.Event(), asyncio.Event()
    halves = asyncio.create_task(lives(ended)), asyncio.create_task(wait(asked))
    asked.set()
    await together(*halves)
    assert ended.is_set()


async def wait(asked: asyncio.Event) -> None:
    await asked.wait()


def deaf() -> AsyncClient:
    raise Broken


def nobody() -> AsyncClient:
    return AsyncClient("http://127.0.0.1:9", "t" * 40, patience_s=0.1)


@pytest.mark.kubernetes
async def test_a_controller_that_went_deaf_ends(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with pytest.raises(Broken):
        await asyncio.wait_for(operate(Choices(namespaces=("default",)), connect=deaf), 30)


@pytest.mark.kubernetes
async def test_a_controller_that_is_asked_to_end_has_not_failed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    stop = asyncio.Event()
    running = asyncio.create_task(operate(Choices(namespaces=("default",)), connect=nobody, stop=stop))
    stop.set()
    await asyncio.wait_for(running, 30)
    assert running.exception() is None
