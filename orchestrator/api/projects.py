"""Is this the caller's to deal with? Where a token is good for some projects only, here alone it is decided.

Called by the routes. `needs` (in `access`) turns such a token away from whatever is about all projects; a route that
holds to the caller's projects says so by a dependency of this file, so a new route lets nobody in by oversight. A job
of another project answers like one that does not exist. Tokens that are good for all cost no look.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from orchestrator.api.access import Caller, Scope, allowed, bearer
from orchestrator.api.problems import Denied
from orchestrator.model.documents.job import PROJECT
from orchestrator.model.ids import is_job_id
from orchestrator.model.job import JobRow
from orchestrator.ports.desk import Desk, UnknownJob

Project = Annotated[str, Query(pattern=PROJECT, description="whose it is")]


async def job_id(job: Annotated[str, Path(description="job id", examples=["01K9Z3M5W2T8Q4N6R7VXYBCD0E"])]) -> str:
    """A job's id from the path. Raises Denied for what cannot be one."""
    if not is_job_id(job.upper()):
        raise Denied(404, "unknown-job", "that is no job id", remedy="`orchestrator jobs` lists what there is")
    return job.upper()


JobId = Annotated[str, Depends(job_id)]


def sees(caller: Caller, project: str) -> bool:
    """Whether what is of this project is this caller's to know."""
    return caller.projects is None or project in caller.projects


def may_use(caller: Caller, project: str) -> None:
    """Nothing is put into, or fetched from, a project that is not the caller's. Raises Denied."""
    if sees(caller, project):
        return
    names = ", ".join(sorted(caller.projects or ()))
    remedy = f"name one of its projects ({names}), or ask the operator for a token that has `{project}`"
    raise Denied(403, "forbidden", f"the token `{caller.name}` is not good for the project `{project}`", remedy=remedy)


async def may_meet(desk: Desk, caller: Caller, job: str) -> None:
    """The job is the caller's to know. Raises UnknownJob, also where there is one of another project."""
    if caller.projects is None:
        return
    try:
        project = (await desk.job(job)).project
    except UnknownJob:
        project = ""
    if not sees(caller, project):
        raise UnknownJob(f"there is no job {job!r}")


async def rows_of(
    caller: Caller, project: str | None, limit: int, read: Callable[[str | None], Awaitable[Sequence[JobRow]]]
) -> Sequence[JobRow]:
    """The newest jobs of a project, or (None) of all that are the caller's. `read`: those of one project, or of all."""
    if project is not None:
        return await read(project) if sees(caller, project) else ()
    if caller.projects is None:
        return await read(None)
    found = [await read(one) for one in sorted(caller.projects)]
    return list(islice(heapq.merge(*found, key=lambda row: row.job, reverse=True), limit))


def of_some(*scopes: Scope) -> Any:
    """A dependency: the caller, who must have one of these scopes; the route itself holds to the caller's projects."""

    async def check(request: Request, _: Any = Depends(bearer)) -> Caller:
        return allowed(request.state.caller, scopes)

    return Depends(check)


def of_project(*scopes: Scope) -> Any:
    """The same, and the project that the query names is the caller's."""

    async def check(request: Request, project: Project = "default", _: Any = Depends(bearer)) -> Caller:
        caller = allowed(request.state.caller, scopes)
        may_use(caller, project)
        return caller

    return Depends(check)


def of_job(desk: Desk, *scopes: Scope) -> Any:
    """The same, and the job in the path is the caller's to know."""

    async def check(request: Request, job: JobId, _: Any = Depends(bearer)) -> Caller:
        caller = allowed(request.state.caller, scopes)
        await may_meet(desk, caller, job)
        return caller

    return Depends(check)
