"""The routes of records: what attesters put on record, and what counts now. Decisions know it when it is answered."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from orchestrator.api.access import Caller, Scope, needs
from orchestrator.api.problems import REFUSALS, Denied
from orchestrator.api.projections import moment
from orchestrator.api.projects import may_meet, may_use, of_some
from orchestrator.api.seeing import caught_up, tell_seq
from orchestrator.model.documents import DocumentError
from orchestrator.model.documents.records import RecordDocument, record_from
from orchestrator.model.documents.views import FieldError, Page, ProblemView, RecordView
from orchestrator.model.record import Record
from orchestrator.ports.desk import Desk

MOST = 64 * 1024
"""Bytes of a record."""
SAID: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemView, "description": "it would count for nothing: the job is over"},
    422: {"model": ProblemView, "description": "everything that is wrong with it"},
}
BODY = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}


def router(desk: Desk) -> APIRouter:
    """The routes of records."""
    routes = APIRouter(prefix="/v1/records", tags=["records"], responses=REFUSALS)

    @routes.post("", status_code=201, responses=SAID, openapi_extra={"requestBody": BODY})
    async def put(request: Request, response: Response, caller: Caller = of_some(Scope.ATTESTER)) -> RecordView:
        """Put a consent, evidence, a waiver, an event, a class or an override on record; decisions know it at once."""
        document = _parsed(await _body(request))
        await _may_attest(desk, caller, document)
        made = await desk.record(document.record(caller.name))
        await tell_seq(desk, response)
        return record_view(made)

    @routes.get("", dependencies=[caught_up(desk)])
    async def listing(_: Caller = needs(Scope.VIEWER)) -> Page[RecordView]:
        """What is on record and has not expired, newest first."""
        return Page[RecordView](items=[record_view(r) for r in reversed((await desk.in_force()).records)])

    return routes


async def _body(request: Request) -> bytes:
    body = await request.body()
    if len(body) > MOST:
        remedy = "keep the paper elsewhere and send its hash"
        raise Denied(413, "too-large", f"a record has at most {MOST} bytes", remedy=remedy)
    return body


def _parsed(body: bytes) -> RecordDocument:
    try:
        return record_from(json.loads(body))
    except DocumentError as error:
        errors = [FieldError(field=p.path, reason=p.reason, remedy=p.remedy) for p in error.problems]
        raise Denied(422, "invalid-record", "the record is refused; nothing was kept", errors=errors) from error
    except (ValueError, RecursionError) as error:
        raise Denied(422, "invalid-record", f"not JSON: {error}", remedy="send a JSON object") from error


async def _may_attest(desk: Desk, caller: Caller, document: RecordDocument) -> None:
    """A token that is good for some projects records what is about these, and nothing that is about more."""
    if document.job is not None:
        await may_meet(desk, caller, document.job)
    elif document.project is not None:
        may_use(caller, document.project)
    elif caller.projects is not None:
        what = f"the token `{caller.name}` is good for some projects only, and this record is about all of them"
        raise Denied(403, "forbidden", what, remedy="name a project or a job, or use a token without `projects`")


def record_view(record: Record) -> RecordView:
    """A record as it is shown."""
    return RecordView(
        id=record.id,
        what=record.what,
        name=record.name,
        holder=record.holder,
        clause=record.clause,
        project=record.project,
        job=record.job,
        block=record.block,
        block_to=moment(record.block_to) if record.block_to is not None else None,
        classes=list(record.classes),
        cited=record.cited and not record.block,
        gpus=record.gpus,
        until=moment(record.until) if record.until is not None else None,
        document=record.document,
        approver=record.approver,
        why=record.why,
        by=record.by,
        at=moment(record.at),
    )
