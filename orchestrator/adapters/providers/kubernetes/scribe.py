"""Who writes into the records what was seen, and closes them when nothing is left?

Called by the provider at each look, after everything was told: machines are written once they are bound, and a record
is closed once its launch was stopped, its main object is gone and its machines are confirmed ended. A write that fails
is done at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from orchestrator.adapters.providers.kubernetes import records
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused, Taken
from orchestrator.adapters.providers.kubernetes.resources import RECORD, Many, Record, Thing
from orchestrator.adapters.providers.kubernetes.sightings import STOPPED
from orchestrator.model.offer import Charge
from orchestrator.ports.provider import ProviderError

AT_ONCE = 8
CLEAR_EVERY_US = 3_600_000_000


class Scribe:
    """The pen of one cluster's records."""

    def __init__(self, cluster: Cluster, now: Callable[[], int]) -> None:
        self._cluster, self._now = cluster, now
        self._cleared = now()
        self._gone: dict[str, Charge | None] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    def gone(self, key: str, bill: Charge | None) -> None:
        """Nothing is left of this launch, and this is its bill."""
        launch = self._cluster.launch(key)
        if launch.state == STOPPED and launch.main is None:
            self._gone[key] = bill

    async def write(self) -> None:
        """Everything that is to be written."""
        due = {key: records.closed(self._now(), bill=bill) for key, bill in self._gone.items()}
        memory = self._cluster.memory
        for key in memory.unwritten - self._gone.keys():
            if self._cluster.launch(key).record is not None:
                due[key] = records.with_machines(memory.machines[key])
        if due:
            await asyncio.gather(*(self._patch(key, change) for key, change in due.items()))
        if self._now() - self._cleared > CLEAR_EVERY_US:
            self._cleared = self._now()
            await self._clear()

    async def _clear(self) -> None:
        """Delete the closed records that have been kept for long enough."""
        client, space = self._cluster.client, self._cluster.connection.namespace
        with contextlib.suppress(ProviderError, Absent, Refused, Taken):
            page = await client.get(RECORD.path(space), Many[Record], labelSelector=records.OLD)
            for record in page.items:
                if records.outlived(record, self._now()):
                    await client.delete(RECORD.path(space, record.metadata.name), uid=record.metadata.uid)

    async def _patch(self, key: str, change: dict[str, object]) -> None:
        async with self._gate:
            path = RECORD.path(self._cluster.connection.namespace, key)
            try:
                await self._cluster.client.merge(path, change, Thing)
            except Absent:
                pass
            except (ProviderError, Refused, Taken):
                return
            self._gone.pop(key, None)
            self._cluster.memory.unwritten.discard(key)
