"""Who gets the only room there is? A table of jobs that wait for it, and in which order they are to have it.

Lived by the story of urgency, and by the mutants that break its rules: no sentence of the audit is about this order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.simulate.world import World, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script

ROOM = 8
"""GPUs of the only provider: room for one job."""
GAP_S = 5
"""Between two submissions."""


@dataclass(frozen=True)
class Line:
    """Jobs in the order of their submission, the first of which finds the room free; `order`: in which all have it."""

    name: str
    jobs: Sequence[Mapping[str, Any]]
    order: Sequence[int]
    script: Script = field(default_factory=Script)


def _of(*priorities: int) -> list[dict[str, Any]]:
    return [{"priority": priority} for priority in priorities]


SHORT, LONG = {"maxRuntime": "1h"}, {"maxRuntime": "2h"}
"""Decided apart, of one priority."""
LINES = (
    Line("the more urgent came later", _of(0, 0, 5), [0, 2, 1]),
    Line("each is more urgent than whoever came before", _of(0, 1, 2, 3), [0, 3, 2, 1]),
    Line("of one priority the older, the short one", [LONG, SHORT, LONG], [0, 1, 2]),
    Line("of one priority the older, the long one", [SHORT, LONG, SHORT], [0, 1, 2]),
    Line("of one priority the older, also among the urgent", _of(0, 5, 0, 5, 0), [0, 1, 3, 2, 4]),
    Line("more of them than one release wakes", _of(0, *range(10)), [0, *range(10, 0, -1)]),
    Line("the urgent one was told to come back much later", _of(0, 5, 0), [0, 1, 2],
         Script(offers=[do.Accepts(), do.Declines(for_s=5000)])),
    Line("the first one's offer did not get through at once", [SHORT, LONG], [0, 1],
         Script(faults=[do.Throttles(verb="place_offers", nth=n) for n in (1, 2, 3)])),
)  # fmt: skip


async def order_in(line: Line, a_world: Callable[..., World] = World) -> list[int]:
    """In which order its jobs were launched, by their places in the line. The first runs until all have come."""
    world = a_world({"azure": line.script}, work=Work(steps=GAP_S * len(line.jobs) + 10))
    world.providers["azure"].stage.gpus = ROOM
    async with world.server() as server:
        made = []
        for spec in line.jobs:
            made.append((await server.desk.submit(submission(**spec)))[0].job)
            await asyncio.sleep(GAP_S)
        for job in made:
            await until_over(server, job, 7200)
    return [made.index(event.job) for event in world.disk.events if event.kind == "Intended"]
