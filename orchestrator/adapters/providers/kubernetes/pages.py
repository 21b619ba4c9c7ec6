"""How are many records closed by one request? Launches that end together share a ConfigMap, a page.

Called by the scribe for launches of which nothing was written down before, and when a launch looks for its record.
While a page is being written, those that end meanwhile gather on the next one: the busier the cluster, the fuller the
pages, up to as many as the provider ends at a time. A page is never changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeAlias

from orchestrator.adapters.providers.kubernetes import records
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.resources import Many, Record, Thing

NAME_BYTES = 10
_Page: TypeAlias = tuple[dict[str, Mapping[str, str]], asyncio.Task[None]]
"""(launch key → what its record says, the writing of it)."""


class Pages:
    """The pages of one namespace; `path`: of its ConfigMaps."""

    def __init__(self, client: Client, path: str, entropy: Callable[[int], bytes]) -> None:
        self._client, self._path, self._entropy = client, path, entropy
        self._next: dict[str, _Page] = {}
        self._turn = asyncio.Lock()

    async def add(self, key: str, ledger: str, said: Mapping[str, str]) -> None:
        """Returns once it is written, together with others' of this ledger. Raises as the client does."""
        closed, written = self._next.get(ledger) or self._begin(ledger)
        closed[key] = said
        await asyncio.shield(written)

    async def find(self, key: str) -> Record | None:
        """The closed record of this launch, if it is on a page."""
        found = await self._client.get(self._path, Many[Record], labelSelector=records.on_page(key))
        every = (record for page in found.items for record in records.each(page))
        return next((record for record in every if record.metadata.name == key), None)

    def _begin(self, ledger: str) -> _Page:
        closed: dict[str, Mapping[str, str]] = {}
        self._next[ledger] = closed, asyncio.get_running_loop().create_task(self._write(ledger, closed))
        return self._next[ledger]

    async def _write(self, ledger: str, closed: Mapping[str, Mapping[str, str]]) -> None:
        async with self._turn:
            del self._next[ledger]
            name = f"ended-{self._entropy(NAME_BYTES).hex()}"
            await self._client.create(self._path, records.page(name, ledger, closed), Thing)
