"""What is there in the cluster, of one kind, at this moment? A copy kept by list and watch.

Called by the provider, one mirror for each kind that it has to know. A watch goes on from where it was cut; bookmarks
keep that place fresh; where the server has forgotten it (410) everything is listed again. What was missed meanwhile is
told as if it had been watched. A mirror never ends by itself and never decides anything.
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

WATCH_S = 300
"""How long the server is asked to hold one watch; then the next one goes on from there."""
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between tries that fail."""


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

    def __init__(self, client: Client, path: str, kind: type[T], told: Told[T], selector: str = "") -> None:
        self._client, self._path, self._kind, self._told, self._selector = client, path, kind, told, selector
        self._many: type[Many[T]] = Many[kind]  # type: ignore[valid-type]
        self._version = ""
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

    def must_live(self) -> None:
        """Raises what ended it, if anything did: a fault of this program's."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    def again(self) -> None:
        """The connection may be dead without anybody having noticed: take it up anew, from where it was."""
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
        failures = 0
        while True:
            pause = RETRY_S[min(failures, len(RETRY_S) - 1)]
            try:
                if not self._version:
                    await self._list()
                failures, self.failing = 0, None
                self.synced.set()
                await self._watch()
                continue
            except Expired:
                self._version = ""
                continue
            except Throttled as error:
                self.failing, pause = error, error.retry_after_us / 1e6
            except (ProviderError, Absent, Taken, Refused) as error:
                self.failing = error
            failures += 1
            await asyncio.sleep(pause)

    async def _list(self) -> None:
        found: dict[tuple[str, str], T] = {}
        async for page in self._client.pages(self._path, self._many, **self._selects()):
            found |= {_name(item): item for item in page.items}
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

    async def _watch(self) -> None:
        params: dict[str, str | int] = {
            "watch": "true", "resourceVersion": self._version, "allowWatchBookmarks": "true", "timeoutSeconds": WATCH_S,
            **self._selects(),
        }  # fmt: skip
        async for line in self._client.lines(self._path, params):
            try:
                self._take(msgspec.json.decode(line, type=Event))
            except msgspec.MsgspecError as error:  # cut off in the middle of a line
                raise Unreachable(f"watch of {self._path} broke off ({error})") from error

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
