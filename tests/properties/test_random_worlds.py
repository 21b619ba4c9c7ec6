"""Random worlds: clouds that misbehave for a while, several jobs, a server that dies now and then.

Safety: the audit finds nothing, the fold is the live table, user code of one job never runs twice at a time, the engine
never fails. Liveness: once the misbehaviour is over every job ends. A failing seed is one world, the same every time.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.model.job import TERMINAL
from orchestrator.model.offer import Capabilities, Reason
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.simulate.world import World, first_right, provider_document, submission
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.stories.conftest import befell, check
from tests.stories.words import on_virtual_time, rows_of

WORLDS = int(os.environ.get("WORLDS", "60"))
FIRST = int(os.environ.get("FIRST_WORLD", "0"))
CHUNK = 20
NAMES = ("azure", "coreweave", "oracle")
LONG_ENOUGH = 8 * 3600


def some(dice: random.Random, most: int, make: Callable[[random.Random], object]) -> list[object]:
    return [make(dice) for _ in range(dice.randint(0, most))]


def word(dice: random.Random) -> object:
    after = dice.choice([0.0, 0.5, 30.0, 59.9, 60.5, 130.0])
    taken = dice.choice([None, None, None, 1, 2, 9])  # of a job of one size all but 1 is a counter
    yes = do.Accepts(after_s=after, ttl_s=dice.choice([None, 0.0, 5.0, 600.0]), workers=taken)
    no = do.Declines(reason=dice.choice(list(Reason)), for_s=dice.choice([None, 10, 300, 2000]), after_s=after)
    return dice.choice([yes, yes, no, no, do.Counters(after_s=after), do.Silent(), do.Dithers(for_s=70, then=yes)])


def deed(dice: random.Random) -> object:
    starts = do.Starts(
        after_s=dice.choice([0.0, 2.0, 90.0, 900.0]), reply_lost=dice.random() < 0.3, copies=dice.choice([1, 1, 2])
    )
    return dice.choice(
        [starts, starts, starts, do.NeverStarts(), do.Rejects(for_s=dice.choice([None, 60])), do.RequestLost()]
    )


def scene(dice: random.Random) -> object:
    when = dice.choice([do.At(dice.uniform(0, 300)), do.AtStep(dice.randint(1, 30))])
    away = dice.choice([3.0, 15.0, 45.0, 400.0])
    return dice.choice([
        do.Unreachable(when=when, for_s=away), do.DataCut(when=when, for_s=away), do.Kills(when=when),
        do.Freezes(when=when, for_s=away), do.Frees(when=when, gpus=8),
        do.Reclaims(when=when, notice_s=dice.choice([1.0, 30.0, 120.0])),
    ])  # fmt: skip


def fault(dice: random.Random) -> object:
    verb = dice.choice(["place_offers", "launch", "stop", "withdraw", "observe", "list_ours", "capabilities"])
    nth = dice.randint(1, 6)
    if dice.random() < 0.3:
        return do.Throttles(verb=verb, nth=nth, for_s=dice.choice([1.0, 20.0]))
    return do.Loses(verb=verb, nth=nth, reply=dice.random() < 0.5)


def part(dice: random.Random) -> Script:
    return Script(
        offers=some(dice, 4, word), launches=some(dice, 3, deed), scenes=some(dice, 3, scene),
        faults=some(dice, 4, fault), stops_ignored=dice.choice([0, 0, 1, 3]), bills_twice=dice.random() < 0.2,
    )  # type: ignore[arg-type]  # fmt: skip


def a_world(dice: random.Random) -> World:
    policy = {
        "isolation": {"check": "2s", "limit": "20s", "grace": "3s"}, "maxAttempts": 20,
        "onUnreachable": dice.choice(["wait", "wait", "stop", "confirmed_stop_only"]),
    }  # fmt: skip
    providers = provider_document(NAMES)
    providers["spec"]["policies"] = {"default": policy}
    contracts = first_right(
        dice.choice(NAMES), window=dice.choice(["60s", "2m"]),
        onOutage=dice.choice(["deemed_decline", "lapse_normally"]),
        onReplace=dice.choice(["reoffer", "inherit"]), tail=dice.choice(["1m", "24h"]),
    )  # fmt: skip
    work = Work(
        steps=dice.choice([5, 40, 200]), dies_after_s=dice.choice([0.0, 0.0, 2.0, 60.0]), checkpoint_every=5,
        saves_when_stopped=dice.random() < 0.5,
    )  # fmt: skip
    return World(
        {name: part(dice) for name in NAMES}, dice.choice([None, contracts, contracts]), work,
        seed=dice.randrange(1 << 30), providers=providers, capabilities=Capabilities(
            list_lag_us=dice.choice([0, 0, 5_000_000, 45_000_000]), max_open_offers=dice.choice([1, 64]),
            answers_itself=dice.random() < 0.3, delete_after=dice.random() < 0.5,
        ),
    )  # fmt: skip


class OurLine:
    """The server's own way to the store, which fails now and then: every call, or puts alone."""

    def __init__(self, world: World) -> None:
        self._store, self.fails = world.store, ""
        world.store = self  # type: ignore[assignment]

    def __getattr__(self, verb: str) -> Any:
        if self.fails == "all" or self.fails == verb:
            raise StoreUnavailable("our line to the store is cut")
        return getattr(self._store, verb)


