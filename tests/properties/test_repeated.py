"""A world is the same every time: nothing that is decided hangs on the order in which a process keeps its sets."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator.model.offer import Capabilities
from orchestrator.simulate.world import World, submission, until_over
from orchestrator.testing.scripts import Script
from tests.stories.words import on_virtual_time

SHAPES = 9
TOLD = "from tests.properties.test_repeated import told; told()"


async def all_at_once(world: World) -> None:
    """So many shapes at one moment, of one urgency, and a provider that is asked for one at a time."""
    async with world.server() as server:
        jobs = [(await server.desk.submit(submission(workers={"gpus": n})))[0].job for n in range(1, SHAPES)]
        for job in jobs:
            await until_over(server, job)


def told() -> None:
    world = World({"azure": Script()}, capabilities=Capabilities(max_open_offers=1))
    on_virtual_time(all_at_once(world))
    print(world.disk.events[-1].chain)


def chain(hash_seed: str) -> str:
    """The hash over the whole ledger, as another process makes it."""
    seeded = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run([sys.executable, "-c", TOLD], env=seeded, check=True, capture_output=True, text=True).stdout


def test_two_processes_write_the_same_ledger() -> None:
    assert chain("1") == chain("2")
