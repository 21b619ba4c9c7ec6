"""Honest ledgers of a few lives on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestrator.core.facts import VisitWish
from orchestrator.model.event import Accessed
from orchestrator.model.record import Record
from orchestrator.simulate.world import (
    POLICY,
    Server,
    World,
    agreement,
    first_right,
    provider_document,
    submission,
    until_over,
)
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.scripts import Script
from tests.audit.told_owned import owned, renewed
from tests.stories.agreements import rights

YES, NO = Script(), Script(offers=[do.Declines(for_s=300)] * 3)
OUTAGE = Script(scenes=[do.Unreachable(when=do.AtStep(7)), do.DataCut(when=do.AtStep(7))])
CHEAP = Script(offers=[do.Accepts(price=2_000_000)])


async def life(world: World, **spec: Any) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(**spec))
        await until_over(server, row.job)


async def lost() -> World:
    """Declined by the holder, run by a market provider, lost, offered again, finished by a third."""
    world = World({"azure": NO, "coreweave": OUTAGE, "oracle": YES}, first_right("azure"))
    await life(world)
    return world


async def silence() -> World:
    """The holder says yes when its window is over, and does not hear at first that it came too late."""
    slow = Script(offers=[do.Accepts(after_s=900.5)], faults=[do.Loses(verb="withdraw", nth=1)])
    world = World({"azure": slow, "oracle": YES}, first_right("azure"))
    await life(world)
    return world


async def away() -> World:
    """The holder cannot be reached, and its clause lets that count as a no."""
    azure = Script(scenes=[do.Unreachable(when=do.At(0))])
    world = World({"azure": azure, "oracle": YES}, first_right("azure"))
    await life(world)
    return world


async def unheard() -> World:
    """The holder has its offer, and cannot be reached when its window ends: its yes, in time, is heard too late."""
    azure = Script(offers=[do.Accepts(after_s=600)], scenes=[do.Unreachable(when=do.At(60), for_s=1200)])
    world = World({"azure": azure, "oracle": YES}, first_right("azure", undeliverableAfter="1m"), Work(steps=600))
    await life(world)
    return world


async def failed() -> World:
    """Two holders say yes, one after the other, and reject what they are to launch: both are a no, for the market."""
    fails = Script(launches=[do.Rejects()])
    world = World({"azure": fails, "oracle": YES, "zeus": fails}, rights("azure", "zeus"))
    await life(world)
    return world


async def priced() -> World:
    """A job with a ceiling, accepted below it and billed."""
    world = World({"azure": NO, "oracle": CHEAP}, first_right("azure"))
    await life(world, ceilingUsdPerGpuHour=2.5)
    return world


async def elastic() -> World:
    """A range of workers: refused by the holder, which covers all of it, and accepted elsewhere in part; billed."""
    few = Script(offers=[do.Accepts(workers=3, price=2_000_000)])
    world = World({"azure": NO, "oracle": few}, first_right("azure"))
    await life(world, workers={"count": {"min": 2, "max": 4}, "gpus": 1, "accelerator": ["H100"]})
    return world


async def divide(world: World) -> None:
    """Eight workers, until all parts of them are done."""
    async with world.server() as server:
        workers = {"count": 8, "gpus": 1, "accelerator": ["H100"]}
        row, _ = await server.desk.submit(submission(divisible=True, workers=workers))
        while (row := await until_over(server, row.job)).rest:
            row = await server.desk.job(row.rest)


async def divided() -> World:
    """The holder takes a part of a divisible job; the rest goes to the market, which takes it in two parts."""
    first, second = Script(offers=[do.Accepts(workers=3)]), Script(offers=[do.Accepts(workers=1)])
    world = World({"azure": first, "oracle": second, "zeus": YES}, first_right("azure"), Work(steps=20))
    await divide(world)
    return world


async def declined() -> World:
    """A divisible job is its holder's alone, until it declines; then the market takes it in two parts."""
    alone = {"id": "alone", "type": "exclusive", "release": ["holder_declined"]}
    market = {"oracle": Script(offers=[do.Accepts(workers=3)]), "zeus": YES}
    world = World({"azure": NO, **market}, agreement("azure", alone))
    await divide(world)
    return world


