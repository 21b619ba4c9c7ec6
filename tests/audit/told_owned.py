"""Honest ledgers with owned capacity: what is placed in a block, and what prolongs one."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.model.capacity import Block
from orchestrator.simulate.world import World, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.scripts import Script
from tests.stories.agreements import record

DAY_US = 86_400_000_000
MINE = Block(
    name="b", provider="yves", accelerator="H100", gpus=16, region="eu-1", from_us=STORY_BEGINS_US,
    until_us=STORY_BEGINS_US + DAY_US,
)  # fmt: skip


async def owned() -> World:
    """Two jobs in a block of 16 GPUs that a third does not fit into: it meets the gate of zeus, who may not know of the
    others."""
    scripts = {"oracle": Script(), "zeus": Script(offers=[do.Declines(for_s=300)] * 3), "yves": Script()}
    world = World(scripts, first_right("zeus"), Work(steps=60), blocks=(MINE,))
    async with world.server() as server:
        rows = [(await server.desk.submit(submission()))[0] for _ in range(3)]
        for row in rows:
            await until_over(server, row.job)
        await server.desk.own((MINE, replace(MINE, name="c", gpus=8)), "ann")
    return world


async def renewed() -> World:
    """Zeus is asked first about renewals, and has waived this one, when yves' block is prolonged by a day."""
    world = World({"yves": Script(), "zeus": Script()}, first_right("zeus", select={"trigger": ["renew"]}),
                  blocks=(MINE,))  # fmt: skip
    async with world.server() as server:
        longer = replace(MINE, until_us=MINE.until_us + DAY_US)
        await record(
            server, "waiver", holder="zeus", gpus=16, block="yves/b", block_to=longer.until_us,
            until=STORY_BEGINS_US + DAY_US,
        )  # fmt: skip
        await server.desk.own((longer,), "ann")
    return world
