"""How is the cloud broken and mended while it runs? The fault switchboard, on a port and under a token of its own.

Called by proofs, demos and people. Routes: GET, PUT, DELETE /faults; POST /outage and /join; PUT /capacity,
/quotas, /prices and /policies; POST /clusters/{key}/kill, /reclaim, /freeze and /thaw; GET /clusters, /journal and
/forwarder.
PUT /faults replaces what is named and leaves the rest.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from orchestrator.mockcloud.cloud import Cloud
from orchestrator.mockcloud.config import Capacity, Faults, Network, Policy, Quotas
from orchestrator.mockcloud.hosts import HeadHost, PaperHost
from orchestrator.mockcloud.network import Forwarder
from orchestrator.mockcloud.records import Cluster, ClusterState
from orchestrator.mockcloud.views import description


class Outage(BaseModel):
    """How the whole cloud goes away: both networks, and its machines if `kill`."""

    kill: bool = False
    how: Network = Network.REFUSE


class Freeze(BaseModel):
    """Which processes of a cluster: a regular expression over command lines, empty for all."""

    match: str = ""


class Switchboard:
    """The switches of one cloud."""

    def __init__(self, cloud: Cloud, host: HeadHost | PaperHost, api: Forwarder, store: Forwarder | None) -> None:
        self._cloud = cloud
        self._host = host
        self._api = api
        self._store = store

    def app(self, token: str) -> FastAPI:
        """The ASGI application."""
        app = FastAPI(title=f"switchboard of {self._cloud.config.cloud}", docs_url=None, redoc_url=None)

        async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                return JSONResponse({"detail": "the switchboard has a token of its own"}, 401)
            return await go_on(request)

        app.middleware("http")(guard)
        app.get("/faults")(self.faults)
        app.put("/faults")(self.set_faults)
        app.delete("/faults")(self.mend)
        app.post("/outage")(self.outage)
        app.post("/join")(self.join)
        app.put("/capacity")(self.set_capacity)
        app.put("/quotas")(self.set_quotas)
        app.put("/prices")(self.set_prices)
        app.put("/policies")(self.set_policies)
        app.get("/clusters")(self.clusters)
        app.post("/clusters/{key}/kill")(self.kill)
        app.post("/clusters/{key}/reclaim")(self.reclaim)
        app.post("/clusters/{key}/freeze")(self.freeze)
        app.post("/clusters/{key}/thaw")(self.thaw)
        app.get("/journal")(self.journal)
        app.get("/forwarder")(self.forwarder)
        return app

    async def apply(self, faults: Faults) -> None:
        """From here on these faults, and no others."""
        self._cloud.break_with(faults, time.time_ns() // 1000)
        self._api.latency = faults.latency
        self._api.mishaps = [one for one in faults.mishaps if one.on == "api"]
        await self._api.become(faults.api)
        if self._store is not None:
            self._store.mishaps = [one for one in faults.mishaps if one.on == "store"]
            await self._store.become(faults.store)

    # ---- routes ----------------------------------------------------------------------------------------------------

    async def faults(self) -> dict[str, Any]:
        """What is broken now, and how many requests are held."""
        held = self._api.held + (self._store.held if self._store else 0)
        return {**self._cloud.faults.model_dump(by_alias=True, mode="json"), "held": held}

    async def set_faults(self, change: dict[str, Any]) -> dict[str, Any]:
        """Replace what is named."""
        now = self._cloud.faults.model_dump(by_alias=True)
        try:
            faults = Faults.model_validate({**now, **change})
        except ValidationError as error:
            raise HTTPException(422, error.errors(include_url=False, include_context=False)) from error
        await self.apply(faults)
        return await self.faults()

    async def mend(self) -> dict[str, Any]:
        """Nothing is broken any more; what was held is delivered."""
        await self.apply(Faults())
        self._api.deliver()
        if self._store is not None:
            self._store.deliver()
        return await self.faults()

    async def outage(self, what: Outage) -> dict[str, Any]:
        """The whole cloud goes away."""
        await self.set_faults({"api": what.how, "store": what.how})
        hit = [await self._host.strike(one) for one in self._alive()] if what.kill else []
        return {"killed": sum(hit)}

    async def join(self) -> dict[str, Any]:
        """Both networks are up again; what was held is delivered."""
        return await self.set_faults({"api": Network.UP, "store": Network.UP})

    async def set_capacity(self, change: Capacity) -> Capacity:
        """Region to accelerator to GPUs; what is not named stays."""
        for region, kinds in change.items():
            for accelerator, gpus in kinds.items():
                self._cloud.stock.set_capacity(region, accelerator, gpus)
        return self._cloud.stock.capacity

    async def set_quotas(self, change: Quotas) -> Quotas:
        """Region to accelerator to quota; what is not named stays."""
        for region, kinds in change.items():
            for accelerator, quota in kinds.items():
                self._cloud.stock.set_quota(region, accelerator, quota)
        return self._cloud.stock.quotas

    async def set_prices(self, change: dict[str, int]) -> dict[str, int]:
        """Accelerator to micro-dollars per GPU-hour."""
        for accelerator, price in change.items():
            self._cloud.stock.set_price(accelerator, price)
        return change

    async def set_policies(self, policies: list[Policy]) -> int:
        """How offers are answered from here on."""
        self._cloud.policies = policies or [Policy()]
        return len(self._cloud.policies)

    async def clusters(self) -> list[dict[str, Any]]:
        """All that ever were, as they truly are."""
        return [description(one) for some in self._cloud.clusters.values() for one in some]

    async def kill(self, key: str) -> dict[str, int]:
        """SIGKILL to everything under this key."""
        return {"killed": sum([await self._host.strike(one) for one in self._named(key)])}

    async def reclaim(self, key: str) -> dict[str, int]:
        """Notice to what runs on spot machines under this key: they are taken back when it has run out."""
        spot = [one for one in self._named(key) if one.spot and not one.reclaimed]
        if not spot:
            raise HTTPException(409, f"nothing that runs under {key!r} is on spot machines without a notice")
        for one in spot:
            self._cloud.reclaim(one, time.time_ns() // 1000)
        return {"noticed": len(spot)}

    async def freeze(self, key: str, what: Freeze) -> dict[str, list[int]]:
        """SIGSTOP."""
        return {"pids": self._signal(key, what, thaw=False)}

    async def thaw(self, key: str, what: Freeze) -> dict[str, list[int]]:
        """SIGCONT."""
        return {"pids": self._signal(key, what, thaw=True)}

    async def journal(self, after: int = 0) -> list[dict[str, Any]]:
        """What really happened, from line `after` on."""
        return self._cloud.journal.lines[after:]

    async def forwarder(self, after: int = 0) -> list[dict[str, Any]]:
        """The store forwarder's log, from line `after` on."""
        return self._store.lines[after:] if self._store else []

    def _signal(self, key: str, what: Freeze, *, thaw: bool) -> list[int]:
        if not isinstance(self._host, HeadHost):
            raise HTTPException(409, "clusters of paper have no processes")
        return [pid for one in self._named(key) for pid in self._host.freeze(one, what.match, thaw=thaw)]

    def _named(self, key: str) -> list[Cluster]:
        if key not in self._cloud.clusters:
            raise HTTPException(404, f"no cluster was ever made under {key!r}")
        return [one for one in self._cloud.clusters[key] if one.state is not ClusterState.TERMINATED]

    def _alive(self) -> list[Cluster]:
        every = [one for some in self._cloud.clusters.values() for one in some]
        return [one for one in every if one.state is not ClusterState.TERMINATED]
