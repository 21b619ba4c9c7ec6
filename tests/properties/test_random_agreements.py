"""Random agreements over random worlds: exclusives, exemptions, events, records, amendments and owned capacity at any
moment, which is also prolonged, under policies that believe what a job claims to be or do not.

Safety only: the audit finds nothing, the fold is the live table, the engine never fails, and whoever is cancelled ends.
An exclusive that nothing frees may rightly wait for ever. A failing seed is one world, the same every time.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.model.capacity import Block
from orchestrator.model.documents import DocumentError
from orchestrator.model.job import TERMINAL
from orchestrator.model.record import Record
from orchestrator.ports.desk import Busy, Mistaken, Refused
from orchestrator.simulate.world import POLICY, Server, World, agreement, provider_document, submission
from orchestrator.testing.agents import Work
from tests.properties.test_random_worlds import CHUNK, FIRST, NAMES, part
from tests.stories.conftest import check
from tests.stories.words import on_virtual_time, rows_of

CLASSES = ("training", "research")
RELEASES = ("consent", "holder_declined", "holder_outage", "unlawful_for_holder", "unmet_capacity")
BECAUSE = ("below_threshold", "research", "holder_outage", "unlawful_for_holder", "consent", "own_build")
ENOUGH = int(os.environ.get("WORLDS", "40"))


def exemption(dice: random.Random, number: int) -> dict[str, Any]:
    because = dice.choice(
        ["below_threshold", "research", "holder_outage", "unlawful_for_holder", "consent", "own_build"]
    )
    made: dict[str, Any] = {"id": f"x{number}", "because": because}
    if dice.random() < 0.5:
        made["select"] = dice.choice([{"labels": {"site": ["own"]}}, {"gpus": {"lt": 9}}, {"class": ["research"]}])
    if dice.random() < 0.5:
        total = [dice.choice([8, 16, 20]), dice.choice(["2m", "1h", "7d"])]
        made |= {"maxGpuHoursPerWindow": total, "per": dice.choice(["set", "lineage"])}
    if dice.random() < 0.3:
        made["evidence"] = ["paper"]
    return made


def agreed(dice: random.Random) -> dict[str, Any]:
    exempt = [exemption(dice, n) for n in range(dice.randint(0, 2))]
    alone = {
        "id": "alone", "type": "exclusive", "select": {"class": [dice.choice(CLASSES)]},
        "release": dice.sample(RELEASES, dice.randint(0, 4)), "outageAfter": dice.choice(["20s", "3m"]),
        "exempt": exempt,
    }  # fmt: skip
    right = {
        "id": "rofr", "type": "first_right", "window": dice.choice(["30s", "2m"]), "tail": dice.choice(["1m", "24h"]),
        "onOutage": dice.choice(["deemed_decline", "lapse_normally"]), "exempt": exempt,
        "onReplace": dice.choice(["reoffer", "inherit"]),
    }  # fmt: skip
    if dice.random() < 0.3:
        right["partial"] = {"minGpus": dice.choice([1, 4, 100])}
    if dice.random() < 0.5:
        right["select"] = {"class": [dice.choice(CLASSES)]}
    if dice.random() < 0.3:
        right.setdefault("select", {})["trigger"] = dice.choice(
            [["owned"], ["new", "owned"], ["new", "replace"], ["renew"]]
        )
    ends = [{"event": "agi", "quorum": dice.choice([1, 2]), "attesters": dice.choice([[], ["ann", "bob"]])}]
    more = {"endsOn": ends} if dice.random() < 0.5 else {}
    return agreement(dice.choice(NAMES), *dice.choice([[alone], [right], [alone, right]]), **more)


def record(dice: random.Random, jobs: list[str], now: int) -> Record:
    until = dice.choice([None, now + 30_000_000, now + 600_000_000])
    about: dict[str, Any] = dice.choice([{"job": dice.choice(jobs)}, {"classes": (dice.choice(CLASSES),)}, {}])
    by, holder = dice.choice(["ann", "bob"]), dice.choice(NAMES)
    if dice.random() < 0.6:
        name = dice.choice(["paper", "x0", "x1"])
        return dice.choice([
            Record(id="", what="consent", holder=holder, by=by, until=until, **about),
            Record(id="", what="evidence", name=name, by=by, until=until, **about),
        ])  # fmt: skip
    return dice.choice([
        Record(id="", what="waiver", holder=holder, gpus=8, by=by, until=now + 300_000_000),
        Record(id="", what="event", name="agi", by=by),
        Record(id="", what="class", name=dice.choice(CLASSES), job=dice.choice(jobs), by=by),
        Record(id="", what="override", clause="agreement", approver="me", by=by, until=until, **about),
    ])  # fmt: skip


def owned(dice: random.Random, now: int) -> tuple[Block, ...]:
    """None, one or two blocks that begin and end about now, of a job or a few."""
    found = []
    for name in dice.sample(["one", "two"], dice.randint(0, 2)):
        begin = now + dice.choice([-60, 0, 40]) * 1_000_000
        until = begin + dice.choice([1_830, 3_700, 90_000]) * 1_000_000
        found.append(Block(
            name=name, provider=dice.choice(NAMES), accelerator="H100", gpus=dice.choice([4, 6, 8, 16, 20]),
            region="eu-1", from_us=begin, until_us=until, price=dice.choice([None, 1_500_000, 9_000_000]),
        ))  # fmt: skip
    return tuple(found)


def longer(dice: random.Random, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The same blocks, some of them prolonged."""
    return tuple(replace(b, until_us=b.until_us + dice.choice([0, 600, 7200]) * 1_000_000) for b in blocks)


