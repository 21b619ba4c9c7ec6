"""Short words for stories."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from orchestrator.model import event as ev
from orchestrator.model.documents.base import canonical_bytes
from orchestrator.model.documents.compile import compile_providers
from orchestrator.model.documents.providers import load_providers
from orchestrator.model.job import JobRow
from orchestrator.simulate.world import Server, World, provider_document, submission, until_over
from tests.virtual import virtual_loop

T = TypeVar("T")
FINISHED_BELOW = 130e6
"""Microseconds."""


def kinds(world: World, job: str) -> list[str]:
    return [ev.kind_of(e) for e in world.events(job)]


def attempts(row: JobRow) -> list[tuple[str, str]]:
    return [(a.provider, a.how) for a in row.attempts]


async def ran(world: World, **spec: Any) -> JobRow:
    """One server, one job, to its end."""
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(**spec))
        return await until_over(server, row.job)


async def rows_of(server: Server, jobs: list[str]) -> list[JobRow]:
    """Where these jobs stand, and what was left of those that were split, which are put to them."""
    rows = []
    for job in jobs:  # longer while it is walked
        rows.append(await server.desk.job(job))
        if rows[-1].rest and rows[-1].rest not in jobs:
            jobs.append(rows[-1].rest)
    return rows


def on_virtual_time(story: Coroutine[Any, Any, T]) -> T:
    """Run a story on a loop of its own, and leave nothing of it behind."""
    loop = virtual_loop()
    try:
        return loop.run_until_complete(_to_the_end(story))
    finally:
        loop.close()


async def _to_the_end(story: Coroutine[Any, Any, T]) -> T:
    try:
        return await story
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def without(world: World, provider: str) -> None:
    """The operator takes a provider out of providers.yaml; the cloud itself lives on."""
    world.providers = {name: p for name, p in world.providers.items() if name != provider}
    left = load_providers(json.dumps(provider_document(list(world.providers))))
    world._provider_set, world._provider_document = compile_providers(left), canonical_bytes(left)
