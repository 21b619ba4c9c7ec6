"""An API server on paper: objects in a dictionary, and the calls of `client.Client` on them, on virtual time.

For what a test of the adapter has to say about the order of calls: a reply can be held back, and what it says is what
was so when the call was made. A test plays whoever else works there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, TypeVar

import msgspec

from orchestrator.adapters.providers.kubernetes import resources
from orchestrator.adapters.providers.kubernetes.errors import Absent, Meaning, Refused, Taken, problem
from orchestrator.model.offer import Reason
from orchestrator.ports.provider import Unreachable
from tests.kubernetes.cluster import Doc

T = TypeVar("T")
PLURALS = {kind.plural for kind in vars(resources).values() if isinstance(kind, resources.Kind)}


class PaperApi:
    """As much of `client.Client` as the adapter needs for objects."""

    name = "paper"

    def __init__(self) -> None:
        self.objects: dict[str, Doc] = {}
        """Path → object, in the order in which they were made."""
        self.asked: list[str] = []
        self.denied = set[str]()
        """Paths of lists and watches that answer 403, also those that are open."""
        self.full = set[str]()
        """Paths where nothing may be made any more: a quota of objects."""
        self.frozen = set[str]()
        """Paths whose watches open, and bring nothing."""
        self._said: list[tuple[int, str, str, Doc]] = []
        self._news = asyncio.Event()
        self._late: dict[str, asyncio.Event] = {}
        self._count = itertools.count(1)
        self.replies = 0

    # ---- what a test does -------------------------------------------------------------------------------------------

    @contextmanager
    def late(self, call: str) -> Iterator[None]:
        """The reply to calls like this comes when this is over; what it says is what was so when they were made."""
        self._late[call] = asyncio.Event()
        yield
        self._late.pop(call).set()

    def put(self, path: str, **fields: Any) -> Doc:
        """Somebody makes an object, or changes these fields of it."""
        where, name = path.rsplit("/", 1)
        made = {"metadata": {"name": name, "namespace": _space(where), "uid": f"u{next(self._count)}"}}
        known = self.objects.get(path, made)
        return self._write(path, known | fields, "MODIFIED" if path in self.objects else "ADDED")

    def drop(self, path: str) -> None:
        """Somebody deletes it."""
        self._write(path, self.objects[path], "DELETED")

    def deny(self, path: str) -> None:
        """See `denied`."""
        self.denied.add(path)
        self._tell()

    # ---- as the client ----------------------------------------------------------------------------------------------

    async def get(self, path: str, kind: type[T], **params: Any) -> T:
        """See Client."""
        if path.rsplit("/", 1)[1] in PLURALS:
            name = params.get("fieldSelector", "").removeprefix("metadata.name=")
            called = [doc for doc in self._of(path) if name in ("", doc["metadata"]["name"])]
            chosen = [doc for doc in called if _selected(doc, params.get("labelSelector", ""))]
            found: Doc = {"metadata": {"resourceVersion": str(self._said[-1][0] if self._said else 0)}, "items": chosen}
        else:
            found = self._there(path)
        return await self._reply("GET", path, found, kind)

    async def pages(self, path: str, kind: type[T], **params: Any) -> AsyncIterator[T]:
        """See Client; all at once."""
        yield await self.get(path, kind, **params)

    async def items(self, path: str, kind: type[Any], **params: Any) -> list[Any]:
        """See Client."""
        return [*(await self.get(path, kind, **params)).items]

    async def create(self, path: str, body: Doc, kind: type[T]) -> T:
        """See Client."""
        name = body["metadata"]["name"]
        if f"{path}/{name}" in self.objects:
            raise Taken(f"{path}/{name}")
        if path in self.full:
            self.asked.append(f"POST {path}")
            raise Refused("exceeded quota", Meaning(Reason.CAPACITY))
        meta = {**body["metadata"], "uid": f"u{next(self._count)}", "namespace": _space(path)}
        return await self._reply("POST", path, self._write(f"{path}/{name}", {**body, "metadata": meta}, "ADDED"), kind)

    async def merge(self, path: str, body: Doc, kind: type[T]) -> T:
        """See Client."""
        whole = path.removesuffix("/status")
        self._is(whole, body.get("metadata", {}))
        changed = self._write(whole, _merged(self._there(whole), body), "MODIFIED")
        return await self._reply("PATCH", path, changed, kind)

    apply = merge

    async def delete(self, path: str, *, uid: str = "", version: str = "", policy: str = "") -> bool:
        """See Client."""
        if path in self.objects:
            self._is(path, {"uid": uid, "resourceVersion": version})
            self._write(path, self.objects[path], "DELETED")
            return await self._reply("DELETE", path, True, bool)
        return await self._reply("DELETE", path, False, bool)

    async def alive(self) -> None:
        """See Client."""
        self.replies += 1

    async def aclose(self) -> None:
        """See Client."""

    async def lines(
        self, path: str, params: Mapping[str, Any], silence_s: float, opened: Callable[[], None]
    ) -> AsyncIterator[bytes]:
        """See Client: a watch, which ends when it was to."""
        at, until = int(params["resourceVersion"]), asyncio.get_running_loop().time() + int(params["timeoutSeconds"])
        self.asked.append(f"WATCH {path}")
        self._allowed(path)
        opened()
        while True:
            if path in self.frozen:
                await asyncio.sleep(silence_s)
                raise Unreachable(f"no reply to GET {path}")
            for version, verb, where, doc in [*self._said]:
                if version > at and _within(where, path) and _selected(doc, params.get("labelSelector", "")):
                    await self._pass(f"WATCH {path}")
                    yield json.dumps({"type": verb, "object": doc}).encode()
            at = self._said[-1][0] if self._said else at
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return
            self._allowed(path)

    # ---- within -----------------------------------------------------------------------------------------------------

    async def _reply(self, verb: str, path: str, found: Any, kind: type[T]) -> T:
        call, text = f"{verb} {path}", msgspec.json.encode(found)
        self.asked.append(call)
        gates = [gate for like, gate in self._late.items() if like in call]
        for gate in gates:
            await gate.wait()
        self._allowed(path)
        await asyncio.sleep(0.001)
        return msgspec.json.decode(text, type=kind)

    async def _pass(self, call: str) -> None:
        for gate in [gate for like, gate in self._late.items() if like in call]:
            await gate.wait()

    def _write(self, path: str, doc: Doc, verb: str) -> Doc:
        version = next(self._count)
        doc = deepcopy(doc)
        doc["metadata"]["resourceVersion"] = str(version)
        if verb == "DELETED":
            del self.objects[path]
        else:
            self.objects[path] = doc
        self._said.append((version, verb, path.rsplit("/", 1)[0], doc))
        self._tell()
        return doc

    def _tell(self) -> None:
        before, self._news = self._news, asyncio.Event()
        before.set()

    def _allowed(self, path: str) -> None:
        if path in self.denied:
            raise problem(403, b'{"message": "it is forbidden"}', None, f"GET {path}")

    def _of(self, path: str) -> list[Doc]:
        return [doc for where, doc in self.objects.items() if _within(where.rsplit("/", 1)[0], path)]

    def _there(self, path: str) -> Doc:
        if path not in self.objects:
            self.asked.append(f"GET {path}")
            raise Absent(f"{path}: 404")
        return self.objects[path]

    def _is(self, path: str, meta: Doc) -> None:
        for name in ("uid", "resourceVersion"):
            if meta.get(name) and meta[name] != self._there(path)["metadata"][name]:
                raise Taken(f"{path} has changed")


def _space(path: str) -> str:
    return path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in path else ""


def _within(where: str, path: str) -> bool:
    """Whether a list of this path holds what is there; one of no namespace holds those of all."""
    return path in (where, where.replace(f"/namespaces/{_space(where)}", ""))


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{name: _merged(base.get(name), value) for name, value in over.items()}}


def _selected(doc: Doc, selector: str) -> bool:
    labels = doc["metadata"].get("labels") or {}
    parts = [part.partition("=") for part in selector.split(",") if part]
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in parts)