def operators(dice: random.Random) -> dict[str, Any]:
    made = provider_document(NAMES)
    how = dice.choice(["claimed", "claimed", "strictest", "held"])
    made["spec"]["policies"] = {"default": {**POLICY, "classification": how}}
    return made


async def some_days_work(world: World, server: Server, dice: random.Random, jobs: list[str]) -> None:
    for _ in range(dice.randint(2, 5)):
        deed = dice.random()
        with suppress(Busy, Mistaken, Refused, DocumentError):
            if not jobs or deed < 0.45:
                spec: dict[str, Any] = {"class": dice.choice(CLASSES), "maxRuntime": dice.choice(["30m", "1h"])}
                if dice.random() < 0.4:
                    size = {"count": {"min": 1, "max": dice.choice([2, 10])}, "gpus": 2, "accelerator": ["H100"]}
                    spec["workers"] = size
                elif dice.random() < 0.5:
                    size = {"count": dice.choice([2, 5]), "gpus": 2, "accelerator": ["H100"]}
                    spec |= {"workers": size, "divisible": True}
                labels = dice.choice([{}, {"site": "own"}])
                jobs.append((await server.desk.submit(submission(labels=labels, **spec)))[0].job)
            elif deed < 0.55:
                now, before = world.clock.now_us(), (await server.desk.in_force()).blocks
                await server.desk.own(longer(dice, before) if dice.random() < 0.5 else owned(dice, now), "ann")
            elif deed < 0.85:
                await server.desk.record(record(dice, jobs, world.clock.now_us()))
            else:
                await server.desk.amend(world.document(agreed(dice)), "ann")
        await asyncio.sleep(dice.choice([0.0, 0.4, 5.0, 31.0, 130.0]))
        assert server.engine.failed is None, server.engine.failed


async def live(world: World, dice: random.Random) -> None:
    jobs: list[str] = []
    for _ in range(dice.randint(1, 3)):
        async with world.server() as server:
            await some_days_work(world, server, dice, jobs)
        await asyncio.sleep(dice.choice([0.0, 0.0, 20.0, 200.0]))
    async with world.server() as server:
        await asyncio.sleep(dice.choice([0, 100, 1000]))
        for _ in range(200):
            for row in await rows_of(server, jobs):
                await server.desk.cancel(row.job, "somebody")
            rows = await rows_of(server, jobs)
            assert server.engine.failed is None, server.engine.failed
            if all(row.state in TERMINAL for row in rows):
                break
            await asyncio.sleep(60)
        assert all(row.state in TERMINAL for row in rows), [(r.state, r.reason, r.attempts[-1:]) for r in rows]


@pytest.mark.parametrize("chunk", range(0, ENOUGH, CHUNK))
def test_whatever_is_agreed_recorded_and_amended_the_audit_finds_nothing(chunk: int) -> None:
    for seed in range(FIRST + chunk, FIRST + min(chunk + CHUNK, ENOUGH)):
        dice = random.Random(seed)
        work = Work(steps=dice.choice([5, 40, 200]), checkpoint_every=5)
        scripts = {name: part(dice) for name in NAMES}
        contracts = dice.choice([None, agreed(dice), agreed(dice)])
        world = World(scripts, contracts, work, seed=dice.randrange(1 << 30), providers=operators(dice))
        world.blocks = owned(dice, world.clock.now_us())
        try:
            on_virtual_time(live(world, dice))
            check(world)
        except BaseException as wrong:
            wrong.add_note(f"in world {seed}: FIRST_WORLD={seed} WORLDS=1 repeats it")
            raise
