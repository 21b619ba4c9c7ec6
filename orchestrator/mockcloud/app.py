"""The cloud's HTTP face: what does a client with a token get to see and do?

Called by the server. It checks the token, throttles, turns documents into calls of the cloud and refusals into the
cloud's own error words. Routes: GET /v1, POST /v1/offers, DELETE /v1/offers/{id}, GET /v1/receipts, POST and GET
/v1/clusters, GET and DELETE /v1/clusters/{key}, GET /v1/events.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from orchestrator.mockcloud.cloud import Cloud
from orchestrator.mockcloud.config import CloudConfig
from orchestrator.mockcloud.records import ClusterOrder, OfferIn, Refusal
from orchestrator.mockcloud.views import description
from orchestrator.rayhead.packages import missing

LONGEST_WAIT = 30_000
"""Milliseconds that GET /v1/events may be asked to wait."""
PAGE = 1000
"""Events in one reply."""


class Bucket:
    """Takes so many requests a second, and so many at once."""

    def __init__(self, config: CloudConfig) -> None:
        self._rate = config.throttle.per_second
        self._size = config.throttle.burst
        self._left = float(self._size)
        self._at = time.monotonic()

    def take(self) -> float:
        """0 when this one is taken, else the seconds until one will be."""
        now = time.monotonic()
        self._left = min(self._size, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class Pulse:
    """Wakes everybody who waits for news of the cloud."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        """There is news."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next news, at most so long."""
        event = self._event
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return


class Face:
    """The routes of one cloud."""

    def __init__(self, cloud: Cloud, pulse: Pulse, token: str, boot: str) -> None:
        self.cloud = cloud
        self.store_url: str | None = None
        """The forwarder's address, once it listens."""
        self._pulse = pulse
        self._token = token
        self._boot = boot
        self._bucket = Bucket(cloud.config)

    def app(self) -> FastAPI:
        """The ASGI application."""
        app = FastAPI(title=f"mock cloud {self.cloud.config.cloud}", docs_url=None, redoc_url=None)
        app.middleware("http")(self._guard)
        app.add_exception_handler(Refusal, self._refused)
        app.add_exception_handler(RequestValidationError, self._malformed)
        app.get("/v1")(self.about)
        app.post("/v1/offers")(self.place)
        app.delete("/v1/offers/{offer}")(self.withdraw)
        app.get("/v1/receipts")(self.receipts)
        app.post("/v1/clusters", status_code=202)(self.create)
        app.get("/v1/clusters")(self.list)
        app.get("/v1/clusters/{key}")(self.describe)
        app.delete("/v1/clusters/{key}", status_code=202)(self.delete)
        app.get("/v1/events")(self.events)
        return app

    # ---- routes ----------------------------------------------------------------------------------------------------

    async def about(self) -> dict[str, Any]:
        """What the cloud says about itself."""
        config = self.cloud.config
        return {
            "cloud": config.cloud,
            "regions": self.cloud.stock.regions,
            "accelerators": {region: list(kinds) for region, kinds in self.cloud.stock.capacity.items()},
            "prices": list(self.cloud.stock.rows()),
            "spotPrices": list(self.cloud.spot.rows()) if self.cloud.spot else [],
            "firm": config.firm,
            "idempotency": self.cloud.faults.tokens == "kept",
            "listLagMs": config.list_lag,
            "deleteAfter": self.cloud.faults.delete_after == "honoured",
            "maxOpenOffers": config.max_open_offers,
            "storeUrl": self.store_url,
        }

    async def place(self, offer: OfferIn) -> dict[str, Any]:
        """Take an offer in; the answer is in the reply if it was given at once."""
        record = self.cloud.offer(offer, _now())
        doc = record.doc
        echo = {"ledgerHead": doc.ledger_head, "ordinal": doc.ordinal}
        return {"ref": record.ref, "at": self.cloud.shown(record.at), "answer": record.answer, **echo}

    async def withdraw(self, offer: str) -> dict[str, str]:
        """Take an offer back; unknown ones are acknowledged."""
        self.cloud.withdraw(offer, _now())
        return {"offer": offer}

    async def receipts(self) -> Response:
        """What the cloud has kept of its offers, as `orchestrator-verify --receipts` reads it."""
        return Response(self.cloud.receipts.text(), media_type="application/x-ndjson")

    async def create(self, order: ClusterOrder) -> dict[str, Any]:
        """Make a cluster under its client token."""
        lacking = missing(order.requirements)
        if lacking:
            self.cloud.journal.write("refused", key=order.key, situation="requirement")
            raise Refusal("requirement", ", ".join(lacking))
        return description(self.cloud.create(order, _now()))

    async def list(self) -> dict[str, Any]:
        """Every cluster, as of `listLagMs` ago."""
        now = _now()
        return {"asOf": self.cloud.shown(now), "clusters": list(self.cloud.listing(now))}

    async def describe(self, key: str) -> dict[str, Any]:
        """Everything made under a client token, newest first."""
        if key not in self.cloud.clusters:
            raise Refusal("not_found", key)
        return {"clusters": [description(one) for one in reversed(self.cloud.clusters[key])]}

    async def delete(self, key: str) -> dict[str, Any]:
        """End everything under a client token."""
        return {"clusters": [description(one) for one in self.cloud.delete(key, _now())]}

    async def events(
        self, cursor: str | None = None, wait: int = Query(default=0, ge=0, le=LONGEST_WAIT)
    ) -> dict[str, Any]:
        """The feed after `cursor` (none, or another boot's: from the beginning), waiting `wait` ms for news."""
        after = self._position(cursor)
        deadline = time.monotonic() + wait / 1000
        self.cloud.advance(_now())
        while len(self.cloud.feed) <= after and (left := deadline - time.monotonic()) > 0:
            await self._pulse.wait(left)
        news = self.cloud.feed[after : after + PAGE]
        return {
            "cursor": f"{self._boot}:{after + len(news)}",
            "more": len(self.cloud.feed) > after + len(news),
            "asOf": self.cloud.shown(_now()),
            "events": news,
        }

    def _position(self, cursor: str | None) -> int:
        boot, _, number = (cursor or "").partition(":")
        if boot != self._boot or not number.isdigit():
            return 0
        return min(int(number), len(self.cloud.feed))

    # ---- every request ---------------------------------------------------------------------------------------------

    async def _guard(self, request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return self._words("unauthorized", "")
        if self.cloud.faults.throttle is not None:
            return self._words("throttled", "", self.cloud.faults.throttle)
        wait = self._bucket.take()
        if wait:
            return self._words("throttled", "", math.ceil(wait))
        return await go_on(request)

    async def _refused(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return self._words(error.situation, error.detail, error.retry_after, error.hold_off)

    async def _malformed(self, _request: Request, error: Exception) -> Response:
        return JSONResponse({"error": {"code": "MalformedRequest", "message": str(error)}}, 400)

    def _words(
        self, situation: str, detail: str, retry_after: int | None = None, hold_off: int | None = None
    ) -> Response:
        words = self.cloud.profile.errors[situation]
        message = words.message.replace("{detail}", detail).replace("{accelerator}", detail).replace("{region}", detail)
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        more = {} if hold_off is None else {"holdOffMs": hold_off}
        return JSONResponse({"error": {"code": words.code, "message": message, **more}}, words.status, headers)


def _now() -> int:
    return time.time_ns() // 1000