async def reclassified() -> World:
    """What was left of a divisible job is offered when the class of the whole is recorded, which is another's alone."""
    alone = {"id": "alone", "type": "exclusive", "select": {"class": ["api"]}}
    scripts = {"azure": Script(offers=[do.Accepts(workers=3)]), "oracle": Script(offers=[do.Silent()]), "zeus": YES}
    world = World(scripts, agreement("zeus", alone), Work(steps=60))
    async with world.server() as server:
        workers = {"count": 8, "gpus": 1, "accelerator": ["H100"]}
        row, _ = await server.desk.submit(submission(divisible=True, workers=workers))
        await asyncio.sleep(5)
        await record(server, "class", name="api", job=row.job)
        while (row := await until_over(server, row.job)).rest:
            row = await server.desk.job(row.rest)
    return world


async def strangers() -> World:
    """Two divisible jobs with nothing in common: the holder declines the first and takes a part of the second."""
    azure = Script(offers=[do.Declines(), do.Accepts(workers=3)])
    world = World({"azure": azure, "oracle": Script(offers=[do.Accepts(workers=2)])}, first_right("azure"))
    await divide(world)
    await divide(world)
    return world


async def too_large() -> World:
    """A divisible job is more than its exemption's total: of what its holder leaves, which is not, the market has it by
    the holder's no."""
    small = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 64}}}
    right = first_right("azure", exempt=[small | {"maxGpuHoursPerWindow": [6, "7d"]}])
    world = World({"azure": Script(offers=[do.Accepts(workers=3)]), "oracle": YES}, right)
    await divide(world)
    return world


async def scaled() -> World:
    """The clause is over growths alone: a job runs in the market, grows, and is offered to the holder, who takes it."""
    world = World({"oracle": YES, "zeus": YES}, first_right("zeus", select={"trigger": ["scale_up"]}), Work(steps=20))
    async with world.server() as server:
        workers = {"count": 2, "gpus": 1, "accelerator": ["H100"]}
        row, _ = await server.desk.submit(submission(workers=workers))
        await asyncio.sleep(12)
        await server.desk.scale(row.job, 4, 3, "test")
        await until_over(server, row.job)
    return world


async def shrunk() -> World:
    """The holder refuses four workers; in the market it runs, and is made two, which that refusal covers still."""
    right = first_right("azure", onReplace="inherit", reofferIf={"smaller": 2, "looserSpec": 1})
    world = World({"azure": NO, "oracle": YES}, right, Work(steps=20))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(workers={"count": 4, "gpus": 1, "accelerator": ["H100"]}))
        await asyncio.sleep(12)
        await server.desk.scale(row.job, 2, 0, "test")
        await until_over(server, row.job)
    return world


async def cancelled() -> World:
    """Looked at, then cancelled while it runs."""
    world = World({"azure": YES})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        await server.engine.wish(VisitWish(row.job, Accessed(epoch=1, what="dump", by="me")))
        await server.desk.cancel(row.job, "test")
        await until_over(server, row.job)
    return world


async def waiting() -> World:
    """Held, offered, running: three jobs are alive when we look; the server was away once."""
    world = World({"azure": Script(offers=[do.Accepts(), do.Silent()])}, first_right("azure"))
    async with world.server() as server:
        await server.desk.submit(submission())
        await asyncio.sleep(20)
        await server.desk.submit(submission())
        await server.desk.submit(submission(workers={"gpus": 1, "accelerator": ["TPU"]}))
        await asyncio.sleep(1)
    await asyncio.sleep(60)
    async with world.server():
        await asyncio.sleep(1)
    return world


async def rounds() -> World:
    """Everybody declines once; then the provider is out of sight for a while, and its job goes on."""
    blink = do.Unreachable(when=do.AtStep(4), for_s=12)
    full = Script(offers=[do.Declines(for_s=10)], scenes=[blink])
    world = World({"azure": full, "oracle": full}, first_right("azure"), Work(steps=60))
    await life(world)
    return world


async def held() -> World:
    """Nobody may run it: resumed in vain, then cancelled. Another is cancelled while offered, a third is too late."""
    world = World({"azure": Script(offers=[do.Silent()] * 2)}, first_right("azure"))
    async with world.server() as server:
        strange, _ = await server.desk.submit(submission(workers={"gpus": 1, "accelerator": ["TPU"]}))
        await server.desk.resume(strange.job, "test")
        offered, _ = await server.desk.submit(submission())
        late, _ = await server.desk.submit(submission(startBy="2m"))
        await asyncio.sleep(5)
        await server.desk.cancel(strange.job, "test")
        await server.desk.cancel(offered.job, "test")
        await until_over(server, late.job)
    return world


