"""The synchronous client: `Client().submit(job)`, then wait, read its logs, ask why.

Finds the server and its token by itself (see `sdk.address`). Each request is repeated while the server does not
answer, for up to `patience_s`; that is safe, because submissions carry an idempotency key. Not thread-safe.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource

from orchestrator.certificates import Authorities
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
from orchestrator.sdk import operations as op
from orchestrator.sdk.address import Address, find
from orchestrator.sdk.streams import SILENCE_S, Cursor, EventCursor, Lines, OutputCursor

T = TypeVar("T")
TIMEOUT_S = 30.0
"""Seconds for one reply: longer than a server that follows waits for one that leads, so that its words arrive."""
PATIENCE_S = 10.0
"""Seconds for which a call is repeated while no server answers: as long as it takes until another server leads."""
WAITING_PATIENCE_S = 120.0
"""The same for who waits for a job or follows it, and lives through a server's restart."""

KEEPALIVE = {"TCP_KEEPIDLE": round(SILENCE_S), "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A server that vanished is missed within two minutes; the system's own defaults are hours. As far as it has them."""


def new_key(entropy: Callable[[int], bytes] = os.urandom) -> str:  # noqa: TID251 - a client has no clock port
    """An idempotency key for one submission."""
    return entropy(16).hex()


def request_of(http: httpx.Client | httpx.AsyncClient, call: op.Call, timeout: float = TIMEOUT_S) -> httpx.Request:
    """The HTTP request of a call; `timeout` in seconds."""
    params: Any = {name: value if isinstance(value, str | int) else list(value) for name, value in call.params.items()}
    return http.build_request(
        call.method, call.path, params=params, headers=dict(call.headers), content=call.content, timeout=timeout
    )


def ways(address: Address) -> dict[str, Any]:
    """How an HTTP client reaches this server: httpx' own arguments."""
    return {
        "base_url": address.url,
        "headers": {"Authorization": f"Bearer {address.token}"},
        "timeout": TIMEOUT_S,
        "verify": Authorities(),
        "trust_env": not address.here,  # of it only proxies are left: `verify` reads the rest by itself
    }


def bear_silence(response: httpx.Response) -> None:
    """Wait for the rest of a stream that nobody pings; TCP itself asks whether the other side is still there."""
    response.request.extensions["timeout"]["read"] = None
    stream = response.extensions.get("network_stream")  # none behind a transport that is no network
    line = stream.get_extra_info("socket") if stream is not None else None
    if line is None:
        return
    options = {getattr(socket, name): value for name, value in KEEPALIVE.items() if hasattr(socket, name)}
    with contextlib.suppress(OSError):  # it broke already, as reading will tell
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in options.items():
            line.setsockopt(socket.IPPROTO_TCP, option, value)


def quiet(_: str) -> None:
    """Say nothing."""


class Client:
    """A connection to a server; close it, or use it in `with`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        waiting_patience_s: float = WAITING_PATIENCE_S,
        notify: Callable[[str], None] = quiet,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`patience_s`: of requests; `waiting_patience_s`: of waiting and streams, which outlive a server's restart.

        `notify` hears notices, such as files left out of a package. Raises NoServer.
        """
        address = find(url, token)
        self.url = address.url
        self._patience_s, self._waiting_s, self._notify = patience_s, waiting_patience_s, notify
        self._http = httpx.Client(transport=transport, **ways(address))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; jobs go on."""
        self._http.close()

    def submit(self, job: TrainingJob, *, key: str | None = None) -> Job:
        """Submit a job; a folder of code is packed and uploaded first. The same `key` again gives the same job.

        Raises Invalid with every problem, Conflict for another body under the key, PackageError.
        """
        return Job(self, self._do(op.submit(job, new_key() if key is None else key, self._notify, self._patience())))

    def upload(self, folder: Path, project: str = "default", policy: str = "") -> str:
        """Pack a folder of code and upload it, unless it is there; its sha256. Raises PackageError.

        `policy` of the job that it is for: where its store is not the operator's first, the code goes there alone.
        """
        return self._do(op.upload(folder, project, self._notify, self._patience(), policy))

    def job(self, job: str) -> Job:
        """A job by its id. Raises NotFound."""
        return Job(self, self._do(op.job(job, self._patience())))

    def jobs(
        self, *, project: str | None = None, states: Sequence[str] = (), limit: int | None = None
    ) -> Iterator[Job]:
        """Jobs, newest first; all pages, or at most `limit`."""
        before, left = None, limit
        while left is None or left > 0:
            page = self._do(op.jobs(project, states, min(left or 100, 100), before, self._patience()))
            yield from (Job(self, view) for view in page.items)
            before, left = page.next, None if left is None else left - len(page.items)
            if before is None:
                return

    def events(self, *, after: int = 0, follow: bool = False) -> Iterator[EventView]:
        """Events of the whole ledger."""
        return self._events(EventCursor(None, after, follow))

    def open_offers(self) -> list[OpenOfferView]:
        """What waits for your word, of a supplier whose people answer by hand. The token is bound to the provider."""
        return self._do(op.open_offers(self._patience())).items

    def answer(self, offer: str, said: Said) -> OutcomeView:
        """Answer an offer, once. Raises NotFound; an answer that came too late has the outcome `closed`."""
        return self._do(op.answer(offer, said, self._patience()))

    def providers(self) -> list[ProviderView]:
        """All providers, in the operator's order."""
        return self._do(op.providers(self._patience())).items

    def check_providers(self) -> list[CheckView]:
        """What each provider lacks."""
        return self._do(op.check_providers(self._patience())).items

    def check_stores(self) -> list[StoreCheckView]:
        """What each checkpoint store lacks; read now."""
        return self._do(op.check_stores(self._patience())).items

    def in_force(self) -> InForceView:
        """Which contract set and provider set decide now."""
        return self._do(op.in_force(self._patience()))

    def apply_contracts(self, document: bytes) -> InForceView:
        """Let a contract set (YAML or JSON) take effect now; what decides then. The same set again changes nothing.

        Needs a token with the scope `operator`. Raises Invalid with every problem.
        """
        return self._do(op.apply_contracts(document, self._patience()))

    def capacity(self) -> list[BlockView]:
        """The blocks of capacity that are owned."""
        return self._do(op.capacity(self._patience())).items

    def apply_capacity(self, document: bytes) -> list[BlockView]:
        """Let a Capacity document (YAML or JSON) take effect now, whole; the blocks that are owned then.

        Needs a token with the scope `operator`. Raises Invalid with every problem.
        """
        return self._do(op.apply_capacity(document, self._patience())).items

    def record(self, told: Mapping[str, Any]) -> RecordView:
        """Put something on record: `what` and the fields that its kind needs (see `orchestrator record`).

        Needs a token with the scope `attester`. Raises Invalid with every problem, Refused where it counts for nothing.
        """
        return self._do(op.record(told, self._patience()))

    def records(self) -> list[RecordView]:
        """What is on record and has not expired, newest first."""
        return self._do(op.records(self._patience())).items

    # ---- how we send -------------------------------------------------------------------------------------------------

    def _patience(self) -> op.Patience:
        return op.Patience(self._patience_s)

    def _do(self, steps: op.Steps[T]) -> T:
        """Carry out an operation."""
        answer: op.Reply | op.Lost | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            answer = self._send(step)

    def _send(self, step: op.Call | op.Pause) -> op.Reply | op.Lost | None:
        if isinstance(step, op.Pause):
            time.sleep(step.seconds)
            return None
        try:
            reply = self._http.send(request_of(self._http, step))
        except httpx.TransportError as error:
            return op.Lost(str(error) or type(error).__name__)
        return op.Reply(reply.status_code, reply.headers, reply.content)

    def _events(self, cursor: EventCursor) -> Iterator[EventView]:
        def read(response: httpx.Response) -> Iterator[EventView]:
            return (cursor.take(sent) for sent in EventSource(response).iter_sse() if sent.data)  # a ping has none

        return self._follow(cursor, read)

    def _output(self, cursor: OutputCursor) -> Iterator[bytes]:
        return self._follow(cursor, lambda response: map(cursor.take, response.iter_bytes()))

    def _follow(self, cursor: Cursor, read: Callable[[httpx.Response], Iterator[T]]) -> Iterator[T]:
        """What the stream brings; asked for again from where it was whenever it broke before its end."""
        patience = op.Patience(self._waiting_s)
        while True:
            response = self._open(cursor.call())
            if not isinstance(response, httpx.Response):
                time.sleep(op.next_try(response, patience))
                continue
            with contextlib.closing(response), contextlib.suppress(httpx.TransportError):  # broken, or silent for long
                yield from read(response)
                if self._do(op.complete(cursor.job, cursor.follow, patience)):
                    return
            time.sleep(op.next_try(None, patience))

    def _once(self, call: op.Call) -> Iterator[bytes]:
        """A stream that cannot go on where it broke."""
        response = self._open(call)
        if not isinstance(response, httpx.Response):
            raise op.lost(response)
        if call.params.get("follow"):
            bear_silence(response)
        with contextlib.closing(response):
            try:
                yield from response.iter_bytes()
            except httpx.TransportError as error:
                raise op.lost(op.Lost(str(error))) from error

    def _open(self, call: op.Call) -> httpx.Response | op.Reply | op.Lost:
        try:
            response = self._http.send(request_of(self._http, call, SILENCE_S), stream=True)
            if response.status_code < 300:
                return response
            return op.Reply(response.status_code, response.headers, response.read())
        except httpx.TransportError as error:
            return op.Lost(str(error) or type(error).__name__)


class Job:
    """A submitted job; `view` is where it stood when we last asked."""

    def __init__(self, client: Client, view: JobView) -> None:
        self._client, self.view = client, view

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state}>"

    @property
    def id(self) -> str:
        """Its identity."""
        return self.view.id

    @property
    def state(self) -> str:
        """Where it stood when we last asked."""
        return self.view.state

    def refresh(self) -> JobView:
        """Ask where it stands now."""
        self.view = self._client._do(op.job(self.id, self._client._patience()))
        return self.view

    def wait(self, timeout: float | None = None, *, check: bool = False, parts: bool = True) -> JobView:
        """Until it has ended, and with `parts` whatever was left of it, if it was split. Returns its own end.

        Raises Timeout after `timeout` seconds; JobFailed with `check`, if it or a part of it did not succeed.
        """
        self.view = self._client._do(op.wait(self.id, timeout, check, self._client._waiting_s, parts=parts))
        return self.view

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Lines of its output, over all attempts; with `follow`, until it has ended."""
        lines = Lines()
        for chunk in self.output(follow=follow):
            yield from lines.feed(chunk)
        yield from lines.end()

    def output(self, *, follow: bool = False) -> Iterator[bytes]:
        """Its output as bytes, as they come."""
        return self._client._output(OutputCursor(self.id, follow))

    def events(self, *, after: int = 0, follow: bool = False) -> Iterator[EventView]:
        """What happened to it; with `follow`, until it has ended."""
        return self._client._events(EventCursor(self.id, after, follow))

    def explain(self) -> ExplainView:
        """What happened and why it stands where it stands, in sentences."""
        return self._client._do(op.explain(self.id, self._client._patience()))

    def offers(self) -> list[OfferView]:
        """Every offer of it, oldest first."""
        return self._client._do(op.offers(self.id, self._client._patience())).items

    def output_of(self, rank: int, *, follow: bool = False) -> Iterator[bytes]:
        """What one rank prints, read where it runs now; with `follow`, until its process has ended.

        Raises NotFound for a rank that is not there, Conflict where nothing runs, NoShell.
        """
        return self._client._once(op.output_of(self.id, rank, follow))

    def stacks(self, rank: int | None = None) -> list[StacksView]:
        """What every rank's processes are doing, or those of one; where that may not be seen, why. Raises as above."""
        return self._client._do(op.stacks(self.id, rank, self._client._patience())).items

    def cancel(self) -> JobView:
        """Ask for its end; `wait` sees it."""
        self.view = self._client._do(op.wish(self.id, "cancel", self._client._patience()))
        return self.view

    def scale(self, workers: HowMany) -> JobView:
        """Give it another number of workers: 8, or any of a range: (4, 8), "4:8", `{"min": 4, "max": 8}`.

        What runs saves, stops and goes on from there as that; `notices` say where it has that size already. Raises
        Conflict where its size cannot change, Invalid for what is no size.
        """
        self.view = self._client._do(op.scale(self.id, workers, self._client._patience()))
        return self.view

    def resume(self) -> JobView:
        """Let it go on, if it is held. Raises Conflict if it is not."""
        self.view = self._client._do(op.wish(self.id, "resume", self._client._patience()))
        return self.view
