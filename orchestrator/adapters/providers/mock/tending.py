"""Who starts the agent on a cluster that has come up, and who notices that it is over?

Called by the mock provider with whatever the feed says of clusters. For each cluster of our ledger that runs, a task
submits its Ray job (under the launch key: repeating it is harmless, so a restart of ours loses nothing), and then
watches it; the end of the job is news for `observe`. It stops nothing and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from orchestrator.adapters.providers.mock import translate
from orchestrator.adapters.providers.mock.client import Absent, CloudClient, Refused
from orchestrator.model.offer import Sighting, SightingState
from orchestrator.model.wire import ENV_ATTEMPT, ENV_KEY, WireError
from orchestrator.ports.provider import ProviderError
from orchestrator.ports.runtime import OVER, Head, Run, RunStatus, RuntimeFailure, Tools

ENTRYPOINT = ("python", "-m", "orchestrator.agent")
EVERY_S = 1.0


class Tending:
    """The clusters of one provider that are being looked after."""

    def __init__(self, client: CloudClient, tools: Tools) -> None:
        self._client = client
        self._tools = tools
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._over: set[str] = set()
        self._news: list[Sighting] = []
        self.arrived = asyncio.Event()
        """Set while there is news to take."""

    def see(self, cluster: Mapping[str, Any]) -> None:
        """What the feed says of one cluster."""
        key = str(cluster["key"])
        if cluster["tags"].get(translate.LEDGER) != self._tools.ledger:
            return
        if cluster["state"] != "running":
            self._leave(key)
        elif key not in self._tasks and key not in self._over:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._tend(cluster))

    def take(self) -> list[Sighting]:
        """The news since the last time."""
        news, self._news = self._news, []
        self.arrived.clear()
        return news

    async def aclose(self) -> None:
        """Look after nothing any more; whatever runs goes on."""
        for key in list(self._tasks):
            self._leave(key)

    def _leave(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    async def _tend(self, cluster: Mapping[str, Any]) -> None:
        key = str(cluster["key"])
        head: Head | None = None
        submitted = False
        while True:
            try:
                head = head or await self._head(key, submit=not submitted)
                if head is None:
                    return
                submitted = True
                status = await self._tools.runtime.status(head, key)
                if status is not None and status.state in OVER:
                    self._tell(cluster, status)
                    return
            except (ProviderError, Refused, Absent, RuntimeFailure, WireError, msgspec.MsgspecError):
                head = None  # asked again below; an API that is away says nothing about the job
            await asyncio.sleep(EVERY_S)

    async def _head(self, key: str, *, submit: bool) -> Head | None:
        """Where its runtime is, with the job submitted; None where the cloud runs user data by itself."""
        docs = (await self._client.call("GET", f"/v1/clusters/{key}"))["clusters"]
        doc = next((doc for doc in docs if doc["state"] == "running"), None)
        if doc is None or not doc["address"]:
            return None
        head = Head(doc["address"], doc["token"])
        if submit:
            order = translate.order_of(doc["userData"])
            store_url = (await self._client.about())["storeUrl"]
            attempt = translate.through(order.attempt, store_url)
            run = Run(key=key, entrypoint=ENTRYPOINT, environment={ENV_ATTEMPT: attempt, ENV_KEY: key})
            await self._tools.runtime.submit(head, run)
        return head

    def _tell(self, cluster: Mapping[str, Any], status: RunStatus) -> None:
        key = str(cluster["key"])
        self._over.add(key)
        self._tasks.pop(key, None)
        (seen,) = translate.sightings([cluster], self._tools.clock.now_us())
        detail = f"job {status.state.value}, exit {status.exit}"
        self._news.append(msgspec.structs.replace(seen, state=SightingState.ENDED, detail=detail))
        self.arrived.set()