async def record(server: Server, what: str, by: str = "registrar", **more: Any) -> None:
    await server.desk.record(Record(id="", what=what, by=by, **more))


ALONE = {"id": "alone", "type": "exclusive", "release": ["consent", "holder_outage"], "outageAfter": "1h"}


async def released(outage: bool = False) -> World:
    """Its holder's alone, who declines; then it consents to this job elsewhere, or is out of reach for long enough."""
    azure = Script(scenes=[do.Unreachable(when=do.At(5), for_s=5400)]) if outage else NO
    world = World({"azure": azure, "oracle": YES}, agreement("azure", ALONE))
    async with world.server() as server:
        await asyncio.sleep(20)
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        if not outage:
            await record(server, "consent", holder="azure", job=row.job)
        await until_over(server, row.job)
        await asyncio.sleep(5400 if outage else 0)
    return world


async def out_of_reach() -> World:
    """The same by an outage."""
    return await released(outage=True)


async def ended() -> World:
    """Offered to the holder; then an event ends the right, and the next job goes to the market."""
    ends = [{"event": "agi", "quorum": 2, "attesters": ["ann", "bob", "cyd"]}]
    right = {"id": "rofr", "type": "first_right", "window": "15m"}
    world = World({"azure": NO, "oracle": YES}, agreement("azure", right, endsOn=ends))
    await life(world)
    async with world.server() as server:
        await record(server, "event", "ann", name="agi")
        await record(server, "event", "bob", name="agi")
    await life(world)
    return world


async def exempted() -> World:
    """Two jobs exempt by their size, up to a total; a third by evidence."""
    small = {"id": "small", "because": "below_threshold", "select": {"gpuHours": {"lt": 10}}}
    total = {"maxGpuHoursPerWindow": [9, "7d"]}
    own = {"id": "own", "because": "own_build", "evidence": ["approved"]}
    right = {"id": "rofr", "type": "first_right", "window": "15m", "exempt": [small | total, own]}
    world = World({"oracle": YES, "zeus": NO}, agreement("zeus", right))
    await life(world)
    await life(world)
    async with world.server() as server:
        await record(server, "evidence", name="approved", project="default", approver="Ann Other")
    await life(world, maxRuntime="2h")
    return world


async def amended() -> World:
    """The window of the first right is shortened while an offer is open, which keeps its own."""
    silent = Script(offers=[do.Silent()] * 9)
    world = World({"oracle": YES, "zeus": silent}, first_right("zeus"))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.amend(world.document(first_right("zeus", window="1m")), "ann")
        await until_over(server, row.job)
    await life(world)
    return world


async def restored() -> World:
    """The ledger is put back while a job runs, and nothing is lost."""
    world = World({"oracle": YES})
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(4)
    await world.put_back(world.disk.backup())
    async with world.server() as server:
        await until_over(server, row.job)
    return world


async def behind() -> World:
    """Lost and run elsewhere; then the ledger is put back from before, and somebody lets the job go on."""
    dies = Script(scenes=[do.Kills(when=do.At(12))])
    world = World({"coreweave": dies, "oracle": YES}, work=Work(steps=300))
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(4)
        taken = world.disk.backup()
        await asyncio.sleep(60)
    await world.put_back(taken)
    async with world.server() as server:
        await server.desk.resume(row.job, "ann")
        await until_over(server, row.job)
    return world


async def overridden() -> World:
    """A first right is passed over for one job, by somebody who says why."""
    world = World({"oracle": YES, "zeus": NO}, first_right("zeus"), Work(steps=20))
    async with world.server() as server:
        await record(server, "override", clause="agreement/rofr", project="default", approver="Ann", why="outage 4711")
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job)
    return world


async def classified() -> World:
    """Held until an attester says of which class it is; then it is done by whoever may do such work."""
    alone = {"id": "alone", "type": "exclusive", "select": {"class": ["serving"]}}
    operators = provider_document(["azure", "oracle"])
    operators["spec"]["policies"] = {"default": {**POLICY, "classification": "held"}}
    world = World({"azure": YES, "oracle": YES}, agreement("azure", alone), providers=operators)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(20)
        await record(server, "class", name="training", job=row.job)
        await until_over(server, row.job)
    return world


STORIES = (
    amended, restored, classified, overridden, owned, renewed, elastic, divided, declined, too_large, strangers,
    reclassified, scaled, shrunk, lost, silence, away, unheard, failed, priced, cancelled, waiting, rounds, held,
    released, out_of_reach, ended, exempted,
)  # fmt: skip
