"""Worlds in which a job has more than one size: it grows, or is divided."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace as but

from orchestrator.simulate.world import World, agreement, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.mutants.worlds import BLOCK, NO, RIGHT, SMALL, YES, world
from tests.stories.agreements import rights


@world("a job grows, and growths are a holder's to refuse", {"oracle": YES, "zeus": YES},
       first_right("zeus", select={"trigger": ["scale_up"]}), Work(steps=30))  # fmt: skip
async def GROWS(world: World) -> None:
    await _grow(world)


@world("a job grows whose holder inherits its no", {"oracle": YES, "zeus": NO},
       first_right("zeus", select={"trigger": ["new", "scale_up"]}, onReplace="inherit"), Work(steps=30))  # fmt: skip
async def GROWS_AFTER_A_NO(world: World) -> None:
    await _grow(world)


@world("a job shrinks by more than is tolerated", {"oracle": YES, "zeus": NO},
       first_right("zeus", onReplace="inherit", reofferIf={"smaller": 1}), Work(steps=30))  # fmt: skip
async def SHRINKS(world: World) -> None:
    await _scale(world, 4, 2)


async def _grow(world: World) -> None:
    await _scale(world, 2, 4)


async def _scale(world: World, first: int, then: int) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers={"count": first, "gpus": 1, "accelerator": ["H100"]}))
        await asyncio.sleep(12)
        await server.desk.scale(row.job, then, 0, "me")
        await until_over(server, row.job, 1800)


@world("a job grows in two wishes, the second just after its end", {"oracle": YES, "zeus": YES},
       first_right("zeus", select={"trigger": ["scale_up"]}), Work(steps=30))  # fmt: skip
async def GROWS_LATER(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers={"count": 2, "gpus": 1, "accelerator": ["H100"]}))
        await asyncio.sleep(12)
        await server.desk.scale(row.job, 1, 0, "me")
        while row.episode == 1:
            async with server.engine.committed:
                await server.engine.committed.wait()
            row = await server.desk.job(row.job)
        await server.desk.scale(row.job, 4, 0, "me")
        await until_over(server, row.job, 1800)


EIGHT = {"divisible": True, "workers": {"count": 8, "gpus": 1, "accelerator": ["H100"]}}


@world("two rights over a divisible job", {
    "azure": Script(offers=[do.Accepts(workers=3)]), "oracle": Script(offers=[do.Accepts(workers=2)]), "zeus": YES},
    rights("azure", "zeus"))  # fmt: skip
async def SPLIT(world: World) -> None:
    await _divide(world)


@world("a divisible job larger than a total, whose holder takes three of eight", {
    "oracle": YES, "zeus": Script(offers=[do.Accepts(workers=3)])},
    agreement("zeus", {**RIGHT, "exempt": [SMALL | {"maxGpuHoursPerWindow": [6, "7d"]}]}))  # fmt: skip
async def TOO_LARGE(world: World) -> None:
    await _divide(world)


@world("a block takes six of eight, whose owner has a right to the rest", {
    "oracle": YES, "yves": Script(offers=[do.Accepts(), do.Declines(for_s=300)])}, first_right("yves"),
    blocks=(but(BLOCK, gpus=6, price=None),))  # fmt: skip
async def OWNED_IN_PART(world: World) -> None:
    await _divide(world)


@world("a block's owner declines the six of eight that fit", {"oracle": YES, "yves": NO},
       first_right("yves", select={"trigger": ["owned", "new"]}), blocks=(but(BLOCK, gpus=6, price=None),))  # fmt: skip
async def OWNED_PART_DECLINED(world: World) -> None:
    await _divide(world)


@world("a block has room for less than anybody may take", {"oracle": YES, "yves": YES},
       first_right("oracle", partial={"minGpus": 4}), blocks=(but(BLOCK, gpus=3),))  # fmt: skip
async def OWNED_TOO_SMALL(world: World) -> None:
    await _divide(world)


async def _divide(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(**EIGHT))
        while (row := await until_over(server, row.job, 1800)).rest:
            row = await server.desk.job(row.rest)
