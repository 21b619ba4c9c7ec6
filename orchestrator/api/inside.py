"""How does a person get at a running job over HTTP? Commands and ports as WebSockets, stacks as JSON.

A submitter or an operator may. Who goes in where is durable in the ledger before the way is open (`desk.enter`); a
command's arguments are neither there nor in an address. What is said over a socket is in `model.documents.inside`. When
a socket ends, however it ends, what was started through it is ended too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from orchestrator.api.access import Caller, Scope, allowed
from orchestrator.api.forwards import Forwards
from orchestrator.api.problems import REFUSALS, Denied, of_desk, of_provider
from orchestrator.api.projects import JobId, job_id, may_meet, of_job
from orchestrator.api.sockets import Line, message
from orchestrator.model.documents.inside import MOST_ARGUMENTS, MOST_RANKS, Asked, StacksView
from orchestrator.model.documents.views import Page, ProblemView
from orchestrator.ports.access import Access, Command, NotThere, Session
from orchestrator.ports.desk import Desk, DeskError, Visit
from orchestrator.ports.provider import ProviderError

GUESTS = (Scope.SUBMITTER, Scope.OPERATOR)
FIRST_S = 10.0
"""For the first message of a command."""
AT_ONCE = 8
"""Ranks whose stacks are taken side by side."""
Rank = Annotated[int, Query(ge=0, le=MOST_RANKS, description="which process of user code, counted from 0")]
SAID: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemView, "description": "no attempt of the job runs now"},
    501: {"model": ProblemView, "description": "the cloud gives no shell"},
}


def router(desk: Desk) -> APIRouter:
    """The routes that lead into running jobs."""
    routes = APIRouter(prefix="/v1/jobs", tags=["inside"], responses=REFUSALS)
    _commands(routes, desk)
    _ports(routes, desk)

    @routes.post("/{job}/dump", responses=SAID)
    async def dump(
        job: JobId,
        rank: Annotated[int | None, Query(ge=0, le=MOST_RANKS, description="every rank, if not given")] = None,
        caller: Caller = of_job(desk, *GUESTS),
    ) -> Page[StacksView]:
        """What every rank's Python processes are doing, by py-spy where it may; where it may not, why."""
        way = await desk.enter(Visit(job=job, by=caller.name, what="dump", rank=rank))
        there = await way.access.ranks(way.key)
        wanted = list(there) if rank is None else [rank]
        if not wanted:
            raise NotThere("no user code runs there now; it may just be starting, or ending")
        some = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(_stacks(way.access, way.key, one, some) for one in wanted))
        told = [view.model_copy(update={"where": there.get(view.rank, "")}) for views in found for view in views]
        return Page[StacksView](items=told)

    return routes


async def _stacks(access: Access, key: str, rank: int, some: asyncio.Semaphore) -> list[StacksView]:
    """One rank's; that one cannot be reached does not hide the others."""
    async with some:
        try:
            found = await access.stacks(key, rank)
        except ProviderError as error:
            return [StacksView(rank=rank, why=str(error))]
    return [StacksView(rank=one.rank, pid=one.pid, title=one.title, stacks=one.stacks, why=one.why) for one in found]


def name_of(command: list[str]) -> str:
    """What the ledger is told of a command: its name, never its arguments."""
    name = PurePath(command[0]).name[:64]
    fits = name and all(c.isalnum() or c in "._+-" for c in name)
    return name if fits else "a command"


def _commands(routes: APIRouter, desk: Desk) -> None:
    @routes.websocket("/{job}/exec")
    async def run_in(socket: WebSocket, job: str) -> None:
        async with answered(socket):
            caller, job = await guest(socket, desk, job)
            await socket.accept()
            asked = await _asked(socket)
            name = name_of(asked.command)
            way = await desk.enter(Visit(job=job, by=caller.name, what="exec", rank=asked.rank, name=name))
            command = Command(argv=tuple(asked.command), terminal=asked.terminal, term=asked.term)
            session = await way.access.run_in(way.key, asked.rank, command)
            try:
                await _talk(Line(socket), session)
            finally:
                await session.aclose()


async def _asked(socket: WebSocket) -> Asked:
    try:
        async with asyncio.timeout(FIRST_S):
            first = message(await socket.receive())
    except TimeoutError as error:
        raise Denied(400, "no-command", f"no command came within {FIRST_S:.0f} s", remedy="send it first") from error
    asked = Asked.model_validate(first)
    if sum(map(len, asked.command)) > MOST_ARGUMENTS or not asked.command[0]:
        remedy = f"at most {MOST_ARGUMENTS} characters; put the rest into a file of the job's, or into its input"
        raise Denied(422, "invalid-command", "the command is empty or too long", remedy=remedy)
    return asked


async def _talk(line: Line, session: Session) -> None:
    """Between a person and a command, until one of them ends it."""

    async def said(what: dict[str, Any]) -> None:
        if what.get("eof"):
            line.feed(None)
        elif what.get("end"):
            await session.end()
        elif size := what.get("size"):
            await session.resize(*size)

    async def put(data: bytes | None) -> None:
        await (session.eof() if data is None else session.write(data))

    async with line.open(put, said, session.end):
        while (part := await session.read()) is not None:
            await line.send(bytes([part[0]]) + part[1])
    await line.say({"exit": session.code})


def _ports(routes: APIRouter, desk: Desk) -> None:
    forwards = Forwards()

    @routes.websocket("/{job}/forward")
    async def forward(socket: WebSocket, job: str, port: Annotated[int, Query(ge=1, le=65535)], rank: Rank = 0) -> None:
        async with answered(socket):
            caller, job = await guest(socket, desk, job)
            way = await desk.enter(Visit(job=job, by=caller.name, what="forward", rank=rank, name=str(port)))
            await (await way.access.connect(way.key, rank, port)).aclose()  # a wrong port is said at once
            await socket.accept()
            await forwards.hold(Line(socket), caller.name, job, lambda: way.access.connect(way.key, rank, port))

    @routes.websocket("/{job}/forward/{ticket}")
    async def connect(socket: WebSocket, job: str, ticket: int) -> None:
        async with answered(socket):
            caller, job = await guest(socket, desk, job)
            channel, over = await forwards.connect(ticket, caller.name, job)
            try:
                await socket.accept()
                await forwards.carry(Line(socket), channel, over)
            finally:
                await channel.aclose()


async def guest(socket: WebSocket, desk: Desk, job: str) -> tuple[Caller, str]:
    """Who asks, and for which job. Raises Denied, DeskError."""
    caller = allowed(socket.state.caller, GUESTS)
    job = await job_id(job)
    await may_meet(desk, caller, job)
    await desk.job(job)
    return caller, job


@asynccontextmanager
async def answered(socket: WebSocket) -> AsyncIterator[None]:
    """What is refused is a problem: the answer to the request before the socket is open, its last message after."""
    try:
        yield
        denied = None
    except WebSocketDisconnect:
        return
    except Denied as error:
        denied = error
    except DeskError as error:
        denied = of_desk(error)
    except ProviderError as error:
        denied = of_provider(error)
    except ValidationError as error:
        denied = Denied(422, "invalid-command", str(error.errors()[0]["msg"]), remedy="see `orchestrator exec --help`")
    if denied is not None and socket.application_state is WebSocketState.CONNECTING:
        await socket.send_denial_response(denied.response())
        return
    with suppress(WebSocketDisconnect, RuntimeError):  # the other side has gone meanwhile
        if denied is not None:
            await socket.send_text(json.dumps({"problem": denied.problem.model_dump(mode="json", by_alias=True)}))
        await socket.close()
