"""What the stories of scaled jobs do and ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, JobState
from orchestrator.model.placement import parse_terms
from orchestrator.simulate.world import Server, World, submission, until_over
from orchestrator.testing.agents import Work

FOUR = {"count": 4, "gpus": 1, "accelerator": ["H100"]}
SAVES = Work(steps=40, checkpoint_every=25, saves_when_stopped=True, dies_after_s=2.0)
JUST_BEFORE_S = 20.5
"""Work of 19 s ends half a second later, before its agent reads its log again."""
GROWTH = {"select": {"trigger": ["scale_up"]}}


async def scaled(world: World, after_s: float, most: int, least: int = 0, **workers: Any) -> JobRow:
    """A job of four workers that is given another size after so many seconds, at its end."""
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers={**FOUR, **workers}))
        await asyncio.sleep(after_s)
        await server.desk.scale(row.job, most, least, "me")
        return await until_over(server, row.job)


async def scaled_twice(world: World, first: int, then: int) -> JobRow:
    """The second time after what ran has ended, and before another offer is made."""
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers=FOUR))
        await asyncio.sleep(15)
        await server.desk.scale(row.job, first, 0, "me")
        row = await until(server, row.job, lambda row: row.next is None)
        assert row.state is JobState.RECOVERING
        await server.desk.scale(row.job, then, 0, "me")
        return await until_over(server, row.job)


async def until(server: Server, job: str, so: Callable[[JobRow], bool]) -> JobRow:
    """The job as soon as it is so."""
    while not so(row := await server.desk.job(job)):
        async with server.engine.committed:
            await server.engine.committed.wait()
    return row


def asked(world: World, job: str) -> list[tuple[str, str, str, int, int]]:
    """(provider, clause, trigger, least, most workers) of each offer."""
    opened = [e for e in world.events(job) if isinstance(e, ev.OfferOpened)]
    terms = [parse_terms(world.disk.specs[e.terms]) for e in opened]
    return [(e.provider, e.clause, e.trigger, t.fewest, t.workers) for e, t in zip(opened, terms, strict=True)]


def sizes(world: World, name: str) -> list[int]:
    return [one.order.workers for one in world.providers[name].machines.launches.values()]


def starts(world: World, job: str) -> list[tuple[int, int]]:
    return [(e.epoch, e.resumed_step) for e in world.events(job) if isinstance(e, ev.Started)]
