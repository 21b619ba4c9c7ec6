"""Named worlds, each in need of some of our rules. Virtual time, nothing random: the same life every time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from msgspec.structs import replace as but

from orchestrator.model.capacity import Block
from orchestrator.model.documents import DocumentError
from orchestrator.model.offer import Capabilities, Reason, Scope, SightingState
from orchestrator.model.record import Record
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.simulate.world import POLICY, World, agreement, first_right, provider_document, submission, until_over
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.scripts import Script
from tests.mutants.table import Lived

YES = Script()
NO = Script(offers=[do.Declines(for_s=300)] * 9)
SILENT = Script(offers=[do.Silent()] * 9)
FULL = Script(offers=[do.Declines(for_s=20)] * 30)
LONG = Work(steps=110)


def world(name: str, scripts: Mapping[str, Script], *args: Any, **more: Any) -> Callable[[Any], Lived]:
    """Decorates the story that is lived in it."""

    def named(live: Callable[[World], Awaitable[None]]) -> Lived:
        return Lived(name, lambda: World(scripts, *args, **more), live)

    return named


async def one_job(world: World, **spec: Any) -> None:
    """One server, one job, to its end."""
    async with world.server() as server:
        row, _ = await server.desk.submit(submission(**spec))
        await until_over(server, row.job, 1800)


def plain(
    name: str, scripts: Mapping[str, Script], *args: Any, spec: Mapping[str, Any] | None = None, **more: Any
) -> Lived:
    """A world in which one job lives its life."""
    return Lived(name, lambda: World(scripts, *args, **more), lambda world: one_job(world, **(spec or {})))


# ---- who may run -----------------------------------------------------------------------------------------------------

CUT = [do.Unreachable(when=do.AtStep(7)), do.DataCut(when=do.AtStep(7))]
CUT_OFF = plain("a cloud is cut off for good", {"coreweave": Script(scenes=CUT), "oracle": YES}, work=LONG)
STANDS_STILL = plain(
    "an agent stands still, and wakes", {"azure": Script(scenes=[do.Freezes(when=do.AtStep(7), for_s=60)],
    stops_ignored=99), "oracle": YES}, work=Work(steps=110, checkpoint_every=1000),
)  # fmt: skip
TWICE = plain("launched twice under one key", {"oracle": Script(launches=[do.Starts(copies=2)])})
DIES = plain("machines die", {"azure": Script(scenes=[do.Kills(when=do.AtStep(7))]), "oracle": YES}, work=LONG)
TAKEN_BACK = plain(
    "spot machines are taken back after a notice", {"azure": Script(offers=[do.Accepts(spot=True, price=900_000)],
    scenes=[do.Reclaims(when=do.AtStep(7), notice_s=120)]), "oracle": YES}, work=LONG, spec={"spot": True},
)  # fmt: skip
BLINKS = plain(
    "a cloud is out of reach, its job is well", {"azure": Script(scenes=[do.Unreachable(when=do.AtStep(3), for_s=100)]),
    "oracle": YES}, work=LONG,
)  # fmt: skip


async def _said_to_be_gone(world: World) -> None:
    """Its cloud says that an attempt is gone. It is not, but has just lost its store; whatever is stopped stays."""
    coreweave = world.providers["coreweave"]
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(12)
        coreweave.cut()
        [seen] = [coreweave.machines._sighting(launch) for launch in coreweave.machines.launches.values()]
        coreweave.stage.tell(but(seen, state=SightingState.GONE))
        await until_over(server, row.job, 1800)


_GOES_ON = {"coreweave": Script(stops_ignored=99), "oracle": YES}
SAID_GONE = world("said to be gone, and runs on", _GOES_ON, work=LONG)(_said_to_be_gone)
LATE_LISTS = world(
    "said to be gone, not listed yet, and runs on", _GOES_ON, work=LONG,
    capabilities=Capabilities(list_lag_us=45_000_000),
)(_said_to_be_gone)  # fmt: skip


@world("a cut-off cloud comes back when all is over", {"coreweave": YES, "oracle": YES}, work=Work(steps=60))
async def COMES_BACK(world: World) -> None:
    coreweave = world.providers["coreweave"]
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(12)
        coreweave.play(do.Unreachable(when=do.At(0), for_s=400))
        coreweave.play(do.DataCut(when=do.At(0), for_s=400))
        await until_over(server, row.job, 1800)
        await asyncio.sleep(600)


class OurLine:
    """The server's own way to the store, which can be cut."""

    def __init__(self, world: World) -> None:
        self._store, self.cut = world.store, False
        world.store = self  # type: ignore[assignment]

    def __getattr__(self, verb: str) -> Any:
        if self.cut:
            raise StoreUnavailable("our line to the store is cut")
        return getattr(self._store, verb)


