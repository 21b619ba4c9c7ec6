"""A cloud of paper at a time that the test moves, and the same cloud over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.mockcloud.cloud import Cloud
from orchestrator.mockcloud.config import CloudConfig
from orchestrator.mockcloud.journal import Journal
from orchestrator.mockcloud.records import Cluster, ClusterOrder, OfferIn
from orchestrator.mockcloud.server import Running, running

QUICK: dict[str, Any] = {
    "cloud": "azure",
    "machines": "paper",
    "regions": {"eastus": "US"},
    "capacity": {"eastus": {"H100": 8}},
    "provisioning": {"low": 1000, "high": 1000},
    "termination": 500,
    "listLag": 1000,
    "ttl": 60_000,
    "chargeEvery": 10_000,
    "paperRun": 3_600_000,
}


class Played:
    """A cloud whose clock the test moves; its clusters are there and gone at once."""

    def __init__(self, **changes: Any) -> None:
        self.now = 1_000_000_000_000_000
        self.cloud = Cloud(CloudConfig.model_validate({**QUICK, **changes}), Journal(None, "azure"))
        self.cloud.host = self

    def start(self, cluster: Cluster) -> None:
        self.cloud.came_up(cluster, "", "", self.now)

    def kill(self, cluster: Cluster) -> None:
        self.cloud.vanished(cluster, "terminated", self.now)

    def wait(self, seconds: float) -> None:
        until = self.now + round(seconds * 1_000_000)
        while (due := self.cloud.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.cloud.advance(self.now)
        self.now = until

    def offer(self, name: str = "j-o1", **terms: Any) -> dict[str, Any] | None:
        answer: dict[str, Any] | None = self.cloud.offer(an_offer(name, **terms), self.now).answer
        return answer

    def launch(self, key: str = "j-e1", **changes: Any) -> Cluster:
        return self.cloud.create(an_order(key, **changes), self.now)

    def listed(self) -> dict[str, str]:
        return {doc["key"]: doc["state"] for doc in self.cloud.listing(self.now)}

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.cloud.feed if event["type"] == kind]


def an_offer(name: str = "j-o1", **terms: Any) -> OfferIn:
    text = json.dumps({"accelerators": ["H100"], "gpusPerWorker": 4, "workers": 2, "regions": ["eastus"], **terms})
    digest = hashlib.sha256(text.encode()).hexdigest()
    return OfferIn(id=name, terms=text, terms_hash=digest, window_us=60_000_000)


def an_order(key: str = "j-e1", **changes: Any) -> ClusterOrder:
    plain = {"key": key, "region": "eastus", "accelerator": "H100", "workers": 2, "gpus": 4, "deleteAfterMs": 3_600_000}
    return ClusterOrder.model_validate({**plain, **changes})


class Web:
    """A cloud over HTTP, asked as a client with its token does."""

    def __init__(self, here: Running) -> None:
        self.here = here
        self.client = httpx.AsyncClient(base_url=here.url, headers={"Authorization": f"Bearer {here.token}"})
        self.admin = httpx.AsyncClient(
            base_url=here.admin_url, headers={"Authorization": f"Bearer {here.admin_token}"}, timeout=30
        )

    async def break_with(self, **faults: Any) -> None:
        assert (await self.admin.put("/faults", json=faults)).status_code == 200

    async def aclose(self) -> None:
        await self.client.aclose()
        await self.admin.aclose()


@pytest.fixture
async def open_web(tmp_path: Path) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def open_one(**changes: Any) -> Web:
            quick = {**QUICK, "provisioning": {}, "termination": 0, "listLag": 0}
            config = CloudConfig.model_validate({**quick, **changes})
            web = Web(await stack.enter_async_context(running(config, tmp_path / config.cloud)))
            stack.push_async_callback(web.aclose)
            return web

        yield open_one
