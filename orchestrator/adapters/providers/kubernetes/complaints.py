"""Why has a launch no pods? What the cluster's events say of objects that cannot make them.

Called by the provider at each look. Admission refuses pods, not the RayJob or Job that wants them, and only an event
says so: a quota, Pod Security, a webhook. Asked for seldom, and only for launches that lack pods. Reads only; an
account that may not list events goes without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.resources import EVENT, Happening, Many
from orchestrator.model.offer import Sighting, SightingState
from orchestrator.ports.provider import Misconfigured, ProviderError

EVERY_US = 15_000_000
"""How often one launch that lacks pods is asked about: as often as controllers try again, about."""
FORBIDDEN_US = 600_000_000
"""How long we do not ask again after we were not allowed to."""


class Complaints:
    """Of the launches of one cluster."""

    def __init__(self, cluster: Cluster, now: Callable[[], int]) -> None:
        self._cluster, self._now = cluster, now
        self._next = now() + EVERY_US

    async def hear(self, told: Iterable[Sighting]) -> None:
        """Put down what is said of those that lack pods, and forget it of all others. `told`: what was last told."""
        if self._now() < self._next:
            return
        self._next = self._now() + EVERY_US
        lacking = [seen.key for seen in told if seen.state is SightingState.PROVISIONING and self._lacks(seen)]
        try:
            heard = await asyncio.gather(*(self._of(key) for key in lacking))
        except Misconfigured:
            self._next, heard = self._now() + FORBIDDEN_US, [""] * len(lacking)
        except (ProviderError, Absent, Refused):
            return
        self._cluster.complains({key: said for key, said in zip(lacking, heard, strict=True) if said})

    def _lacks(self, seen: Sighting) -> bool:
        main = self._cluster.main(seen.key)
        return main is not None and not main.spec.suspend and len(seen.machines) < (main.spec.completions or 1)

    async def _of(self, key: str) -> str:
        """The last complaint about its main object or, of a RayJob, its cluster; empty: there is none."""
        main = self._cluster.main(key)
        about = [name_of(key), *([main.status.ray_cluster_name] if main and main.status.ray_cluster_name else [])]
        found: list[Happening] = []
        for name in about:
            fields = f"type=Warning,involvedObject.name={name}"
            path = EVENT.path(self._cluster.connection.namespace)
            found += (await self._cluster.client.get(path, Many[Happening], fieldSelector=fields, limit=50)).items
        last = max(found, key=lambda one: one.at, default=None)
        return f"{last.reason}: {last.message}" if last else ""
