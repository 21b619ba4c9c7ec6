"""The routes of owned capacity: which blocks there are, and another set of them. Decisions know it when it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Request, Response

from orchestrator.api.access import Caller, Scope, needs
from orchestrator.api.problems import REFUSALS, Denied
from orchestrator.api.projections import moment
from orchestrator.api.seeing import caught_up, tell_seq
from orchestrator.model.capacity import Block
from orchestrator.model.documents import DocumentError
from orchestrator.model.documents.base import load_canonical
from orchestrator.model.documents.capacity import load_capacity
from orchestrator.model.documents.providers import ProviderSet
from orchestrator.model.documents.views import BlockView, FieldError, Page, ProblemView
from orchestrator.ports.desk import Desk

MOST = 1024 * 1024
"""Bytes of a document."""
SAID: dict[int | str, dict[str, Any]] = {422: {"model": ProblemView, "description": "everything that is wrong with it"}}
BODY = {
    "required": True,
    "content": {
        "application/yaml": {"schema": {"type": "string"}},
        "application/json": {"schema": {"type": "object"}},
    },
}


def router(desk: Desk) -> APIRouter:
    """The routes of owned capacity."""
    routes = APIRouter(prefix="/v1/capacity", tags=["operator"], responses=REFUSALS)

    @routes.get("", dependencies=[caught_up(desk)])
    async def listing(_: Caller = needs(Scope.VIEWER)) -> Page[BlockView]:
        """The blocks that are owned, as they were applied; those that are over stay until another set is."""
        return await _page(desk, (await desk.in_force()).blocks)

    @routes.post("", responses=SAID, openapi_extra={"requestBody": BODY})
    async def apply(request: Request, response: Response, caller: Caller = needs(Scope.OPERATOR)) -> Page[BlockView]:
        """Let a Capacity document take effect now, whole: what is not in it is owned no more. What runs, runs on.

        Refused where it prolongs a block to which somebody else has a right (trigger `renew`) that nothing on record
        frees.
        """
        with _refusing():
            force = await desk.own(await _admitted(desk, await request.body()), caller.name)
        await tell_seq(desk, response)
        return await _page(desk, force.blocks)

    return routes


async def _admitted(desk: Desk, body: bytes) -> tuple[Block, ...]:
    if len(body) > MOST:
        raise Denied(413, "too-large", f"a capacity document has at most {MOST} bytes", remedy="leave out what is over")
    force = await desk.in_force()
    stored = (await desk.documents((force.providers_digest,))).get(force.providers_digest)
    operators = load_canonical(ProviderSet, stored) if stored is not None else None
    return await asyncio.to_thread(load_capacity, body, operators)  # YAML is slow to read


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except DocumentError as error:
        errors = [FieldError(field=p.path, reason=p.reason, remedy=p.remedy) for p in error.problems]
        raise Denied(422, "invalid-capacity", "the document is refused; nothing changed", errors=errors) from error
    except (UnicodeError, RecursionError) as error:
        raise Denied(422, "invalid-capacity", f"it is no document: {error}", remedy="send YAML 1.2 or JSON") from error


async def _page(desk: Desk, blocks: tuple[Block, ...]) -> Page[BlockView]:
    taken = (await desk.taken() or {}) if blocks else {}
    return Page[BlockView](items=[block_view(block, taken.get(block.ref)) for block in blocks])


def block_view(block: Block, taken: int | None) -> BlockView:
    """A block as it is shown, with the GPUs in it that are taken."""
    return BlockView(
        name=block.name, provider=block.provider, accelerator=block.accelerator, gpus=block.gpus, region=block.region,
        since=moment(block.from_us), until=moment(block.until_us), price=block.price, contract=block.contract,
        taken=taken,
    )  # fmt: skip
