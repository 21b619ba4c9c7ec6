"""How does the engine fare with a provider that accepts, declines, dithers, lies, dies and comes back?

`ScriptedProvider` keeps the provider port wholly in memory, as its `Script` says, and deterministically: only the
running loop's timers, no threads, no clock of its own. Called by stories, benchmarks, the crash harness and the
conformance kit. The calls and their faults are here; what is behind them is in `testing.pretend`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from orchestrator.model.offer import (
    Answer,
    Capabilities,
    Charge,
    LaunchOrder,
    LaunchReply,
    Listing,
    Notice,
    Observation,
    OfferOut,
    PriceRow,
    Receipt,
    Sighting,
    StopReply,
    Undelivered,
)
from orchestrator.ports.clock import Clock
from orchestrator.ports.provider import Misconfigured, Throttled, Unreachable
from orchestrator.testing import scripts as do
from orchestrator.testing.clock import FakeClock
from orchestrator.testing.pretend.machines import Crew, Machines
from orchestrator.testing.pretend.offers import Offers
from orchestrator.testing.pretend.stage import Stage, Stock

T = TypeVar("T")
N = TypeVar("N")
Hook = Callable[[str], Awaitable[None]]
"""Awaited with the verb's name; what it raises (a crash: BaseException) goes through the caller."""


