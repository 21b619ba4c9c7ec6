"""Why has a launch no pods? What the cluster's events say of objects that cannot make them.

Called by the provider at each look. Admission refuses pods, not the RayJob or Job that wants them, and only an event
says so: a quota, Pod Security, a webhook. Asked for seldom, and only for launches that lack pods. Reads only; an
account that may not list events goes without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress

from orchestrator.adapters.providers.kubernetes.cluster import Cluster
from orchestrator.adapters.providers.kubernetes.errors import Absent, Expired, Refused
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
            heard = await self._said(lacking)
        except Misconfigured:
            self._next, heard = self._now() + FORBIDDEN_US, {}
        except (ProviderError, Absent, Refused):
            return
        self._cluster.complains(heard)

    def _lacks(self, seen: Sighting) -> bool:
        main = self._cluster.main(seen.key)
        return main is not None and not main.spec.suspend and len(seen.machines) < (main.spec.completions or 1)

    async def _said(self, lacking: Iterable[str]) -> dict[str, str]:
        """By key, the last complaint about its main object or, of a RayJob, its cluster; of many by one listing."""
        about = {name: key for key in lacking for name in self._names(key)}
        last: dict[str, Happening] = {}
        one_by_one = [f",involvedObject.name={name}" for name in about]
        for narrowed in one_by_one if len(set(about.values())) <= 1 else [""]:
            async for one in self._warnings(f"type=Warning{narrowed}"):
                key = about.get(one.involved_object.name, "")
                if key and (key not in last or one.at >= last[key].at):
                    last[key] = one
        return {key: f"{one.reason}: {one.message}" for key, one in last.items()}

    async def _warnings(self, fields: str) -> AsyncIterator[Happening]:
        """As many as can be read: a long listing may outlast the version of the namespace that it is of."""
        path = EVENT.path(self._cluster.connection.namespace)
        with suppress(Expired):
            async for page in self._cluster.client.pages(path, Many[Happening], fieldSelector=fields):
                for one in page.items:
                    yield one

    def _names(self, key: str) -> list[str]:
        """What such events are about."""
        main = self._cluster.main(key)
        return [name_of(key), *([main.status.ray_cluster_name] if main and main.status.ray_cluster_name else [])]
