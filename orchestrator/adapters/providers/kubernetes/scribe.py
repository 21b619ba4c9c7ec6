"""Who makes the records, writes into them what was seen, and closes them when nothing is left?

Called by the provider at each look, after everything was told: machines are written once they are bound, and a record
is closed once its launch was stopped, its main object is gone and its machines are confirmed ended. A write that fails
is done at a later look. Launches and reservations have their own words put down here (`put`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.adapters.providers.kubernetes import billing, records
from orchestrator.adapters.providers.kubernetes.bills import Bills
from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.errors import Absent, Expired, Refused, Taken
from orchestrator.adapters.providers.kubernetes.resources import KEY, OURS, POD, RECORD, Many, Meta, Pod, Record, Thing
from orchestrator.adapters.providers.kubernetes.sightings import STOPPED
from orchestrator.ports.provider import ProviderError, Throttled

AT_ONCE = 8
CLEAR_EVERY_US = 3_600_000_000
CLEAR_AGAIN_US = 60_000_000
"""Where it could not be done."""
AGAIN_US = 5_000_000
"""How often a write is tried that the cluster does not take."""


class Scribe:
    """The pen of one cluster's records."""

    def __init__(self, cluster: Cluster, bills: Bills, now: Callable[[], int]) -> None:
        self._cluster, self._bills, self._now = cluster, bills, now
        self._clear_at = now() + CLEAR_EVERY_US
        self._gone: set[str] = set()
        self._not_before: dict[str, int] = {}
        """key → when a write that failed is tried again."""
        self._gate = asyncio.Semaphore(AT_ONCE)

    def gone(self, key: str) -> None:
        """Nothing is left of this launch: its bill is told, and its record closed if nothing will be."""
        launch = self._cluster.launch(key)
        self._bills.settle(launch)
        if launch.state == STOPPED and launch.main is None:
            self._gone.add(key)

    def closing(self, key: str) -> dict[str, Any]:
        """The last change of the record of a launch of which nothing is left, with its bill, which is told."""
        return records.closed(self._now(), bill=self._bills.settle(self._cluster.launch(key)))

    async def put(self, key: str, ledger: str, change: Mapping[str, Any]) -> None:
        """Have the record say so: made with it where there is none; left alone where it is not ours."""
        cluster, memory = self._cluster, self._cluster.memory
        launch = cluster.launch(key)
        watched, change = launch.record, {**change, "data": billing.unrecorded(launch) | change["data"]}
        if watched is not None and watched.metadata.ours:
            with contextlib.suppress(Taken, Absent):  # replaced, or deleted, since
                await self._merge(key, records.of(watched.metadata.uid, change))
                return
        try:
            path, seen = RECORD.path(cluster.connection.namespace), records.with_machines(memory.machines.get(key, {}))
            whole = {**change, "data": seen["data"] | change["data"]}
            await cluster.client.create(path, records.new(key, ledger, whole), Thing)
        except Taken:
            await self._change(key, change)
        else:
            if records.closes(change):
                memory.closed.add(key)
            elif cluster.launch(key).record is None:  # its watch may have been quicker than the reply
                memory.coming.add(key)

    async def _change(self, key: str, change: Mapping[str, Any]) -> None:
        """The record is there, and is not watched: closed, or not told yet."""
        found = await self._cluster.client.get(RECORD.path(self._cluster.connection.namespace, key), Record)
        if not found.metadata.ours:
            return
        if found.metadata.label(records.MARK) == records.CLOSED:
            self._cluster.memory.closed.add(key)
            return  # it has its last change, and its bill
        await self._merge(key, records.of(found.metadata.uid, change))

    async def _merge(self, key: str, change: Mapping[str, Any]) -> None:
        await self._cluster.client.merge(RECORD.path(self._cluster.connection.namespace, key), change, Thing)
        if records.closes(change):
            self._cluster.memory.closed.add(key)

    async def write(self) -> None:
        """Everything that is to be written."""
        memory = self._cluster.memory
        due: dict[str, tuple[str, dict[str, Any]]] = {key: ("", self.closing(key)) for key in self._gone}
        for key, ledger in memory.unwritten.items():
            if key not in self._gone and key not in memory.closed:
                due[key] = ledger, records.with_seen(memory.machines.get(key, {}))
        now = [(key, *what) for key, what in due.items() if self._not_before.get(key, 0) <= self._now()]
        await asyncio.gather(*(self._write(*one) for one in now))
        if self._now() >= self._clear_at:
            self._clear_at = self._now() + CLEAR_AGAIN_US
            with contextlib.suppress(ProviderError, Absent, Expired, Refused):
                await self._clear()
                self._clear_at = self._now() + CLEAR_EVERY_US

    async def _clear(self) -> None:
        """Delete the closed records that have been kept for long enough."""
        path = RECORD.path(self._cluster.connection.namespace)
        async for page in self._cluster.client.pages(path, Many[Record], labelSelector=records.OLD):
            old = (record.metadata for record in page.items if records.outlived(record, self._now()))
            await asyncio.gather(*map(self._delete, old))

    async def _delete(self, meta: Meta) -> None:
        async with self._gate:
            with contextlib.suppress(Taken):  # another of its name by now
                await self._cluster.client.delete(RECORD.path(meta.namespace, meta.name), uid=meta.uid)

    async def _untold(self, key: str) -> bool:
        """Whether a launch of which nothing seems to be left has pods all the same: watches of two kinds do not keep
        step, and what is written down now says that it is gone."""
        launch = self._cluster.launch(key)
        if launch.machines:
            return False
        if launch.pods:
            return True  # their machines are not known yet
        path = POD.path(self._cluster.connection.namespace)
        return bool((await self._cluster.client.get(path, Many[Pod], labelSelector=f"{OURS},{KEY}={key}")).items)

    async def _write(self, key: str, ledger: str, change: dict[str, Any]) -> None:
        async with self._gate:
            try:
                if ledger and await self._untold(key):
                    return
                if ledger:
                    await self.put(key, ledger, change)
                else:
                    await self._merge(key, change)
            except Absent:
                if ledger:
                    return  # it was deleted while it was read, and is made anew
            except (ProviderError, Refused, Taken) as error:
                pause = error.retry_after_us if isinstance(error, Throttled) else 0
                self._not_before[key] = self._now() + max(pause, AGAIN_US)
                return
            self._not_before.pop(key, None)
            memory = self._cluster.memory
            self._gone.discard(key)
            if records.closes(change) or change == records.with_seen(memory.machines.get(key, {})):
                memory.unwritten.pop(key, None)  # else more was seen meanwhile
            self._cluster.written(key)
