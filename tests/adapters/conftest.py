"""A mock cloud over HTTP, and the provider that talks to it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.adapters.providers.mock import MockProvider, factory
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.mockcloud.config import CloudConfig
from orchestrator.mockcloud.server import Running, running
from orchestrator.ports.runtime import Tools

LEDGER = "kit-ledger"


class RealClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)


class Site:
    """One cloud, its switchboard, and providers connected to it."""

    def __init__(self, here: Running) -> None:
        self.here = here
        self.provider = self.connect()
        self._switches = httpx.AsyncClient(
            base_url=here.admin_url, headers={"Authorization": f"Bearer {here.admin_token}"}, timeout=30
        )

    def connect(self, **connection: str) -> MockProvider:
        tools = Tools(runtime=RayJobs(), clock=RealClock(), ledger=LEDGER)
        return factory("p", connection or {"file": str(self.here.folder / "connection.json")}, tools)

    async def switch(self, method: str, path: str, body: Any = None) -> Any:
        reply = await self._switches.request(method, path, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def aclose(self) -> None:
        await self.provider.aclose()
        await self._switches.aclose()


OpenSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def open_site(tmp_path: Path) -> AsyncIterator[OpenSite]:
    """`await open_site(machines=…, …)`: a cloud that answers and provisions at once, unless told otherwise."""
    quick = {"provisioning": {}, "termination": 0, "listLag": 0, "regions": {"eu-1": "EU"}}
    quick |= {"capacity": {"eu-1": {"H100": 64}}, "machines": "paper", "paperRun": 3_600_000}
    async with AsyncExitStack() as stack:

        async def open_one(cloud: str = "azure", **changes: Any) -> Site:
            config = CloudConfig.model_validate({"cloud": cloud, **quick, **changes})
            here = await stack.enter_async_context(running(config, tmp_path / cloud))
            site = Site(here)
            stack.push_async_callback(site.aclose)
            return site

        yield open_one