@world("done while we cannot read, then its machines die", {"azure": YES, "oracle": YES}, work=Work(steps=10))
async def UNREAD(world: World) -> None:
    line = OurLine(world)
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(8)
        line.cut = True
        await asyncio.sleep(7)
        world.providers["azure"].machines.kill()
        await asyncio.sleep(3)
        line.cut = False
        await until_over(server, row.job, 1800)


@world("a launch is lost on its way", {"azure": Script(launches=[do.RequestLost()])})
async def CALL_LOST(world: World) -> None:
    await one_job(world)


@world("put back from a backup, two attempts later", {
    "coreweave": Script(scenes=[do.Kills(when=do.At(12))]),
    "zeus": Script(offers=[do.Accepts()] + [do.Declines(for_s=900)] * 9), "oracle": YES}, work=LONG)  # fmt: skip
async def PUT_BACK(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(4)
        taken = world.disk.backup()
        await asyncio.sleep(60)
    await world.put_back(taken)
    async with world.server() as server:
        await asyncio.sleep(100)
        await server.desk.cancel(row.job, "ann")
        await until_over(server, row.job, 1800)


# ---- who is asked ----------------------------------------------------------------------------------------------------

LAW = {"id": "eu", "type": "residency", "select": {"residency": ["eu"]}, "operatorJurisdictionIn": ["EU"]}
ALONE = {"id": "alone", "type": "exclusive", "release": ["holder_outage"], "outageAfter": "1h"}
RIGHT = {"id": "rofr", "type": "first_right", "window": "15m"}
REFUSED = plain("the holder declines", {"azure": NO, "oracle": YES}, first_right("azure"))
SAYS_NOTHING = plain("the holder says nothing", {"azure": SILENT, "oracle": YES}, first_right("azure"))
TWO_EPISODES = plain(
    "declined, run elsewhere and lost", {"azure": NO, "coreweave": Script(scenes=CUT), "oracle": YES},
    first_right("azure"), work=Work(steps=60),
)  # fmt: skip
SHORT_TAIL = plain(
    "nobody has room until the tail is over", {"azure": NO, "oracle": Script(offers=[do.Declines(for_s=50)] * 3)},
    first_right("azure", tail="1m"),
)  # fmt: skip
ASKS_MORE = plain("a yes to other terms", {"azure": Script(offers=[do.Counters()]), "oracle": YES})
TOO_DEAR = plain(
    "a yes above the ceiling", {"azure": Script(offers=[do.Accepts(price=3_000_000)]), "oracle": YES},
    spec={"ceilingUsdPerGpuHour": 2.5},
)  # fmt: skip
SPOT = do.Accepts(spot=True, price=900_000)
SPOT_UNASKED = plain("a yes on spot machines that nobody wants", {"azure": Script(offers=[SPOT]), "oracle": YES})
RANGE = {"count": {"min": 2, "max": 8}, "gpus": 1, "accelerator": ["H100"]}
TAKES_THREE = plain(
    "a yes to three workers of two to eight", {"azure": Script(offers=[do.Accepts(workers=3)]), "oracle": YES},
    spec={"workers": RANGE},
)  # fmt: skip
TAKES_NINE = plain(
    "a yes to nine workers of two to eight", {"azure": Script(offers=[do.Accepts(workers=9)]), "oracle": YES},
    spec={"workers": RANGE},
)  # fmt: skip
TOO_LATE = plain(
    "a yes long after the window", {"azure": Script(offers=[do.Accepts(after_s=1200)]), "oracle": YES},
    first_right("azure"),
)  # fmt: skip
UNLAWFUL = plain(
    "the cheapest may not know of the job", {"coreweave": YES, "oracle": YES}, agreement("oracle", LAW),
    spec={"residency": "eu"},
    providers=provider_document(["coreweave", "oracle"], oracle={"operatorJurisdiction": "EU"}),
)  # fmt: skip
LONG_TTL = plain("asked, accepted, run", {"oracle": YES})


@world("we are away for most of the window", {"azure": SILENT, "oracle": YES}, first_right("azure"))
async def WE_ARE_AWAY(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(300)
    await asyncio.sleep(1200)
    async with world.server() as server:
        await until_over(server, row.job, 1800)


@world("two jobs of one silent holder", {"azure": SILENT, "oracle": YES}, first_right("azure", window="2m"))
async def TWICE_SILENT(world: World) -> None:
    async with world.server() as server:
        for _ in range(2):
            row, _ = await server.desk.submit(submission())
            await until_over(server, row.job, 1800)


QUOTA = do.Declines(reason=Reason.CAPACITY, scope=Scope.ACCELERATOR, for_s=3600)


@world("the holder's quota is used up for the first of two", {"azure": Script(offers=[QUOTA, do.Accepts()]),
       "oracle": YES}, first_right("azure"))  # fmt: skip
async def QUOTA_USED_UP(world: World) -> None:
    async with world.server() as server:
        for _ in range(2):
            row, _ = await server.desk.submit(submission())
            await until_over(server, row.job, 1800)


DEARER = Script(offers=[do.Declines(for_s=30), do.Accepts(price=4_000_000)])


def _priced(ceiling: str) -> dict[str, Any]:
    return agreement("azure", RIGHT, {"id": "cap", "type": "price", "ceilingUsdPerGpuHour": ceiling})


@world("the ceiling rises after a no", {"azure": NO, "oracle": DEARER}, _priced("3.00"))
async def CEILING_RISES(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        await server.desk.amend(world.document(_priced("5.00")), "ann")
        await until_over(server, row.job, 1800)


def _within(*places: str) -> dict[str, Any]:
    return agreement("azure", RIGHT, {"id": "law", "type": "residency", "regionsIn": list(places)})


TWO_PLACES = {"regions": {"eu-1": "EU", "us-1": "US"}}


@world("the law over a job is loosened after a no", {"azure": NO, "oracle": DEARER}, _within("EU"),
       providers=provider_document(["azure", "oracle"], azure=TWO_PLACES))  # fmt: skip
async def LAW_LOOSENED(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        await server.desk.amend(world.document(_within("EU", "US")), "ann")
        await until_over(server, row.job, 1800)


@world("reclassified while the holder is asked", {"azure": SILENT, "oracle": YES}, first_right("azure"))
async def RECLASSIFIED(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.record(Record(id="", what="class", name="research", job=row.job, by="ann"))
        await asyncio.sleep(60)
        await server.desk.cancel(row.job, "ann")
        await until_over(server, row.job, 1800)


@world("cancelled between two rounds", {"azure": FULL, "oracle": FULL})
async def CANCELLED(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(10)
        await server.desk.cancel(row.job, "ann")
        await asyncio.sleep(200)


@world("the holder of an exclusive is away", {"azure": YES, "oracle": YES}, agreement("azure", ALONE))
async def HOLDER_AWAY(world: World) -> None:
    async with world.server() as server:
        await asyncio.sleep(5)
        world.providers["azure"].play(do.Unreachable(when=do.At(0), for_s=300))
        await asyncio.sleep(20)
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(100)
        await server.desk.cancel(row.job, "ann")
        await until_over(server, row.job, 1800)


SMALL = {
    "id": "small",
    "because": "below_threshold",
    "select": {"gpuHours": {"lt": 10}},
    "maxGpuHoursPerWindow": [9, "7d"],
}
OWN = {"id": "own", "because": "own_build", "evidence": ["approved"]}


async def _three_jobs(world: World) -> None:
    async with world.server() as server:
        rows = [(await server.desk.submit(submission(maxRuntime=f"{long}m")))[0] for long in (60, 59, 58)]
        for row in rows:
            await until_over(server, row.job, 1800)


_EXEMPT = agreement("zeus", {**RIGHT, "exempt": [SMALL]})
EXEMPT = world("three jobs under one total", {"oracle": YES, "zeus": YES}, _EXEMPT, work=LONG)(_three_jobs)
EXEMPT_AT_ONCE = world(
    "three jobs under one total, all asked first", {"oracle": Script(offers=[do.Accepts(after_s=5)] * 3), "zeus": YES},
    _EXEMPT, work=LONG,
)(_three_jobs)  # fmt: skip
NO_EVIDENCE = plain("an exemption that nobody can prove", {"oracle": YES, "zeus": NO},
                    agreement("zeus", {**RIGHT, "exempt": [OWN]}))  # fmt: skip


@world(
    "amended while the holder is asked",
    {"azure": Script(offers=[do.Accepts(after_s=60)]), "oracle": YES},
    first_right("azure"),
)
async def AMENDED(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(5)
        await server.desk.amend(world.document(first_right("azure", window="30m")), "ann")
        await until_over(server, row.job, 1800)


BLOCK = Block(
    name="b", provider="yves", accelerator="H100", gpus=16, region="eu-1", price=2_000_000,
    from_us=STORY_BEGINS_US, until_us=STORY_BEGINS_US + 86_400_000_000,
)  # fmt: skip
OWNED = world("three jobs, room for two in what is owned", {"oracle": YES, "yves": YES}, blocks=(BLOCK,),
              work=LONG)(_three_jobs)  # fmt: skip


@world("a block is prolonged, to which somebody has a right", {"yves": YES, "zeus": YES},
       first_right("zeus", select={"trigger": ["renew"]}), blocks=(BLOCK,))  # fmt: skip
async def RENEWED(world: World) -> None:
    async with world.server() as server:
        with suppress(DocumentError):
            await server.desk.own((but(BLOCK, until_us=BLOCK.until_us + 86_400_000_000),), "ann")


API = {"id": "api", "type": "exclusive", "select": {"class": ["api"]}}
DOUBTING = provider_document(["oracle", "zeus"])
DOUBTING["spec"]["policies"]["default"] = {**POLICY, "classification": "held"}


@world("its class is only claimed", {"oracle": YES, "zeus": SILENT}, agreement("zeus", API), providers=DOUBTING)
async def CLAIMED(world: World) -> None:
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await asyncio.sleep(60)
        await server.desk.cancel(row.job, "ann")
        await until_over(server, row.job, 1800)


_ENDS = [{"event": "agi", "quorum": 2, "attesters": ["ann", "bob", "cyd"]}]


@world("one of two attesters", {"azure": NO, "oracle": YES}, agreement("azure", RIGHT, endsOn=_ENDS))
async def ONE_ATTESTER(world: World) -> None:
    async with world.server() as server:
        await server.desk.record(Record(id="", what="event", name="agi", by="ann"))
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job, 1800)


@world("we launch when the earmark is over", {
    "azure": Script(offers=[do.Accepts(ttl_s=5)] + [do.Silent()] * 3, launches=[do.Rejects()]), "oracle": YES},
    first_right("azure"))  # fmt: skip
async def LAUNCHED_LATE(world: World) -> None:
    """The first call is lost on its way, and the line is down until the earmark is over."""
    azure = world.providers["azure"]

    async def down(verb: str) -> None:
        if verb == "launch" and azure.calls["launch"] == 1:
            azure.go_unreachable()
            azure.stage.later(30, azure.go_unreachable, False)

    azure.before_call = down
    async with world.server() as server:
        row, _ = await server.desk.submit(submission())
        await until_over(server, row.job, 1800)
