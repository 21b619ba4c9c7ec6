"""The routes of jobs: take one in, show it, end it, let it go on. Wishes go to the desk; the rest is projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.access import Caller, Scope
from orchestrator.api.admission import CANONICAL_TYPE, EXAMPLE, Admission, refused_job
from orchestrator.api.explaining import explain_view
from orchestrator.api.problems import REFUSALS
from orchestrator.api.projections import job_view, offer_views
from orchestrator.api.projects import JobId, of_job, of_some, rows_of
from orchestrator.api.seeing import caught_up, seen, tell_seq
from orchestrator.model.documents.job import PROJECT
from orchestrator.model.documents.scale import Scale
from orchestrator.model.documents.views import ExplainView, FieldError, JobView, OfferView, Page, ProblemView
from orchestrator.model.job import JobRow
from orchestrator.ports.desk import Desk, Refused, Submission
from orchestrator.ports.ledger import StoredEvent

State = Literal[
    "queued", "offering", "launching", "running", "recovering", "stopping", "held", "succeeded", "failed", "cancelled"
]
KEY = r"^[\x21-\x7e]{1,255}$"
RESIDENCY = b'"residency":"'
"""In the canonical bytes of a job that names one: only these may have to be told something at once."""
SAME_SIZE = "it has that size already, or is about to have it: nothing was changed"
BODY = {
    "required": True,
    "content": {
        "application/yaml": {"schema": {"type": "string"}, "example": EXAMPLE},
        "application/json": {"schema": {"type": "object"}},
        CANONICAL_TYPE: {"schema": {"type": "object"}},
    },
}


class Listing(BaseModel):
    """What a listing of jobs may be narrowed by; anything else is refused."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = Field(default=None, description="all of the token's, if not given", pattern=PROJECT)
    state: list[State] = Field(default=[], description="repeatable; all states, if not given")
    limit: int = Field(default=50, ge=1, le=500)
    before: str | None = Field(default=None, description="`next` of the page before", pattern=r"^[0-9A-Z]{26}$")
    min_seq: int = Field(default=0, ge=0, description="`Orchestrator-Seq` of a wish that must be seen")


async def all_events(desk: Desk, job: str) -> list[StoredEvent]:
    """What happened to a job so far."""
    return [event async for event in desk.events(job, 0, False)]


async def _submitted(desk: Desk, row: JobRow) -> bytes:
    return (await desk.documents((row.spec,)))[row.spec]


async def _told(desk: Desk, row: JobRow, notices: Sequence[str] = ()) -> JobView:
    """What a wish is answered with. Nothing of it is read from a store, which may be away."""
    return job_view(row, await _submitted(desk, row), notices=notices)


def router(desk: Desk, admission: Admission) -> APIRouter:
    """The routes of jobs, but for the streams."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=REFUSALS)
    _wishes(routes, desk, admission)
    _reads(routes, desk)
    return routes


def _wishes(routes: APIRouter, desk: Desk, admission: Admission) -> None:
    said: dict[int | str, dict[str, Any]] = {
        200: {"model": JobView, "description": "the same job again, by its Idempotency-Key"},
        409: {"model": ProblemView, "description": "the Idempotency-Key was used with another body"},
        413: {"model": ProblemView},
        422: {"model": ProblemView, "description": "every reason for which the document is refused"},
        503: {"model": ProblemView, "description": "too much at once; see Retry-After"},
    }

    submitter = of_job(desk, Scope.SUBMITTER)

    @routes.post("", status_code=201, response_model=JobView, responses=said, openapi_extra={"requestBody": BODY})
    async def submit(
        request: Request,
        response: Response,
        key: Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY)] = None,
        caller: Caller = of_some(Scope.SUBMITTER),
    ) -> JobView:
        """Take in a TrainingJob (YAML or JSON). Durable when answered; all that is wrong is said at once."""
        admitted = await admission.admit(request, caller)
        wish = Submission(project=admitted.project, document=admitted.document, key=key or "", by=caller.name)
        try:
            row, created = await desk.submit(wish)
        except Refused as error:
            raise refused_job([FieldError(field="", reason=str(error))]) from error
        response.status_code = 201 if created else 200
        response.headers["Location"] = f"/v1/jobs/{row.job}"
        await tell_seq(desk, response)
        notices = await desk.notices(row) if RESIDENCY in admitted.document else ()
        return job_view(row, admitted.document, notices=notices)

    @routes.post("/{job}/cancel", status_code=202)
    async def cancel(job: JobId, response: Response, caller: Caller = submitter) -> JobView:
        """Ask for the job's end; asking again changes nothing."""
        row = await desk.cancel(job, caller.name)
        await tell_seq(desk, response)
        return await _told(desk, row)

    unchanged: dict[int | str, dict[str, Any]] = {
        200: {"model": JobView, "description": "it has that size already: nothing was changed"},
        409: {"model": ProblemView},
    }

    @routes.post("/{job}/scale", status_code=202, responses=unchanged)
    async def scale(job: JobId, size: Scale, response: Response, caller: Caller = submitter) -> JobView:
        """Give a job another number of workers. What runs saves, stops for it if need be, and goes on."""
        row, changed = await desk.scale(job, *size.range, caller.name)
        if not changed:
            response.status_code = 200
        await tell_seq(desk, response)
        return await _told(desk, row, await desk.notices(row) if changed else (SAME_SIZE,))

    @routes.post("/{job}/resume", status_code=202, responses={409: {"model": ProblemView}})
    async def resume(job: JobId, response: Response, caller: Caller = submitter) -> JobView:
        """Let a held job go on."""
        row = await desk.resume(job, caller.name)
        await tell_seq(desk, response)
        return await _told(desk, row)


def _reads(routes: APIRouter, desk: Desk) -> None:
    viewer = of_job(desk, Scope.VIEWER)

    after = [caught_up(desk)]

    @routes.get("")
    async def jobs(query: Annotated[Listing, Query()], caller: Caller = of_some(Scope.VIEWER)) -> Page[JobView]:
        """Jobs, newest first; of the token's projects."""
        await seen(desk, query.min_seq)
        limit = query.limit + 1
        rows = await rows_of(caller, query.project, limit, lambda one: desk.jobs(one, query.state, limit, query.before))
        submitted = await desk.documents({row.spec for row in rows})
        shown = [job_view(row, submitted[row.spec]) for row in rows[: query.limit]]
        return Page[JobView](items=shown, next=shown[-1].id if len(rows) > query.limit else None)

    @routes.get("/{job}", dependencies=after)
    async def job(job: JobId, _: Caller = viewer) -> JobView:
        """Where a job stands, with what was submitted and what user code last reported."""
        row = await desk.job(job)
        progress, notices = await desk.progress(job), await desk.notices(row)
        view = job_view(row, await _submitted(desk, row), progress, notices, whole=True)
        return view.model_copy(update={"ending": await desk.ending(row)})

    @routes.get("/{job}/offers", dependencies=after)
    async def offers(job: JobId, _: Caller = viewer) -> Page[OfferView]:
        """Every offer of the job, oldest first: whom, by which right, what was answered."""
        await desk.job(job)
        return Page[OfferView](items=offer_views(await all_events(desk, job)))

    @routes.get("/{job}/explain", dependencies=after)
    async def explain(job: JobId, _: Caller = viewer) -> ExplainView:
        """What happened to the job, and why it stands where it stands, in sentences."""
        row = await desk.job(job)
        return explain_view(row, await _submitted(desk, row), await all_events(desk, job), await desk.notices(row))