async def trouble(line: OurLine, dice: random.Random) -> None:
    for _ in range(dice.randint(0, 4)):
        await asyncio.sleep(dice.uniform(0, 300))
        line.fails = dice.choice(["all", "create"])
        await asyncio.sleep(dice.choice([1.0, 30.0, 200.0]))
        line.fails = ""


async def live(world: World, dice: random.Random) -> None:
    """Jobs come in, some are cancelled; the server dies and comes back; in the end it stays until all is over."""
    jobs: list[str] = []
    troubles = asyncio.ensure_future(trouble(OurLine(world), random.Random(dice.random())))
    for _ in range(dice.randint(1, 4)):
        async with world.server() as server:
            for _ in range(dice.randint(0 if jobs else 1, 2)):
                size = {"count": dice.choice([1, 1, {"min": 1, "max": 3}, {"min": 2, "max": 8}, 4]), "gpus": 2}
                spec = {"startBy": dice.choice([None, None, None, "20m"]), "workers": {**size, "accelerator": ["H100"]}}
                spec |= {"divisible": True} if size["count"] == 4 else {}
                row, _ = await server.desk.submit(submission(**spec))
                jobs.append(row.job)
            await asyncio.sleep(dice.choice([0.0, 0.3, 2.5, 10.0, 70.0, 400.0]))
            if dice.random() < 0.2:
                await server.desk.cancel(dice.choice(jobs), "somebody")
            assert server.engine.failed is None, server.engine.failed
        await asyncio.sleep(dice.choice([0.0, 0.0, 5.0, 60.0, 1000.0]))
    async with world.server() as server:
        for _ in range(LONG_ENOUGH // 60):
            rows = await rows_of(server, jobs)
            assert server.engine.failed is None, server.engine.failed
            if all(row.state in TERMINAL for row in rows):
                break
            await asyncio.sleep(60)
        assert all(row.state in TERMINAL for row in rows), [(r.state, r.reason, r.attempts[-1:]) for r in rows]
        await troubles
        await asyncio.sleep(600)
        left = [s.key for p in world.providers.values() for s in p.machines.listing()]
        assert left == [], "nothing of a finished job is alive after limit, grace and a sweep"


@pytest.mark.parametrize("chunk", range(0, WORLDS, CHUNK))
def test_whatever_happens_nothing_runs_twice_and_everything_ends(chunk: int, request: pytest.FixtureRequest) -> None:
    for seed in range(FIRST + chunk, FIRST + min(chunk + CHUNK, WORLDS)):
        dice = random.Random(seed)
        world = a_world(dice)
        try:
            on_virtual_time(live(world, dice))
            check(world)
            request.node.user_properties.extend(befell(world))
        except BaseException as wrong:
            wrong.add_note(f"in world {seed}: FIRST_WORLD={seed} WORLDS=1 repeats it")
            raise
