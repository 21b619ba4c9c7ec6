"""This machine behind the provider port: how are offers answered here, and jobs run on a Ray head of their own?

Made by `factory` for `adapter: local`. It answers by itself (the receipt holds the answer): yes while CPUs and GPUs are
free, for nothing. Each launch is a folder and a keeper process (`launches`), so it outlives this server and is found
again by the next one; the job itself is run through the runtime port, by whichever server finds its head ready.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.adapters.providers.local.access import LocalAccess
from orchestrator.adapters.providers.local.feed import Feed
from orchestrator.adapters.providers.local.launches import Held, Launches
from orchestrator.adapters.providers.local.room import Room, Size, machine
from orchestrator.model.offer import (
    Capabilities,
    Charge,
    Confirmed,
    LaunchOrder,
    LaunchReply,
    Listing,
    Notice,
    Observation,
    OfferOut,
    Reason,
    Receipt,
    Rejected,
    Scope,
    Sighting,
    SightingState,
    StopReply,
    Undelivered,
)
from orchestrator.model.wire import ENV_ATTEMPT, ENV_KEY, AttemptEnv
from orchestrator.ports.provider import Misconfigured
from orchestrator.ports.runtime import OVER, Run, RuntimeFailure, Tools
from orchestrator.rayhead.packages import missing

LOOK_S = 0.5
"""How often the launches' folders are looked at while somebody waits for news."""
STOP_SLACK_S = 5
"""Beyond `grace`, what Ray waits before it kills a job that it was asked to stop."""


