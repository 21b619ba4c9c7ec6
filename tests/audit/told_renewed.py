"""An honest ledger in which owned capacity is prolonged, once to somebody's loss who has refused it."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.model.capacity import Block
from orchestrator.simulate.world import World, first_right
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.scripts import Script
from tests.stories.agreements import record

DAY_US = 86_400_000_000
MINE = Block(
    name="b", provider="yves", accelerator="H100", gpus=16, region="eu-1", from_us=STORY_BEGINS_US,
    until_us=STORY_BEGINS_US + DAY_US,
)  # fmt: skip


async def renewed() -> World:
    """Zeus is asked first about renewals, and has waived this one, when yves' block is prolonged by a day."""
    world = World({"yves": Script(), "zeus": Script()}, first_right("zeus", select={"trigger": ["renew"]}),
                  blocks=(MINE,))  # fmt: skip
    async with world.server() as server:
        await record(server, "waiver", holder="zeus", gpus=16, block="yves/b", until=STORY_BEGINS_US + DAY_US)
        await server.desk.own((replace(MINE, until_us=MINE.until_us + DAY_US),), "ann")
    return world
