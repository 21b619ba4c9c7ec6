"""What an operator looks at: health, readiness, providers, what is in force, metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from orchestrator.api.access import Caller, Scope, needs
from orchestrator.api.amending import admit_contracts
from orchestrator.api.problems import REFUSALS, Denied
from orchestrator.api.projections import provider_view
from orchestrator.api.seeing import caught_up, tell_seq
from orchestrator.model.documents.views import CheckView, InForceView, Page, ProblemView, ProviderView, StoreCheckView
from orchestrator.ports.desk import Desk

Metrics = Callable[[], bytes]
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def router(desk: Desk, metrics: Metrics) -> APIRouter:
    """The operator's routes. `metrics()` gives Prometheus' text format."""
    routes = APIRouter(responses=REFUSALS)
    _health(routes, desk)
    _figures(routes, desk, metrics)
    _amending(routes, desk)
    return routes


def _health(routes: APIRouter, desk: Desk) -> None:
    @routes.get("/healthz", tags=["health"], response_class=PlainTextResponse)
    async def healthz() -> str:
        """The process answers. No token needed."""
        return "ok\n"

    @routes.get("/readyz", tags=["health"], response_class=PlainTextResponse, responses={503: {"model": ProblemView}})
    async def readyz() -> str:
        """The server leads and takes wishes. No token needed."""
        if (why := await desk.ready()) is not None:
            raise Denied(503, "not-ready", why, fault="server", remedy="wait, or see the server's log")
        return "ready\n"


def _figures(routes: APIRouter, desk: Desk, metrics: Metrics) -> None:
    @routes.get("/metrics", tags=["operator"], response_class=PlainTextResponse)
    async def metrics_text(_: Caller = needs(Scope.VIEWER)) -> PlainTextResponse:
        """Prometheus metrics, a projection of the ledger."""
        return PlainTextResponse(metrics(), media_type=METRICS_TYPE)

    @routes.get("/v1/providers", tags=["operator"])
    async def providers(_: Caller = needs(Scope.VIEWER)) -> Page[ProviderView]:
        """All providers, in the order of the operator's file."""
        return Page[ProviderView](items=[provider_view(status) for status in await desk.providers()])

    @routes.post("/v1/providers/check", tags=["operator"])
    async def check(_: Caller = needs(Scope.OPERATOR)) -> Page[CheckView]:
        """Ask every provider what is missing for it to work, each with its remedy."""
        found = await desk.check_providers()
        return Page[CheckView](items=[CheckView(provider=name, missing=list(what)) for name, what in found.items()])

    @routes.post("/v1/stores/check", tags=["operator"])
    async def check_stores(_: Caller = needs(Scope.OPERATOR)) -> Page[StoreCheckView]:
        """Read every checkpoint store now, and say what is missing for it to work."""
        found = await desk.check_stores()
        return Page[StoreCheckView](items=[StoreCheckView(store=n, missing=list(what)) for n, what in found.items()])

    @routes.get("/v1/contracts", tags=["operator"], dependencies=[caught_up(desk)])
    async def contracts(_: Caller = needs(Scope.VIEWER)) -> InForceView:
        """Which contract set and provider set decide now."""
        return await _in_force(desk)


def _amending(routes: APIRouter, desk: Desk) -> None:
    said: dict[int | str, dict[str, Any]] = {
        422: {"model": ProblemView, "description": "every reason for which the set is refused"},
        503: {"model": ProblemView, "description": "another set is taking effect; see Retry-After"},
    }
    body = {"application/yaml": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}}

    @routes.post(
        "/v1/contracts", tags=["operator"], responses=said,
        openapi_extra={"requestBody": {"required": True, "content": body}},
    )  # fmt: skip
    async def apply(request: Request, response: Response, caller: Caller = needs(Scope.OPERATOR)) -> InForceView:
        """Let a ContractSet take effect now, whole; open offers keep the version that they were opened with.

        Each contract in it holds from its own term on. The set that is in force changes nothing.
        """
        document = await admit_contracts(desk, await request.body())
        await desk.amend(document, caller.name)
        await tell_seq(desk, response)
        return await _in_force(desk)


async def _in_force(desk: Desk) -> InForceView:
    head, row = await desk.head(), await desk.in_force()
    return InForceView(
        contract=row.contract,
        contract_digest=row.contract_digest,
        contract_document=await _document(desk, row.contract_digest),
        providers=row.providers,
        providers_digest=row.providers_digest,
        providers_document=await _document(desk, row.providers_digest),
        head=head,
    )


async def _document(desk: Desk, digest: str) -> Any:
    found = (await desk.documents((digest,))).get(digest)
    return json.loads(found) if found is not None else None
