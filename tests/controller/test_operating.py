"""The controller's two halves, its objects and what it hears from the server, live and end together."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from orchestrator.controller.operating import Choices, connect, operate, together
from orchestrator.controller.server import Server, Watch
from orchestrator.sdk import AsyncClient, AsyncJob
from orchestrator.sdk.errors import NoServer, Unauthenticated
from tests.kubernetes.cluster import Cluster
from tests.served import TOKEN, served


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


async def test_a_token_that_is_replaced_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, fresh = tmp_path / "token", "another-token-for-tests-".ljust(43, "y")
    file.write_text(f"{TOKEN}\n")
    with served(tmp_path) as desk:
        monkeypatch.setenv("ORCHESTRATOR_URL", desk.url)
        server = Server(partial(connect, file))
        watch, hearing = server.watch("u-1", {}), asyncio.create_task(server.run())
        await answers(server, watch)
        tokens = (tmp_path / "tokens.json").read_text()
        (tmp_path / "tokens.json").write_text(tokens.replace(TOKEN, fresh) + "\n")
        with pytest.raises(Unauthenticated):
            await anything(server)
        file.write_text(fresh)
        await asyncio.wait_for(watch.flag.wait(), 15)  # it is said to be lost
        await answers(server, watch)
        assert await anything(server) == []
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def answers(server: Server, watch: Watch) -> None:
    """Once it does, or after a while."""
    async with asyncio.timeout(15):
        watch.flag.clear()
        while server.away:
            await watch.flag.wait()
            watch.flag.clear()


async def anything(server: Server) -> list[AsyncJob]:
    async with server.asked() as client:
        return [job async for job in client.jobs()]


def test_a_token_that_is_not_there_yet_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="cannot be read"):
        connect(tmp_path / "token")


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
