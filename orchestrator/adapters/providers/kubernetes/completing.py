"""Which launches are half made, and how do they become whole?

Asked by the launching of an order and by the provider at each look. A Job takes its key; its Secret and its Service are
two calls more, and a crash, a lost reply or a refusal may come between. Nobody orders such a launch again, for its Job
is seen, and its pods would wait for what never comes. So whatever has not started, and is not known to be whole, is
completed from its Job, which says all that is needed. What is there already stays; nothing is ever deleted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from orchestrator.adapters.providers.kubernetes import sightings
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused, Taken
from orchestrator.adapters.providers.kubernetes.objects import beside, name_of
from orchestrator.adapters.providers.kubernetes.resources import JOB, KINDS, LEDGER, Kind, Meta, Thing
from orchestrator.model.offer import SightingState
from orchestrator.ports.provider import ProviderError, Throttled

TOKEN_BYTES = 32
EVERY_US = 2_000_000
"""How often what is half made is tried."""
MOST = 100
"""Launches that are tried in one look: after a restart there are as many as have not started, and looks must go on."""
AT_ONCE = 8


class Completing:
    """The half-made launches of one ledger in one cluster; which they are is in the cluster's memory (`half`)."""

    def __init__(self, cluster: Cluster, ledger: str, now: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self._cluster, self._client, self._ledger = cluster, cluster.client, ledger
        self._now, self._entropy = now, entropy
        self._whole: set[str] = set()
        self._busy: set[str] = set()
        self._next = now()
        self._gate = asyncio.Semaphore(AT_ONCE)

    def token(self) -> str:
        """Ray's, for one gang."""
        return self._entropy(TOKEN_BYTES).hex()

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Meanwhile a look leaves this launch to whoever makes it; the next one takes it up where that has failed."""
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)
            if key not in self._whole:
                self._cluster.dirty.add(key)

    async def create(self, key: str, documents: Sequence[dict[str, Any]], kind: Kind, main: Meta) -> None:
        """Make what belongs to a main object, owned by it. What is there already stays. Raises as the client does."""
        owner = {"apiVersion": kind.api_version, "kind": kind.name, "name": main.name, "uid": main.uid}
        for document in documents:
            document["metadata"]["ownerReferences"] = [owner]
            try:
                path = KINDS[document["kind"]].path(self._cluster.connection.namespace)
                await self._client.create(path, document, Thing)
            except Taken:
                continue  # from the last time
        self._whole.add(key)

    async def complete(self, key: str, kind: Kind) -> None:
        """The same for a main object that is there. Raises as the client does."""
        if kind is JOB:
            path = JOB.path(self._cluster.connection.namespace, name_of(key))
            main = await self._client.get(path, dict)
            await self.create(key, beside(main, self.token()), kind, msgspec.convert(main["metadata"], Meta))

    async def look(self, news: Iterable[str]) -> None:
        """Complete what is half made, some of it now and the rest soon. `news`: keys of which something was told."""
        half = self._cluster.memory.half
        half.update({key: "" for key in news if key not in half and self._lacks(key)})
        if half and self._now() >= self._next:
            self._next = self._now() + EVERY_US
            await asyncio.gather(*(self._try(key) for key in [*half][:MOST]))

    def _lacks(self, key: str) -> bool:
        """Whether it has not started yet, and may not be whole."""
        main = self._cluster.main(key)
        if main is None:
            self._whole.discard(key)
            return False
        if main.kind != JOB.name or key in self._whole or key in self._busy:
            return False
        if main.metadata.label(LEDGER) != self._ledger:
            return False
        return sightings.state(self._cluster.launch(key)) is SightingState.PROVISIONING

    async def _try(self, key: str) -> None:
        half = self._cluster.memory.half
        why, before = "", half.pop(key)
        async with self._gate:
            try:
                if self._lacks(key):
                    await self.complete(key, JOB)
            except Absent:
                pass  # deleted meanwhile
            except (ProviderError, Refused, Taken) as error:
                if isinstance(error, Throttled):
                    self._next = max(self._next, self._now() + error.retry_after_us)
                why = f"its Secret and its Service are not there yet: {error}"
                half[key] = why  # put back last: the others have their turn
        if why != before:
            self._cluster.dirty.add(key)
