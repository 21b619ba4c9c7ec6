"""The routes of suppliers who answer by hand: what is open for them, and what they say to it.

Whose they are is in their token, which is bound to one provider: nothing of anybody else's offers is there for them.
So these routes neither tell nor take the ledger's sequence number (`seeing`): its growth would tell how busy we are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path, Request

from orchestrator.api.access import Scope, allowed, bearer
from orchestrator.api.problems import REFUSALS, Denied
from orchestrator.api.projections import moment
from orchestrator.core.standing import open_offer
from orchestrator.core.windows import deadline
from orchestrator.model.documents.offers import OpenOfferView, OutcomeView, Said, open_offer_view
from orchestrator.model.documents.views import Page, ProblemView
from orchestrator.model.ids import parse_offer_id
from orchestrator.model.offer import Answer
from orchestrator.ports.desk import Desk, UnknownJob


class Supplier(NamedTuple):
    """Whose people ask."""

    provider: str
    by: str
    """The token's name."""


async def supplier(request: Request, _: Any = Depends(bearer)) -> Supplier:
    """The provider that the token is bound to, and its name. Raises Denied."""
    caller = allowed(request.state.caller, [Scope.PROVIDER])
    if caller.provider is None:
        remedy = 'add "provider": NAME to its row of the tokens file'
        detail = f"the token `{caller.name}` is bound to no provider: nobody may answer for all of them"
        raise Denied(403, "forbidden", detail, remedy=remedy, fault="operator")
    return Supplier(caller.provider, caller.name)


def router(desk: Desk) -> APIRouter:
    """The routes over a desk."""
    routes = APIRouter(prefix="/v1/offers", tags=["offers"], responses=REFUSALS)

    @routes.get("", responses={409: {"model": ProblemView, "description": "the provider does not answer by hand"}})
    async def offers(whose: Supplier = Depends(supplier)) -> Page[OpenOfferView]:
        """What waits for your word, oldest first: each offer as it left us."""
        found = await desk.open_offers(whose.provider)
        return Page[OpenOfferView](items=[open_offer_view(one, await _due(desk, one.offer)) for one in found])

    @routes.post("/{offer}/answer", responses={409: {"model": ProblemView}})
    async def answer(
        said: Said,
        offer: Annotated[str, Path(examples=["01K9Z3M5W2T8Q4N6R7VXYBCD0E-o1"])],
        whose: Supplier = Depends(supplier),
    ) -> OutcomeView:
        """Say yes or no, once; durable when answered. Too late is `closed`: kept as evidence, it does nothing."""
        found = await desk.answer(whose.provider, _answer(said, offer, whose.by))
        return OutcomeView(offer=found.offer, outcome=found.what, reason=found.reason)

    return routes


async def _due(desk: Desk, offer: str) -> datetime | None:
    """When the window of an open offer ends, as it stands now; None: it has not begun, or is over."""
    job, n = parse_offer_id(offer)
    try:
        open_ = open_offer(await desk.job(job))
    except UnknownJob:
        return None
    if open_ is None or open_.n != n or open_.delivered_at is None:
        return None
    return moment(deadline(open_, (await desk.in_force()).absences))


def _answer(said: Said, offer: str, by: str) -> Answer:
    return Answer(
        offer=offer, accepted=said.accepted, terms_hash=said.terms_hash, price=said.price_microusd,
        region=said.region, accelerator=said.accelerator, workers=said.workers,
        ttl_us=None if said.ttl_ms is None else said.ttl_ms * 1000, reason=said.reason, scope=said.scope,
        until=None if said.until is None else round(said.until.timestamp() * 1e6), detail=said.detail, by=by,
    )  # fmt: skip
