"""What is there in the cluster, of one kind, at this moment? A copy kept by list and watch.

Called by the provider, one mirror for each kind that it has to know. A watch goes on from where it was cut; bookmarks
keep that place fresh; where the server has forgotten it (410), or nothing newer was known for long, everything is
listed again. What was missed meanwhile is told as if it had been watched. A mirror never ends by itself and never
decides anything; once its tries have failed for `STALE_S`, what it holds stands for nothing until it is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct

from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.errors import Absent, Expired, Refused, Taken, problem
from orchestrator.adapters.providers.kubernetes.resources import Many, Meta
from orchestrator.ports.provider import ProviderError, Throttled, Unreachable

WATCH_S = 60
"""How long the server is asked to hold one watch; then the next one goes on from there. That the server ends it in time
is the proof that nothing was missed where nothing happens."""
ENDS_S = 10
"""A watch that brings nothing, and that the server has not ended by so long after it was to, is dead."""
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between tries that fail."""
LIVED_S = 5.0
"""A watch that has been open for so long works, though it may have brought nothing."""
STALE_S = 30.0
"""For how long, while tries fail, what was known is still good enough: an API server is restarted in that time."""


class HasMeta(Protocol):
    """Anything read from the cluster."""

    @property
    def metadata(self) -> Meta:
        """See `Meta`."""
        ...


T = TypeVar("T", bound=HasMeta)
Told = Callable[[T, bool], None]
"""(object, whether it is gone)."""


class Event(Struct):
    """One line of a watch."""

    type: str
    object: Raw


class _Bookmark(Struct):
    metadata: Meta


class Mirror(Generic[T]):
    """All objects of one kind that a selector selects, as last told."""

    def __init__(
        self, client: Client, path: str, kind: type[T], told: Told[T], selector: str = "", *, hold_s: int = WATCH_S
    ) -> None:
        self._client, self._path, self._kind, self._told, self._selector = client, path, kind, told, selector
        self._hold_s, self._silence_s = hold_s, hold_s + ENDS_S
        self._many: type[Many[T]] = Many[kind]  # type: ignore[valid-type]
        self._version = ""
        self._listing = False
        self._tries = 0
        self._failing_since = self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.objects: dict[tuple[str, str], T] = {}
        """(namespace, name) → object."""
        self.synced = asyncio.Event()
        """Set once everything was listed."""
        self.failing: Exception | None = None
        """Why it knows nothing newer; None: it is up to date, as far as it can know."""
        self.lists = 0
        """How often everything was listed."""

    def start(self) -> None:
        """Keep up from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def once(self) -> None:
        """List everything now, before keeping up. Raises as the client does."""
        await self._list()

    @property
    def stale(self) -> bool:
        """Whether tries have failed, or watches have brought nothing at all, for so long that it stands for nothing."""
        now = asyncio.get_running_loop().time()
        failed = self.failing is not None and now - self._failing_since > STALE_S
        return failed or (self.synced.is_set() and now - self._heard_at > self._silence_s + STALE_S)

    def known(self) -> bool:
        """Whether everything was read, and was kept up since. Raises why it cannot be.

        Also raises what ended this mirror, if anything did: a fault of this program's.
        """
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        if self.failing is not None and (self.stale or not self.synced.is_set()):
            raise self.failing
        if self.stale:
            why = "are opened and bring nothing; a proxy on the way may hold them back"
            raise Unreachable(f"provider {self._client.name}: watches of {self._path} {why}")
        return self.synced.is_set()

    def again(self) -> None:
        """The connection may be dead without anybody having noticed: take it up anew, from where it was."""
        if self._listing:
            return  # its calls end by themselves; a long list that was begun anew each time would never be whole
        if self.stale or not self.synced.is_set():
            self.synced.clear()
            self._version, self.failing = "", None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.start()

    async def aclose(self) -> None:
        """Stop keeping up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _run(self) -> None:
        while True:
            self._tries += 1
            least = 0.0
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                if not self._tries:
                    self._heard_at = asyncio.get_running_loop().time()
                    continue
            except Expired:
                self._version = ""
            except Throttled as error:
                self._fails(error)
                least = error.retry_after_us / 1e6
            except (ProviderError, Absent, Taken, Refused) as error:
                self._fails(error)
            await asyncio.sleep(max(least, RETRY_S[min(self._tries, len(RETRY_S) - 1)]))

    def _works(self) -> None:
        self._tries, self.failing = 0, None

    def _fails(self, error: Exception) -> None:
        if self.failing is None:
            self._failing_since = asyncio.get_running_loop().time()
        self.failing = error
        if self.stale:
            self._version = ""  # once it answers, everything is known at once, and not one event after the other

    async def _list(self) -> None:
        found: dict[tuple[str, str], T] = {}
        self._listing = True
        try:
            async for page in self._client.pages(self._path, self._many, **self._selects()):
                found |= {_name(item): item for item in page.items}
        finally:
            self._listing = False
        self.lists += 1
        before, self.objects = self.objects, found
        self._version = page.metadata.resource_version
        for name, item in before.items():
            if name not in found or found[name].metadata.uid != item.metadata.uid:
                self._told(item, True)
        for name, item in found.items():
            known = before.get(name)
            if known is None or known.metadata.resource_version != item.metadata.resource_version:
                self._told(item, False)
        self.failing, self._heard_at = None, asyncio.get_running_loop().time()
        self.synced.set()

    async def _watch(self) -> None:
        params: dict[str, str | int] = {
            "watch": "true", "resourceVersion": self._version, "allowWatchBookmarks": "true",
            "timeoutSeconds": self._hold_s, **self._selects(),
        }  # fmt: skip
        lived: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()

        def opened() -> None:
            lived.append(loop.call_later(LIVED_S, self._works))

        try:
            async for line in self._client.lines(self._path, params, self._silence_s, opened):
                self._take(msgspec.json.decode(line, type=Event))
                self._works()
                self._heard_at = loop.time()
        except msgspec.MsgspecError as error:  # cut off in the middle of a line
            raise Unreachable(f"watch of {self._path} broke off ({error})") from error
        finally:
            for timer in lived:
                timer.cancel()

    def _take(self, event: Event) -> None:
        if event.type == "ERROR":
            raise problem(_code(event.object), bytes(event.object), None, f"watch of {self._path}")
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
            return
        item = msgspec.json.decode(event.object, type=self._kind)
        gone = event.type == "DELETED"
        if gone:
            self.objects.pop(_name(item), None)
        else:
            self.objects[_name(item)] = item
        self._version = item.metadata.resource_version
        self._told(item, gone)

    def _selects(self) -> dict[str, str | int]:
        return {"labelSelector": self._selector} if self._selector else {}


class _Code(Struct):
    code: int = 0


def _code(data: Raw) -> int:
    return msgspec.json.decode(data, type=_Code).code


def _name(item: HasMeta) -> tuple[str, str]:
    return item.metadata.namespace, item.metadata.name
