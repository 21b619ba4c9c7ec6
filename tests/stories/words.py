"""Short words for stories."""

from __future__ import annotations

from typing import Any

from orchestrator.model import event as ev
from orchestrator.model.job import JobRow
from orchestrator.simulate.world import World, submission, until_over

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