class ScriptedProvider:
    """`ports.provider.Provider` that plays a part. The object outlives the servers that call it, like a real cloud.

    `crew` starts the lives of confirmed launches; None: launches are confirmed and nothing ever runs (benchmarks).
    `latency_s` each call takes; `timeout_s` until a call to an unreachable provider gives up.
    """

    def __init__(
        self,
        name: str,
        script: do.Script | None = None,
        *,
        clock: Clock | None = None,
        crew: Crew | None = None,
        stock: Stock | None = None,
        capabilities: Capabilities | None = None,
        latency_s: float = 0.0,
        timeout_s: float = 1.0,
    ) -> None:
        self.name = name
        self.script = script or do.Script()
        self.stage = Stage(name, self.script, stock or Stock(), capabilities or Capabilities(), clock or FakeClock())
        self.offers = Offers(self.stage)
        self.machines = Machines(self.stage, self.offers, crew, self._stepped)
        self.before_call: Hook | None = None
        self.after_call: Hook | None = None
        self.reachable = True
        self.locked_out = False
        """Our credentials are turned down."""
        self.calls: dict[str, int] = {}
        """How often each verb was called."""
        self._latency_s, self._timeout_s = latency_s, timeout_s
        self._waiting = [scene for scene in self.script.scenes if isinstance(scene.when, do.AtStep)]

    @property
    def journal(self) -> list[dict[str, Any]]:
        """What really happened here: {at, kind, key, …}."""
        return self.stage.journal

    # ---- the port --------------------------------------------------------------------------------------------------

    async def capabilities(self) -> Capabilities:
        """See Provider."""
        return await self._call("capabilities", lambda: self.stage.capabilities)

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See Provider."""
        return await self._call("place_offers", lambda: [self.offers.put(offer) for offer in offers])

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See Provider."""
        return await self._call("launch", lambda: [self.machines.launch(order) for order in orders])

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See Provider."""
        return await self._call("stop", lambda: [self._stop(key) for key in keys])

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See Provider."""
        return await self._call("withdraw", lambda: [self.offers.withdraw(offer) for offer in offers])

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See Provider. The cursor is a position in the feed."""
        fault = await self._arrive("observe")
        position = int(cursor or 0)
        if wait_us > 0 and position >= len(self.stage.feed):
            await self._news(wait_us)
        return await self._leave("observe", fault, self._observed(position))

    async def list_ours(self) -> Listing:
        """See Provider."""
        return await self._call("list_ours", lambda: Listing(self.stage.clock.now_us(), self.machines.listing()))

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """See Provider: what the journal knows of the key."""
        for line in await self._call("logs", lambda: [entry for entry in self.journal if entry["key"] == key]):
            yield f"{line['at']} {line['kind']}\n".encode()

    async def check(self) -> Sequence[str]:
        """See Provider: nothing is missing but credentials that are taken."""
        try:
            return await self._call("check", lambda: ())
        except Misconfigured as error:
            return (str(error),)

    async def aclose(self) -> None:
        """See Provider. Another server may call again."""

    def _stop(self, key: str) -> StopReply:
        self.machines.stop(key)
        return StopReply(key, acknowledged=True)

    def _observed(self, position: int) -> Observation:
        news = self.stage.feed[position:]

        def only(kind: type[N]) -> tuple[N, ...]:
            return tuple(item for item in news if isinstance(item, kind))

        return Observation(
            str(position + len(news)),
            self.stage.clock.now_us(),
            only(Answer),
            only(Sighting),
            only(Charge),
            only(Notice),
            only(PriceRow),
        )

    async def _news(self, wait_us: int) -> None:
        try:
            async with asyncio.timeout(wait_us / 1_000_000):
                await self.stage.news.wait()
        except TimeoutError:
            return

    # ---- calls and their faults ------------------------------------------------------------------------------------

    async def _call(self, verb: str, act: Callable[[], T]) -> T:
        fault = await self._arrive(verb)
        return await self._leave(verb, fault, act())

    async def _arrive(self, verb: str) -> do.Fault | None:
        """The request's way: up to here nothing is done. The fault that still waits for the reply."""
        if not self.calls:
            self._begin()
        self.calls[verb] = self.calls.get(verb, 0) + 1
        fault = self._fault(verb, self.calls[verb])
        if fault is not None:
            self.stage.note("turned_away", "", verb=verb)
        if self.before_call is not None:
            await self.before_call(verb)
        await asyncio.sleep(self._latency_s)
        if self.locked_out:
            raise Misconfigured(f"{self.name} turns our credentials down; renew them")
        if isinstance(fault, do.Throttles):
            raise Throttled(f"{self.name}: too many calls of {verb}; come back later", round(fault.for_s * 1_000_000))
        if not self.reachable or (fault is not None and not fault.reply):
            await self._dead_line(verb)
        return fault

    async def _leave(self, verb: str, fault: do.Fault | None, reply: T) -> T:
        """The reply's way: everything is done."""
        if not self.reachable or fault is not None:
            await self._dead_line(verb)
        if self.after_call is not None:
            await self.after_call(verb)
        return reply

    def _fault(self, verb: str, number: int) -> do.Fault | None:
        fault = next((f for f in self.script.faults if f.verb == verb and f.nth == number), None)
        if fault is not None:
            self.stage.spoken.append(fault)
        return fault

    async def _dead_line(self, verb: str) -> None:
        await asyncio.sleep(self._timeout_s)
        raise Unreachable(
            f"{self.name} did not reply to {verb} within {self._timeout_s} s; whether it was done is unknown"
        )

    # ---- scenes ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for scene in self.script.scenes:
            if isinstance(scene.when, do.At):
                self.stage.later(scene.when.s, self.play, scene)

    def _stepped(self, step: int) -> None:
        due = [scene for scene in self._waiting if isinstance(scene.when, do.AtStep) and scene.when.n <= step]
        for scene in due:
            self._waiting.remove(scene)
            self.play(scene)

    def play(self, scene: do.Scene) -> None:
        """Let it happen now, whatever its `when`."""
        self.stage.spoken.append(scene)
        match scene:
            case do.Unreachable(for_s=for_s):
                self._for(for_s, self.go_unreachable)
            case do.DataCut(for_s=for_s):
                self._for(for_s, self.cut)
            case do.Freezes(for_s=for_s):
                self._for(for_s, self.freeze)
            case do.Kills():
                self.machines.kill()
            case do.Reclaims(notice_s=notice_s):
                self.machines.reclaim(notice_s)
            case do.Frees(gpus=gpus):
                self.stage.grow(gpus)

    def _for(self, for_s: float | None, act: Callable[[bool], None]) -> None:
        act(True)
        if for_s is not None:
            self.stage.later(for_s, act, False)

    def go_unreachable(self, away: bool = True) -> None:
        """The control plane goes away, or is back; machines run on either way."""
        self.reachable = not away
        self.stage.note("unreachable" if away else "reachable", "")
        self.stage.wake()

    def cut(self, cut: bool = True) -> None:
        """Machines lose their checkpoint store, or reach it again."""
        self.stage.note("cut" if cut else "joined", "")
        self.machines.cut(cut)

    def freeze(self, frozen: bool = True) -> None:
        """Everything on the machines stands still, or goes on."""
        self.machines.freeze(frozen)
