"""Who writes into the records what was seen, and closes them when nothing is left?

Called by the provider at each look, after everything was told: machines are written once they are bound, and a record
is closed once its launch was stopped, its main object is gone and its machines are confirmed ended. A write that fails
is done at the next look.
"""

from __future__ import annotations

import asyncio

from orchestrator.adapters.providers.kubernetes import records
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused, Taken
from orchestrator.adapters.providers.kubernetes.resources import RECORD, Thing
from orchestrator.adapters.providers.kubernetes.sightings import STOPPED
from orchestrator.ports.provider import ProviderError

AT_ONCE = 8


class Scribe:
    """The pen of one cluster's records."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._gone: set[str] = set()
        self._gate = asyncio.Semaphore(AT_ONCE)

    def gone(self, key: str) -> None:
        """Nothing is left of this launch."""
        launch = self._cluster.launch(key)
        if launch.state == STOPPED and launch.main is None:
            self._gone.add(key)

    async def write(self) -> None:
        """Everything that is to be written."""
        due = {key: records.closing() for key in self._gone}
        memory = self._cluster.memory
        for key in memory.unwritten - self._gone:
            if self._cluster.launch(key).record is not None:
                due[key] = records.with_machines(memory.machines[key])
        if due:
            await asyncio.gather(*(self._patch(key, change) for key, change in due.items()))

    async def _patch(self, key: str, change: dict[str, object]) -> None:
        async with self._gate:
            path = RECORD.path(self._cluster.connection.namespace, key)
            try:
                await self._cluster.client.merge(path, change, Thing)
            except Absent:
                pass
            except (ProviderError, Refused, Taken):
                return
            self._gone.discard(key)
            self._cluster.memory.unwritten.discard(key)
