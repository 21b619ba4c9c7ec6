"""The asynchronous client: as `sdk.client`, with `await`. The two differ only in how they send, sleep and iterate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource

from orchestrator.model.documents import TrainingJob
from orchestrator.model.documents.inside import StacksView
from orchestrator.model.documents.offers import OpenOfferView, OutcomeView, Said
from orchestrator.model.documents.scale import HowMany
from orchestrator.model.documents.views import (
    BlockView,
    CheckView,
    EventView,
    ExplainView,
    InForceView,
    JobView,
    OfferView,
    ProviderView,
    RecordView,
    StoreCheckView,
)
from orchestrator.sdk import inside
from orchestrator.sdk import operations as op
from orchestrator.sdk.address import find
from orchestrator.sdk.client import PATIENCE_S, WAITING_PATIENCE_S, bear_silence, new_key, quiet, request_of, ways
from orchestrator.sdk.streams import SILENCE_S, Cursor, EventCursor, Lines, OutputCursor

T = TypeVar("T")


class AsyncClient:
    """A connection to a server; close it, or use it in `async with`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        waiting_patience_s: float = WAITING_PATIENCE_S,
        notify: Callable[[str], None] = quiet,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`patience_s`: of requests; `waiting_patience_s`: of waiting and streams, which outlive a server's restart.

        `notify` hears notices, such as files left out of a package. Raises NoServer.
        """
        self._address = address = find(url, token)
        self.url = address.url
        self._patience_s, self._waiting_s, self._notify = patience_s, waiting_patience_s, notify
        self._http = httpx.AsyncClient(transport=transport, **ways(address))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection; jobs go on."""
        await self._http.aclose()

    async def submit(self, job: TrainingJob, *, key: str | None = None) -> AsyncJob:
        """Submit a job; a folder of code is packed and uploaded first. The same `key` again gives the same job.

        Raises Invalid with every problem, Conflict for another body under the key, PackageError.
        """
        return AsyncJob(
            self, await self._do(op.submit(job, new_key() if key is None else key, self._notify, self._patience()))
        )

    async def upload(self, folder: Path, project: str = "default", policy: str = "") -> str:
        """Pack a folder of code and upload it, unless it is there; its sha256. Raises PackageError.

        `policy` of the job that it is for: where its store is not the operator's first, the code goes there alone.
        """
        return await self._do(op.upload(folder, project, self._notify, self._patience(), policy))

    async def job(self, job: str) -> AsyncJob:
        """A job by its id. Raises NotFound."""
        return AsyncJob(self, await self._do(op.job(job, self._patience())))

    async def jobs(
        self, *, project: str | None = None, states: Sequence[str] = (), limit: int | None = None
    ) -> AsyncIterator[AsyncJob]:
        """Jobs, newest first; all pages, or at most `limit`."""
        before, left = None, limit
        while left is None or left > 0:
            page = await self._do(op.jobs(project, states, min(left or 100, 100), before, self._patience()))
            for view in page.items:
                yield AsyncJob(self, view)
            before, left = page.next, None if left is None else left - len(page.items)
            if before is None:
                return

    def events(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[EventView]:
        """Events of the whole ledger."""
        return self._events(EventCursor(None, after, follow))

    async def open_offers(self) -> list[OpenOfferView]:
        """What waits for your word, of a supplier whose people answer by hand. The token is bound to the provider."""
        return (await self._do(op.open_offers(self._patience()))).items

    async def answer(self, offer: str, said: Said) -> OutcomeView:
        """Answer an offer, once. Raises NotFound; an answer that came too late has the outcome `closed`."""
        return await self._do(op.answer(offer, said, self._patience()))

    async def providers(self) -> list[ProviderView]:
        """All providers, in the operator's order."""
        return (await self._do(op.providers(self._patience()))).items

    async def check_providers(self) -> list[CheckView]:
        """What each provider lacks."""
        return (await self._do(op.check_providers(self._patience()))).items

    async def check_stores(self) -> list[StoreCheckView]:
        """What each checkpoint store lacks; read now."""
        return (await self._do(op.check_stores(self._patience()))).items

    async def in_force(self) -> InForceView:
        """Which contract set and provider set decide now."""
        return await self._do(op.in_force(self._patience()))

    async def apply_contracts(self, document: bytes) -> InForceView:
        """Let a contract set (YAML or JSON) take effect now; what decides then. The same set again changes nothing.

        Needs a token with the scope `operator`. Raises Invalid with every problem.
        """
        return await self._do(op.apply_contracts(document, self._patience()))

    async def capacity(self) -> list[BlockView]:
        """The blocks of capacity that are owned."""
        return (await self._do(op.capacity(self._patience()))).items

    async def apply_capacity(self, document: bytes) -> list[BlockView]:
        """Let a Capacity document (YAML or JSON) take effect now, whole; the blocks that are owned then.

        Needs a token with the scope `operator`. Raises Invalid with every problem.
        """
        return (await self._do(op.apply_capacity(document, self._patience()))).items

    async def record(self, told: Mapping[str, Any]) -> RecordView:
        """Put something on record: `what` and the fields that its kind needs (see `orchestrator record`).

        Needs a token with the scope `attester`. Raises Invalid with every problem, Refused where it counts for nothing.
        """
        return await self._do(op.record(told, self._patience()))

    async def records(self) -> list[RecordView]:
        """What is on record and has not expired, newest first."""
        return (await self._do(op.records(self._patience()))).items

    # ---- how we send -------------------------------------------------------------------------------------------------

    def _patience(self) -> op.Patience:
        return op.Patience(self._patience_s)

    async def _do(self, steps: op.Steps[T]) -> T:
        """Carry out an operation."""
        answer: op.Reply | op.Lost | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            answer = await self._send(step)

    async def _send(self, step: op.Call | op.Pause) -> op.Reply | op.Lost | None:
        if isinstance(step, op.Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            reply = await self._http.send(request_of(self._http, step))
        except httpx.TransportError as error:
            return op.Lost(str(error) or type(error).__name__)
        return op.Reply(reply.status_code, reply.headers, reply.content)

    def _events(self, cursor: EventCursor) -> AsyncIterator[EventView]:
        async def read(response: httpx.Response) -> AsyncIterator[EventView]:
            async for sent in EventSource(response).aiter_sse():
                if sent.data:  # a ping has none
                    yield cursor.take(sent)

        return self._follow(cursor, read)

    def _output(self, cursor: OutputCursor) -> AsyncIterator[bytes]:
        async def read(response: httpx.Response) -> AsyncIterator[bytes]:
            async for chunk in response.aiter_bytes():
                yield cursor.take(chunk)

        return self._follow(cursor, read)

    async def _follow(self, cursor: Cursor, read: Callable[[httpx.Response], AsyncIterator[T]]) -> AsyncIterator[T]:
        """What the stream brings; asked for again from where it was whenever it broke before its end."""
        patience = op.Patience(self._waiting_s)
        while True:
            response = await self._open(cursor.call())
            if not isinstance(response, httpx.Response):
                await asyncio.sleep(op.next_try(response, patience))
                continue
            async with contextlib.aclosing(response):
                with contextlib.suppress(httpx.TransportError):  # it broke, or was silent for long
                    async for item in read(response):
                        yield item
                    if await self._do(op.complete(cursor.job, cursor.follow, patience)):
                        return
            await asyncio.sleep(op.next_try(None, patience))

    async def _once(self, call: op.Call) -> AsyncIterator[bytes]:
        """A stream that cannot go on where it broke."""
        response = await self._open(call)
        if not isinstance(response, httpx.Response):
            raise op.lost(response)
        if call.params.get("follow"):
            bear_silence(response)
        async with contextlib.aclosing(response):
            try:
                async for chunk in response.aiter_bytes():
                    yield chunk
            except httpx.TransportError as error:
                raise op.lost(op.Lost(str(error))) from error

    async def _open(self, call: op.Call) -> httpx.Response | op.Reply | op.Lost:
        try:
            response = await self._http.send(request_of(self._http, call, SILENCE_S), stream=True)
            if response.status_code < 300:
                return response
            return op.Reply(response.status_code, response.headers, await response.aread())
        except httpx.TransportError as error:
            return op.Lost(str(error) or type(error).__name__)


class AsyncJob:
    """A submitted job; `view` is where it stood when we last asked."""

    def __init__(self, client: AsyncClient, view: JobView) -> None:
        self._client, self.view = client, view

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id} {self.state}>"

    @property
    def id(self) -> str:
        """Its identity."""
        return self.view.id

    @property
    def state(self) -> str:
        """Where it stood when we last asked."""
        return self.view.state

    async def refresh(self) -> JobView:
        """Ask where it stands now."""
        self.view = await self._client._do(op.job(self.id, self._client._patience()))
        return self.view

    async def wait(self, timeout: float | None = None, *, check: bool = False, parts: bool = True) -> JobView:
        """Until it has ended, and with `parts` whatever was left of it, if it was split. Returns its own end.

        Raises Timeout after `timeout` seconds; JobFailed with `check`, if it or a part of it did not succeed.
        """
        self.view = await self._client._do(op.wait(self.id, timeout, check, self._client._waiting_s, parts=parts))
        return self.view

    async def logs(self, *, follow: bool = False) -> AsyncIterator[str]:
        """Lines of its output, over all attempts; with `follow`, until it has ended."""
        lines = Lines()
        async for chunk in self.output(follow=follow):
            for line in lines.feed(chunk):
                yield line
        for line in lines.end():
            yield line

    def output(self, *, follow: bool = False) -> AsyncIterator[bytes]:
        """Its output as bytes, as they come."""
        return self._client._output(OutputCursor(self.id, follow))

    def events(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[EventView]:
        """What happened to it; with `follow`, until it has ended."""
        return self._client._events(EventCursor(self.id, after, follow))

    async def explain(self) -> ExplainView:
        """What happened and why it stands where it stands, in sentences."""
        return await self._client._do(op.explain(self.id, self._client._patience()))

    async def offers(self) -> list[OfferView]:
        """Every offer of it, oldest first."""
        return (await self._client._do(op.offers(self.id, self._client._patience()))).items

    def output_of(self, rank: int, *, follow: bool = False) -> AsyncIterator[bytes]:
        """What one rank prints, read where it runs now; with `follow`, until its process has ended.

        Raises NotFound for a rank that is not there, Conflict where nothing runs, NoShell.
        """
        return self._client._once(op.output_of(self.id, rank, follow))

    async def stacks(self, rank: int | None = None) -> list[StacksView]:
        """What every rank's processes are doing, or those of one; where that may not be seen, why. Raises as above."""
        return (await self._client._do(op.stacks(self.id, rank, self._client._patience()))).items

    def run_in(
        self, command: Sequence[str], *, rank: int = 0, terminal: tuple[int, int] | None = None, term: str = ""
    ) -> AbstractAsyncContextManager[inside.Session]:
        """Run a command beside a rank, in its environment and folder; ended at the end of the block.

        `terminal`: rows and columns of the one that it gets. Its name is in the ledger, its arguments are nowhere.
        """
        return inside.run_in(self._client._address, self.id, command, rank, terminal, term)

    def forward(self, port: int, *, rank: int = 0, local_port: int = 0) -> AbstractAsyncContextManager[inside.Forward]:
        """Listen on this machine's loopback for a port beside a rank; 8265 is the job's Ray dashboard."""
        return inside.forward(self._client._address, self.id, port, rank, local_port)

    async def cancel(self) -> JobView:
        """Ask for its end; `wait` sees it."""
        self.view = await self._client._do(op.wish(self.id, "cancel", self._client._patience()))
        return self.view

    async def scale(self, workers: HowMany) -> JobView:
        """Give it another number of workers: 8, or any of a range: (4, 8), "4:8", `{"min": 4, "max": 8}`.

        What runs saves, stops and goes on from there as that; `notices` say where it has that size already. Raises
        Conflict where its size cannot change, Invalid for what is no size.
        """
        self.view = await self._client._do(op.scale(self.id, workers, self._client._patience()))
        return self.view

    async def resume(self) -> JobView:
        """Let it go on, if it is held. Raises Conflict if it is not."""
        self.view = await self._client._do(op.wish(self.id, "resume", self._client._patience()))
        return self.view