class LocalProvider(LocalAccess):
    """`ports.provider.Provider` on this machine, and `ports.access.Access`.

    `connection`: `folder` (state; default: below $XDG_STATE_HOME), `cpus`, `gpus` (default: what is found, and of GPUs
    what CUDA_VISIBLE_DEVICES names, where it is set), `python` (the head's and jobs' interpreter; default: ours),
    `head` (`ray`, or `stand_in` for tests).
    """

    def __init__(self, name: str, connection: Mapping[str, Any], tools: Tools) -> None:
        self.name = name
        self._tools = tools
        self._python = str(connection.get("python") or sys.executable)
        self._ray = connection.get("head", "ray") == "ray"
        size, self._devices = machine(connection, os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._room = Room(size)
        self._launches = Launches(Path(connection.get("folder") or _state_folder() / name).expanduser().absolute())
        self._feed = Feed(tools.clock.entropy(6).hex())
        self._told: dict[str, SightingState] = {}
        self._over: dict[str, str] = {}
        self._looking = asyncio.Lock()

    # ---- the port --------------------------------------------------------------------------------------------------

    async def capabilities(self) -> Capabilities:
        """See Provider."""
        return Capabilities(delete_after=True, answers_itself=True)

    async def place_offers(self, offers: Sequence[OfferOut]) -> Sequence[Receipt | Undelivered]:
        """See Provider. Raises `Misconfigured` where no Ray is installed."""
        self._must_work()
        return [self._room.receipt(offer, self._used(), self._now()) for offer in offers]

    async def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[LaunchReply]:
        """See Provider. Raises `Misconfigured` where no Ray is installed."""
        self._must_work()
        return [self._launch(order) for order in orders]

    async def stop(self, keys: Sequence[str]) -> Sequence[StopReply]:
        """See Provider."""
        for key in keys:
            self._launches.stop(key)
        await self._look()
        return [StopReply(key, acknowledged=True) for key in keys]

    async def withdraw(self, offers: Sequence[str]) -> Sequence[str]:
        """See Provider."""
        for offer in offers:
            if self._room.release(offer):
                self._feed.tell(Notice("capacity"))
        return [*offers]

    async def observe(self, cursor: str | None, wait_us: int) -> Observation:
        """See Provider. Looks at every launch, and hands the agent to heads that have become ready."""
        until = self._now() + wait_us
        while True:
            await self._look()
            left_s = (until - self._now()) / 1_000_000
            if left_s <= 0 or self._feed.behind(cursor):
                return self._feed.since(cursor, self._now())
            await asyncio.sleep(min(left_s, LOOK_S))

    async def list_ours(self) -> Listing:
        """See Provider."""
        await self._look()
        now = self._now()
        alive = [held for held in self._launches.all() if held.gone is None]
        return Listing(now, tuple(self._sighting(held, now) for held in alive))

    async def logs(self, key: str) -> AsyncIterator[bytes]:
        """See Provider: what Ray has of it, while its head lives."""
        held = self._launches.get(key)
        if held is not None and held.listens is not None:
            async for line in self._tools.runtime.logs(held.listens, key):
                yield line

    async def check(self) -> Sequence[str]:
        """See Provider."""
        lacking = self._lacks()
        return [lacking] if lacking else []

    async def aclose(self) -> None:
        """See Provider. Nothing is held open; keepers and heads live on."""

    # ---- launching -------------------------------------------------------------------------------------------------

    def _launch(self, order: LaunchOrder) -> LaunchReply:
        held = self._launches.get(order.key)
        if held is None:
            refused = self._refused(order)
            if refused is not None:
                self._room.release(order.offer)
                return refused
            self._launches.make(order.key, self._document(order))
            self._room.release(order.offer)
        return Confirmed(order.key, str(self._launches.folder / order.key))

    def _refused(self, order: LaunchOrder) -> Rejected | None:
        lacking = missing(order.requirements) if self._python == sys.executable else []
        if lacking:
            return Rejected(order.key, Reason.SPEC, detail=f"not installed here: {', '.join(lacking)}")
        size = Size(order.cpus * order.workers, order.gpus * order.workers)
        if not self._room.free(self._used(), self._now(), order.offer).holds(size):
            return Rejected(order.key, Reason.CAPACITY, Scope.PROVIDER, detail="this machine is busy")
        return None

    def _document(self, order: LaunchOrder) -> dict[str, Any]:
        cpus, gpus = order.cpus * order.workers, order.gpus * order.workers
        grace_s = AttemptEnv.from_json(order.attempt).isolation.grace_ms // 1000
        devices = self._free_devices(gpus)
        return {
            "ledger": order.ledger,
            "at": self._now(),
            "attempt": order.attempt,
            "delete_after_ms": order.delete_after_ms,
            "cpus": cpus,
            "devices": devices,
            "environment": {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {},
            "head": {
                "python": self._python,
                "cpus": max(cpus, self._room.size.cpus),
                "gpus": gpus,
                "resources": {f"accelerator_type:{order.accelerator}": order.workers} if order.accelerator else {},
                "stop_wait_s": grace_s + STOP_SLACK_S,
                "ray": self._ray,
            },
        }

    def _free_devices(self, count: int) -> list[str]:
        """Names of GPUs that no other launch was given (launches of earlier versions hold numbers)."""
        taken = {str(name) for held in self._launches.all() if held.gone is None for name in held.launch["devices"]}
        return [name for name in self._devices if name not in taken][:count]

    def _used(self) -> Size:
        alive = [held for held in self._launches.all() if held.gone is None]
        return Size(sum(held.cpus for held in alive), sum(held.gpus for held in alive))

    def _must_work(self) -> None:
        lacking = self._lacks()
        if lacking:
            raise Misconfigured(f"{self.name}: {lacking}")

    def _lacks(self) -> str:
        if self._ray and self._python == sys.executable and importlib.util.find_spec("ray") is None:
            return "Ray is not installed here; remedy: pip install 'first-refusal[ray]', or name another provider"
        if not Path(self._python).exists():
            return f"there is no interpreter {self._python}; remedy: correct `connection.python`, or leave it out"
        return ""

    # ---- looking ---------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Bring every launch on its way, tell what has become of it, and in the end forget it."""
        async with self._looking:
            for held in self._launches.all():
                if held.gone is None or held.outlived or self._told.get(held.key) is not SightingState.GONE:
                    await self._advance(held)

    async def _advance(self, held: Held) -> None:
        await asyncio.to_thread(self._launches.settle, held)
        if held.listens is not None and not held.stopping:
            await self._run(held)
        now = self._launches.get(held.key)
        if now is None:
            self._told.pop(held.key, None)
            self._over.pop(held.key, None)
            return
        sighting = self._sighting(now, self._now())
        if self._told.get(held.key) is not sighting.state:
            self._told[held.key] = sighting.state
            self._feed.tell(sighting)
            if sighting.state is SightingState.GONE:
                self._settle_up(now)

    async def _run(self, held: Held) -> None:
        """Hand the agent to the head, once; then ask what Ray says of it. No reply: next time."""
        assert held.listens is not None
        try:
            if not held.submitted:
                await self._tools.runtime.submit(held.listens, self._agent(held))
                self._launches.submitted(held.key)
            elif held.key not in self._over:
                status = await self._tools.runtime.status(held.listens, held.key)
                if status is None or status.state in OVER:
                    self._over[held.key] = "Ray has no record of it" if status is None else status.state.value
        except RuntimeFailure:
            return

    def _agent(self, held: Held) -> Run:
        told = {ENV_ATTEMPT: held.launch["attempt"], ENV_KEY: held.key}
        return Run(key=held.key, entrypoint=(self._python, "-m", "orchestrator.agent"), environment=told)

    def _sighting(self, held: Held, now_us: int) -> Sighting:
        state, detail = held.state, ""
        if state is SightingState.RUNNING and held.key in self._over:
            state, detail = SightingState.ENDED, self._over[held.key]
        if held.gone is not None:
            detail = held.gone["why"]
        machines = (f"{self.name}/{held.key}",)
        return Sighting(held.key, state, now_us, held.launch["ledger"], machines, held.gpus, detail)

    def _settle_up(self, held: Held) -> None:
        """The bill (GPU-seconds for nothing), and word that there is room."""
        assert held.gone is not None
        seconds = (held.gone["at"] - held.head["at"]) // 1_000_000 if held.head is not None else 0
        self._feed.tell(Charge(f"{held.key}-bill", held.key, 0, held.gpus * seconds, final=True))
        self._feed.tell(Notice("capacity"))

    def _now(self) -> int:
        return self._tools.clock.now_us()


def _state_folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "orchestrator"
