"""What does a caller hear when we say no? Every refusal of the HTTP API, as problem details (RFC 9457).

Raised by the routes, made from the desk's errors here, rendered by the handlers that `install` adds. Each says
whose fault it is and what to do next; several errors of one document come at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from orchestrator.model.documents import words
from orchestrator.model.documents.views import FieldError, ProblemView
from orchestrator.model.ids import is_job_id
from orchestrator.ports.access import NotThere, NoWayIn
from orchestrator.ports.desk import (
    Busy,
    Conflict,
    DeskError,
    Mistaken,
    NoShell,
    NothingRuns,
    Refused,
    UnknownJob,
    UnknownOffer,
)
from orchestrator.ports.ledger import LedgerError
from orchestrator.ports.provider import ProviderError

MEDIA_TYPE = "application/problem+json"
REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": ProblemView} for status in (401, 403, 404)}
"""What every route may answer, for the OpenAPI document."""
MOST_ERRORS = 100
"""Of one document; whoever sends a megabyte of mistakes is not sent four in return."""


class Denied(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        remedy: str = "",
        fault: str = "caller",
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        job: str = "",
    ) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.problem = ProblemView.of(
            kind, status, detail, remedy, fault=fault, errors=list(errors[:MOST_ERRORS]), job=job
        )

    def response(self) -> Response:
        """The answer as it is sent: ASCII, since what was wrong, and is repeated, may be no text at all."""
        content = json.dumps(self.problem.model_dump(mode="json", by_alias=True, exclude_defaults=False))
        return Response(content, self.problem.status, self.headers, MEDIA_TYPE)


def of_desk(error: DeskError) -> Denied:
    """The problem behind an error of the desk."""
    match error:
        case UnknownJob():
            return Denied(404, "unknown-job", str(error), remedy="`orchestrator jobs` lists what there is")
        case UnknownOffer():
            return Denied(404, "unknown-offer", str(error), remedy="`orchestrator offers list` shows what is open")
        case Conflict():
            remedy = "use a new Idempotency-Key for a new job, or send the first body again"
            return Denied(409, "idempotency-conflict", str(error), remedy=remedy, job=error.job)
        case Busy():
            after = {"Retry-After": str(max(1, round(error.retry_after_s)))}
            remedy = "nothing was kept: send the same request again after Retry-After seconds"
            return Denied(503, "busy", str(error) or "too much at once", remedy=remedy, fault="server", headers=after)
        case Refused():
            job = next(filter(is_job_id, str(error).replace(":", " ").split()), "")
            remedy = f"`orchestrator explain {job}` says why it stands there" if job else "nothing was kept"
            return Denied(409, "refused", str(error), remedy=remedy)
        case Mistaken():
            return Denied(422, "mistaken", str(error), remedy="nothing was kept")
        case NothingRuns():
            remedy = "wait until it runs; what it has printed so far: `orchestrator logs JOB`"
            return Denied(409, "not-running", str(error), remedy=remedy)
        case NoShell():
            return no_shell(str(error))
        case _:
            return Denied(500, "internal", str(error), remedy="see the server's log", fault="server")


def of_ledger(error: LedgerError) -> Denied:
    """The ledger did not answer. Running jobs do not notice; a wish may or may not be kept."""
    remedy = "send the same request again after Retry-After seconds, under the same Idempotency-Key"
    return Denied(503, "ledger", str(error), remedy=remedy, fault="operator", headers={"Retry-After": "2"})


def no_shell(why: str) -> Denied:
    """There is no way into what runs at this cloud."""
    return Denied(501, "no-shell", why, remedy="`orchestrator logs JOB` and `orchestrator job JOB` work at every cloud")


def of_provider(error: ProviderError) -> Denied:
    """The problem behind what went wrong between us and a cloud."""
    match error:
        case NotThere():
            return Denied(404, "not-there", str(error), remedy="`orchestrator job JOB` says where it runs")
        case NoWayIn():
            return no_shell(str(error))
        case _:
            remedy = "`orchestrator providers check` says what is missing; or try again"
            return Denied(502, "provider", str(error), remedy=remedy, fault="operator")


def _of_validation(error: RequestValidationError) -> Denied:
    errors = [
        FieldError(
            field=".".join(str(part) for part in item["loc"]),
            reason=words.reason(item["type"], item["msg"], item.get("ctx") or {}),
            remedy=item.get("ctx", {}).get("remedy", "see /openapi.json"),
        )
        for item in error.errors()
    ]
    return Denied(422, "invalid-request", "the request has parameters that make no sense", errors=errors)


def _of_http(error: HTTPException) -> Denied:
    kind = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}.get(error.status_code, "http-error")
    remedy = "send less" if kind == "too-large" else "see /openapi.json for the routes"
    return Denied(error.status_code, kind, str(error.detail), remedy=remedy, headers=error.headers)


def install(app: FastAPI) -> None:
    """Answer every error of the routes with a problem."""

    @app.exception_handler(Denied)
    async def denied(_: Request, error: Denied) -> Response:
        return error.response()

    @app.exception_handler(DeskError)
    async def desk(_: Request, error: DeskError) -> Response:
        return of_desk(error).response()

    @app.exception_handler(ProviderError)
    async def provider(_: Request, error: ProviderError) -> Response:
        return of_provider(error).response()

    @app.exception_handler(LedgerError)
    async def ledger(_: Request, error: LedgerError) -> Response:
        return of_ledger(error).response()

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> Response:
        return _of_validation(error).response()

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        remedy = "the server's log has the trace; please report it"
        return Denied(500, "internal", "a bug of ours", remedy=remedy, fault="server").response()

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return _of_http(error).response()
