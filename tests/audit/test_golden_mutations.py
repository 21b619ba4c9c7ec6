"""One ledger that holds every kind of event, and which sentence notices each forgery of each: a golden table.

Regenerate with `python -m tests.audit.test_golden_mutations` and read the difference.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

from msgspec.structs import replace

from orchestrator.cli.audit import StoredDocuments, audit
from orchestrator.core.audit.export import assemble, lines
from orchestrator.core.audit.mutate import mutate
from orchestrator.core.facts import VisitWish
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.offer import OfferOut
from orchestrator.model.record import Record
from orchestrator.simulate.world import Server, World, agreement, first_right, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.ledgers import MemoryLedger
from orchestrator.testing.scripts import Script
from tests.stories.words import on_virtual_time

GOLDEN = Path(__file__).parent.parent / "golden" / "mutations.txt"

AZURE = Script(
    offers=[
        do.Declines(for_s=10), do.Accepts(after_s=60.5), do.Declines(for_s=10), do.Silent(), do.Declines(for_s=5),
        do.Declines(for_s=5), do.Declines(for_s=5),
    ],
    faults=[do.Loses(verb="withdraw", nth=1)],
)  # fmt: skip


ALONE = {
    "id": "alone", "type": "exclusive", "select": {"class": ["serving"]},
    "release": ["holder_outage"], "outageAfter": "30s",
}  # fmt: skip
SMALL = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 10}}}
RIGHT = {
    "id": "rofr", "type": "first_right", "window": "60s", "select": {"class": ["research"]},
    "exempt": [SMALL | {"maxGpuHoursPerWindow": [8, "1d"]}],
}  # fmt: skip


FOUR = {"count": 4, "gpus": 8, "accelerator": ["H100"]}


def nobody_evaluates(offer: OfferOut, _: int) -> do.Say:
    return do.Declines(for_s=300) if offer.workload == "evaluation" else do.Accepts()


COREWEAVE = Script(offers=nobody_evaluates, stops_ignored=3)
ORACLE = Script(offers=nobody_evaluates)


async def every_kind(world: World) -> None:
    coreweave, azure = world.providers["coreweave"], world.providers["azure"]
    async with world.server() as server:
        job = await submitted(server, ceilingUsdPerGpuHour=3)
        await asyncio.sleep(6)
        await server.engine.wish(VisitWish(job, ev.Accessed(epoch=1, what="exec", by="me", rank=0, name="bash")))
        coreweave.play(do.Unreachable(when=do.At(0), for_s=8))
        await until_over(server, job)  # unknown, seen again, done
        job = await submitted(server)
        await asyncio.sleep(68)
        coreweave.machines.kill()
        await until_over(server, job)  # lapsed, late answer, fenced, offered again
        job = await submitted(server, startBy="30s")
        await until_over(server, job)  # withdrawn, failed
        held = await submitted(server, workers={"gpus": 1, "accelerator": ["TPU"]})
        await server.desk.resume(held, "me")
        await server.desk.cancel(held, "me")
        job = await submitted(server)
    await asyncio.sleep(100)
    async with world.server() as server:  # absent
        await until_over(server, job)
    async with world.server() as server:  # swept
        await asyncio.sleep(100)
        await submitted(server, **{"class": "evaluation"})  # everybody refuses: its round ends
        azure.play(do.Unreachable(when=do.At(0), for_s=90))
        await asyncio.sleep(10)
        job = await submitted(server)  # delivery fails
        await until_over(server, job)  # and the refused one still waits
    world.agree(first_right("azure", window="60s", select={"labels": {"team": ["vision"]}}))
    async with world.server():  # reshaped
        await asyncio.sleep(10)
    world.agree(agreement("azure", ALONE, RIGHT, endsOn=[{"event": "agi", "clauses": ["rofr"]}]))
    async with world.server() as server:
        azure.play(do.Unreachable(when=do.At(0), for_s=90))  # out of reach, and back
        await asyncio.sleep(10)
        for spec in ({"class": "serving"}, {"class": "research"}):  # released, exempt
            await until_over(server, await submitted(server, **spec))
        await server.desk.record(Record(id="", what="event", name="agi", by="ann"))
        await until_over(server, await submitted(server, **{"class": "research", "maxRuntime": "4h"}))  # ended
        await owned_taken_back_and_scaled(world, server)
        await asyncio.sleep(60)
        await submitted(server)  # and one is alive at the end
    await world.put_back(world.disk.backup())
    async with world.server() as server:  # restored, and the logs read
        await asyncio.sleep(1)
        azure.stage.gpus = 24
        await submitted(server, divisible=True, workers=FOUR)
        await asyncio.sleep(3)  # split, and both parts are alive at the end


async def owned_taken_back_and_scaled(world: World, server: Server) -> None:
    now = world.clock.now_us()
    block = Block(
        name="b", provider="oracle", accelerator="H100", gpus=16, region="eu-1", from_us=now,
        until_us=now + 86_400_000_000,
    )  # fmt: skip
    await server.desk.own((block,), "me")
    await until_over(server, await submitted(server))  # in owned capacity
    block = replace(block, until_us=block.until_us + 86_400_000_000)
    await server.desk.own((block,), "me")  # prolonged: what was a right to that has ended
    job = await submitted(server)
    await asyncio.sleep(10)
    for cloud in world.providers.values():
        cloud.play(do.Reclaims(when=do.At(0), notice_s=30))
    await until_over(server, job)  # taken back after a notice, and run again
    await server.desk.own((), "me")
    job = await submitted(server)
    await asyncio.sleep(10)
    await server.desk.scale(job, 2, 0, "me")
    await until_over(server, job)  # scaled


async def submitted(server: Server, **spec: object) -> str:
    row, _ = await server.desk.submit(submission(labels={"team": "vision"}, **spec))  # type: ignore[arg-type]
    return row.job


def told() -> World:
    world = World({"azure": AZURE, "coreweave": COREWEAVE, "oracle": ORACLE}, first_right("azure", window="60s"),
                  work=Work(steps=20))  # fmt: skip
    on_virtual_time(every_kind(world))
    return world


def table(world: World) -> str:
    export = assemble(lines(MemoryLedger(world.disk).snapshot()))
    rows = [f"{o.kind:18} {o.forgery:10} {o.words}" for o in mutate(export, StoredDocuments())]
    return "\n".join(rows) + "\n"


def test_the_story_holds_every_kind_of_event_and_no_violation() -> None:
    world = told()
    assert set(ev.KINDS) - {e.kind for e in world.disk.events} == set()
    report = audit(MemoryLedger(world.disk).snapshot())
    assert (report.findings, report.unjudged) == ((), ())


def test_every_kind_of_forgery_is_noticed_by_the_sentences_of_the_golden_table_or_says_why_not() -> None:
    rows = table(told())
    assert rows == GOLDEN.read_text()
    noticed: dict[str, list[str]] = defaultdict(list)
    for line in rows.splitlines():
        kind, _, words = line.split(None, 2)
        noticed[kind].append(words)
    blind = {kind: w for kind, w in noticed.items() if not any(set(x.split(", ")) - {"17"} for x in w)}
    assert blind == {}


if __name__ == "__main__":
    GOLDEN.write_text(table(told()))
