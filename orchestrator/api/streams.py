"""What is happening, as it happens: events as server-sent events, output of user code as plain bytes.

A stream ends by itself when the job has ended; a client that lost its connection goes on where it was, by
`Last-Event-ID` (events) or `offset` (logs, in bytes).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from orchestrator.api.access import Caller, Scope
from orchestrator.api.problems import REFUSALS
from orchestrator.api.projections import event_view
from orchestrator.api.projects import JobId, of_job, of_some, sees
from orchestrator.model.documents.inside import MOST_RANKS
from orchestrator.ports.access import NotThere
from orchestrator.ports.desk import Desk, Visit
from orchestrator.ports.ledger import StoredEvent

MOST = 2**63 - 1
"""No ledger counts further."""
After = Annotated[int, Query(ge=0, le=MOST, description="only what has a higher sequence number")]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,18}$")]
Follow = Annotated[bool, Query(description="go on until the job has ended")]
OneRank = Annotated[
    int | None, Query(ge=0, le=MOST_RANKS, description="only of this process of user code, where it runs now")
]
Offset = Annotated[int, Query(ge=0, le=MOST, description="bytes to leave out at the beginning")]


def router(desk: Desk) -> APIRouter:
    """The streaming routes."""
    routes = APIRouter(prefix="/v1", tags=["streams"], responses=REFUSALS)

    viewer = of_job(desk, Scope.VIEWER)

    async def known(job: JobId, _: Caller = viewer) -> None:
        await desk.job(job)  # an unknown job is a problem, not a stream that breaks

    exists = [Depends(known)]

    async def readable(job: JobId, rank: OneRank = None, _: Caller = viewer) -> None:
        row = await desk.job(job)
        if rank is None:
            await desk.readable(row)  # a store that is away is a problem, not an output of nothing

    @routes.get("/events", response_class=EventSourceResponse)
    async def events(
        after: After = 0, last: LastId = None, follow: Follow = False, caller: Caller = of_some(Scope.VIEWER)
    ) -> AsyncIterator[ServerSentEvent]:
        """Events of the whole ledger, or of the token's projects; with `follow`, for ever."""
        async for event in desk.events(None, int(last or after), follow):
            if sees(caller, event.project):
                yield sent(event)

    @routes.get("/jobs/{job}/events", response_class=EventSourceResponse, dependencies=exists)
    async def job_events(
        job: JobId, after: After = 0, last: LastId = None, follow: Follow = False, _: Caller = viewer
    ) -> AsyncIterator[ServerSentEvent]:
        """Events of one job."""
        async for event in desk.events(job, int(last or after), follow):
            yield sent(event)

    @routes.get("/jobs/{job}/logs", response_class=StreamingResponse, dependencies=[Depends(readable)])
    async def logs(
        job: JobId,
        follow: Follow = False,
        offset: Offset = 0,
        rank: OneRank = None,
        caller: Caller = viewer,
    ) -> StreamingResponse:
        """Output of user code over all attempts, in order, as text; of one `rank` what lies where it runs now."""
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        media_type = "text/plain; charset=utf-8"
        said = desk.logs(job, follow) if rank is None else await of_rank(desk, job, rank, caller, follow)
        return StreamingResponse(skip(said, offset), media_type=media_type, headers=headers)

    return routes


async def of_rank(desk: Desk, job: str, rank: int, caller: Caller, follow: bool) -> AsyncIterator[bytes]:
    """What one rank prints; that somebody read it is in the ledger. Raises DeskError, ProviderError."""
    way = await desk.enter(Visit(job=job, by=caller.name, what="logs", rank=rank))
    if rank not in (there := await way.access.ranks(way.key)):
        known = ", ".join(map(str, there)) or "none: no user code runs there now"
        raise NotThere(f"there is no rank {rank}; the ranks are: {known}")
    return way.access.output(way.key, rank, follow)


def sent(event: StoredEvent) -> ServerSentEvent:
    """An event of the ledger as it goes over the wire."""
    data = event_view(event).model_dump_json(by_alias=True)
    return ServerSentEvent(raw_data=data, event=event.kind, id=str(event.seq))


async def skip(chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[bytes]:
    """The chunks without their first `offset` bytes."""
    async for chunk in chunks:
        if offset < len(chunk):
            yield chunk[offset:]
        offset = max(0, offset - len(chunk))
