"""How does the controller hear of its jobs? One event stream for all of them, and a flag per object that waits.

Called by `handlers`, which runs it once; `turns` asks through it. Nobody polls per job: an event of a job raises the
flag of its object. When the server was away, every flag is raised, because nobody knows what was missed. It decides
nothing and forgets everything at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.model.documents.views import EventView, InForceView
from orchestrator.sdk import AsyncClient
from orchestrator.sdk.errors import OrchestratorError, Unauthenticated, Unreachable

log = logging.getLogger(__name__)
AT_ONCE = 8  # requests under way, so that a restart with thousands of objects is no flood
SAFETY_S = 600.0  # even an object whose job is silent is looked at so often
PROGRESS_S, LOOKS_PER_S = 60.0, 10.0  # steps of running jobs: once a minute, and no more than so many a second in all
FIRST_S, LONGEST_S = 1.0, 30.0
Order = tuple[int, datetime]
"""Which of two changes was later: as we heard of them, or by the API server's clock where both were in one list."""
EARLIEST: Order = (0, datetime.min.replace(tzinfo=UTC))


@dataclass(slots=True)
class Watch:
    """What is known of one object between two looks at it."""

    status: dict[str, Any]
    """As we last wrote it; newer than what the API server has told us of."""
    flag: asyncio.Event = field(default_factory=asyncio.Event)
    """Raised: something happened that the object does not show yet."""
    pause_s: float = SAFETY_S
    unasked: bool = False
    """We wrote the intention to submit, and asked nobody by it yet: a refusal then is of a job that is not there."""
    generation: int = 0
    """The newest change of the object that we have heard of; 0: none."""
    order: Order = EARLIEST
    """When that was."""


class Server:
    """The server as all objects see it."""

    def __init__(self, connect: Callable[[], AsyncClient]) -> None:
        """`connect` makes a client, anew after each loss, so that an address or token may change meanwhile."""
        self._connect = connect
        self._client: AsyncClient | None = None
        self._watches: dict[str, Watch] = {}
        self._objects: dict[str, str] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._revoked: asyncio.Future[None] | None = None
        self.away = "not asked yet"
        """Why it cannot be asked; empty: it can."""
        self.in_force: InForceView | None = None
        self.amending = asyncio.Lock()
        """Contract sets are put one after the other, so that the newest is the last."""
        self.newest_set = EARLIEST
        """When the newest set that took effect was changed."""
        self._changes = 0

    # ---- who waits ---------------------------------------------------------------------------------------------------

    def watch(self, uid: str, status: dict[str, Any]) -> Watch:
        """The watch of an object; its flag is raised at first."""
        if uid not in self._watches:
            self._watches[uid] = Watch(status)
            self._watches[uid].flag.set()
        return self._watches[uid]

    def forget(self, uid: str) -> None:
        """The object is gone, or nothing happens to it any more."""
        if watch := self._watches.pop(uid, None):
            self._objects.pop(watch.status.get("job", ""), None)

    def follow(self, job: str, uid: str) -> None:
        """Events of this job concern that object."""
        self._objects[job] = uid

    def touch(self, uid: str) -> None:
        """Something happened to the object itself."""
        if uid in self._watches:
            self._watches[uid].flag.set()

    def noticed(self, watch: Watch, generation: int, listed: datetime | None) -> None:
        """The object has this change. `listed`: when it was made, of one that was found in a list; None: just now."""
        if watch.generation == generation:
            return
        self._changes += listed is None
        watch.generation, watch.order = generation, (self._changes, listed or EARLIEST[1])
        watch.flag.set()

    def progress_pace(self) -> float:
        """Seconds between two looks at the steps of one running job."""
        return max(PROGRESS_S, len(self._objects) / LOOKS_PER_S)

    # ---- asking ------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[AsyncClient]:
        """The client, in turn. Raises Unreachable while the server is away. A token that is unknown is found anew."""
        async with self._room:
            if self._client is None:
                raise Unreachable(self.away)
            try:
                yield self._client
            except Unauthenticated as error:
                if self._revoked and not self._revoked.done():
                    self._revoked.set_exception(error)
                raise

    # ---- hearing -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hear what happens, for ever."""
        pause_s = FIRST_S
        while True:
            try:
                async with self._connected() as client:
                    await self._reached(client)
                    pause_s = FIRST_S
                    await self._hear(client)
            except OrchestratorError as error:
                self._lost(error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncClient]:
        """A client; it is closed when nobody uses it any more."""
        client = self._connect()
        try:
            yield client
        finally:
            self._client = None
            for _ in range(AT_ONCE):
                await self._room.acquire()
            await client.close()
            for _ in range(AT_ONCE):
                self._room.release()

    async def _reached(self, client: AsyncClient) -> None:
        self.in_force = await client.in_force()
        log.info("the server at %s answers", client.url)
        self._client, self.away = client, ""
        self._wake_all()

    async def _hear(self, client: AsyncClient) -> None:
        """Until the stream ends, or a request says what the stream does not: that the token is revoked."""
        revoked = self._revoked = asyncio.get_running_loop().create_future()
        stream = asyncio.ensure_future(self._read(client))
        try:
            await asyncio.wait({stream, revoked}, return_when=asyncio.FIRST_COMPLETED)
            (revoked if revoked.done() else stream).result()
        finally:
            stream.cancel()
            revoked.cancel()
            await asyncio.gather(stream, revoked, return_exceptions=True)

    async def _read(self, client: AsyncClient) -> None:
        after = self.in_force.head if self.in_force else 0
        async for event in client.events(after=after, follow=True):
            await self._heard(client, event)

    async def _heard(self, client: AsyncClient, event: EventView) -> None:
        if event.kind == "ContractInForce":
            self.in_force = await client.in_force()
            self._wake_all()
        elif uid := self._objects.get(event.job):
            self.touch(uid)

    def _lost(self, error: OrchestratorError) -> None:
        if not self.away:
            self._wake_all()  # each says on its object that what it shows may be old
        self._client, self.away = None, str(error).split("\n")[0]
        log.warning("the server is away: %s", self.away)

    def _wake_all(self) -> None:
        for watch in self._watches.values():
            watch.flag.set()
