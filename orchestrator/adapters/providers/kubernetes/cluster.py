"""What do we know of this cluster at this moment, and of the launches in it?

Made by the provider. Holds one mirror per kind, the memory of machines, and which launches have news. A fresh look
(`look`) asks the API server itself, for listings that must not lag. Reads only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from orchestrator.adapters.providers.kubernetes import records
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused
from orchestrator.adapters.providers.kubernetes.kueue import asked_of
from orchestrator.adapters.providers.kubernetes.machines import witnesses
from orchestrator.adapters.providers.kubernetes.memory import Memory
from orchestrator.adapters.providers.kubernetes.objects import Runtime, name_of
from orchestrator.adapters.providers.kubernetes.resources import (
    JOB,
    KEY,
    LEDGER,
    LIMIT_RANGE,
    NODE,
    OURS,
    POD,
    QUOTA,
    RAY_JOB,
    RECORD,
    WORKLOAD,
    Kind,
    LimitRange,
    Main,
    Many,
    Meta,
    Node,
    Pod,
    Quota,
    Record,
    Workload,
)
from orchestrator.adapters.providers.kubernetes.room import Stock
from orchestrator.adapters.providers.kubernetes.sightings import Launch, sighting
from orchestrator.adapters.providers.kubernetes.watching import Mirror
from orchestrator.model.offer import Sighting
from orchestrator.ports.provider import Misconfigured, ProviderError, Unreachable

_MANY: dict[type[Any], Any] = {Record: Many[Record], Pod: Many[Pod], Main: Many[Main], Node: Many[Node]}
RAY_POD = "ray.io/cluster"
"""KubeRay's label on each of its pods."""
NEVER = 1 << 62
RAY_EVERY_US = 60_000_000
"""How often, where KubeRay is wanted and was not there, one request asks whether it has come."""
NODES_S = 30
"""How long one watch of nodes is held: one that hangs is noticed before anybody but a kubelet may say that a pod ended
(Kubernetes' collector of pods without a node waits for 40 s), and is out of reach before a pod that vanished counts as
ended (`machines.AWAY_S`)."""
FEW = 10
"""So many nodes are asked for one by one; beyond, all are listed."""
SYNC_S = 10.0
"""How long the first listing may take before the cluster counts as out of reach."""


class Cluster:
    """One cluster, as seen from one namespace of it."""

    def __init__(self, client: Client, connection: Connection, now: Callable[[], int]) -> None:
        self.client, self.connection, self._now = client, connection, now
        self.memory = Memory()
        self.dirty: set[str] = set()
        """Keys with news."""
        self.freed = False
        """Room came free since it was last looked at."""
        self.unheard: set[str] = set()
        """Workloads (uids) whose end is not to be told as room."""
        self.news = asyncio.Event()
        self.runtime: Runtime = "job"
        self._kinds: tuple[Kind, ...] = ()
        self._look_for_ray_at = NEVER
        self._complaints: dict[str, str] = {}
        self._mine: dict[str, set[tuple[str, str]]] = {}
        self._starting = asyncio.Lock()
        self._stock: Stock | None = None
        self._by_name: Mapping[str, Node] | None = None

    # ---- keeping up ------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Everything was read, and has been kept up since. Raises why it is not so, as the client does."""
        async with self._starting:
            if not self._kinds:
                await self._begin()
            elif self._now() >= self._look_for_ray_at:
                await self._look_for_ray()
        for mirror in self.mirrors:
            try:
                async with asyncio.timeout(SYNC_S):
                    await _known(mirror)
            except TimeoutError as error:
                raise Unreachable(f"provider {self.client.name}: nothing was listed within {SYNC_S} s") from error

    async def _begin(self) -> None:
        ray, wanted = await self._may_use_ray(), self.connection.runtime
        self.runtime = "kuberay" if wanted == "kuberay" or (wanted == "auto" and ray) else "job"
        kinds = (JOB, RAY_JOB) if ray else (JOB,)
        space, client = self.connection.namespace, self.client
        everywhere = not self.connection.queue
        self.nodes = Mirror(client, NODE.path(), Node, self._node, hold_s=NODES_S)
        self.pods = Mirror(
            client, POD.path("" if everywhere else space), Pod, self._pod, "" if everywhere else OURS
        )  # fmt: skip
        self.records = Mirror(client, RECORD.path(space), Record, self._record, records.SELECTOR)
        self.mains = {kind: Mirror(client, kind.path(space), Main, self._main, OURS) for kind in kinds}
        self._workloads = None if everywhere else Mirror(client, WORKLOAD.path(space), Workload, self._workload, OURS)
        self.quotas = Mirror(client, QUOTA.path(space), Quota, self._changed) if everywhere else None
        self.ranges = await self._limit_ranges() if everywhere else None
        await self.nodes.once()  # what machines are said to be depends on their nodes
        self.freed = False  # nobody has been told yet that there was no room on them
        self._kinds = kinds
        if wanted != "job" and not ray:
            self._look_for_ray_at = self._now() + RAY_EVERY_US
        for mirror in self.mirrors:
            mirror.start()

    async def _limit_ranges(self) -> Mirror[LimitRange] | None:
        """None: we may not read them, so that what a quota says of limits is left to admission."""
        mirror = Mirror(self.client, LIMIT_RANGE.path(self.connection.namespace), LimitRange, self._changed)
        try:
            await mirror.once()
        except Misconfigured:
            return None
        return mirror

    async def _may_use_ray(self) -> bool:
        """Whether KubeRay's objects are there and ours to read. Who asks for KubeRay finds out by the first listing."""
        if not await self._serves(RAY_JOB):
            return False
        space, get = self.connection.namespace, self.client.get
        try:
            await get(RAY_JOB.path(space), Many[Main], limit=1, labelSelector=OURS)
        except Misconfigured:
            # an unseen RayJob would pass for one that was deleted, and its launch for one that ends
            left = await get(POD.path(space), Many[Pod], limit=1, labelSelector=f"{OURS},{RAY_POD}")
            if self.connection.runtime == "kuberay" or left.items:
                raise
            return False
        return True

    async def _look_for_ray(self) -> None:
        """KubeRay may have been installed after us: from then on it is used, once its objects can be read."""
        self._look_for_ray_at = self._now() + RAY_EVERY_US
        mirror = Mirror(self.client, RAY_JOB.path(self.connection.namespace), Main, self._main, OURS)
        with contextlib.suppress(ProviderError, Absent, Refused):  # not there, or not ours to use: as before
            if not await self._serves(RAY_JOB):
                return
            await mirror.once()
            mirror.start()
            self.mains[RAY_JOB] = mirror
            self._kinds, self.runtime, self._look_for_ray_at = (*self._kinds, RAY_JOB), "kuberay", NEVER

    @property
    def mirrors(self) -> list[Mirror[Any]]:
        """All of them."""
        found = [self.nodes, self.records, *self.mains.values(), self.pods, self._workloads, self.quotas, self.ranges]
        return [mirror for mirror in found if mirror is not None]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of main objects that this cluster serves."""
        return self._kinds

    def again(self) -> None:
        """The cluster was out of reach: watches may be dead without anybody having noticed."""
        for mirror in self.mirrors if self._kinds else ():
            mirror.again()

    async def aclose(self) -> None:
        """Watch nothing any more."""
        for mirror in self.mirrors if self._kinds else ():
            await mirror.aclose()

    async def _serves(self, kind: Kind) -> bool:
        try:
            found = await self.client.get(f"/apis/{kind.group}/{kind.version}", dict)
        except Absent:
            return False
        return any(one.get("name") == kind.plural for one in found.get("resources", ()))

    # ---- what was told ---------------------------------------------------------------------------------------------

    def _node(self, node: Node, gone: bool) -> None:
        self._stock = self._by_name = None
        if self.memory.node(node, gone, self._now()):
            self.freed = True
            self.news.set()
        name = node.metadata.name
        for key, machines in self.memory.machines.items():
            if any(machine.node == name for machine in machines.values()):
                self._dirty(key)

    def _pod(self, pod: Pod, gone: bool) -> None:
        self._stock = None
        if pod.spec.node_name and (gone or pod.over):
            self.freed = True
            self.news.set()
        key = pod.metadata.label(KEY)
        if not key or not pod.metadata.ours or pod.metadata.namespace != self.connection.namespace:
            return
        self.memory.pod(pod, self.by_name if self.nodes.failing is None else {})  # an end is believed for good
        name = (pod.metadata.namespace, pod.metadata.name)
        mine = self._mine.setdefault(key, set())
        if not gone:
            mine.add(name)
        else:
            mine.discard(name)
            if not mine:
                del self._mine[key]
                self._left(key, pod.metadata)
        self._dirty(key)

    def _record(self, record: Record, gone: bool) -> None:
        key = record.metadata.label(KEY)
        self.memory.coming.discard(key)
        if gone:
            self.memory.forget(key)
            self.written(key)
        else:
            self.memory.record(key, records.machines_of(record))
        self._dirty(key)

    def _main(self, main: Main, gone: bool) -> None:
        key = main.metadata.label(KEY)
        if not gone:
            self.memory.main(main.metadata)
        elif key:
            self._left(key, main.metadata)
        self._dirty(key)

    def _left(self, key: str, meta: Meta) -> None:
        """Something of this launch is gone. If it was the last, and not by us, that is to be written down."""
        there = self._there(key) or (self.connection.namespace, key) in self.records.objects
        if there or key in self.memory.coming:
            return
        if key in self.memory.closed:
            self.memory.closed.discard(key)
            self.memory.forget(key)
        else:
            self.memory.unwritten[key] = meta.label(LEDGER)

    def written(self, key: str) -> None:
        """Its record was written, or is not watched any more."""
        if not self._there(key):
            self.memory.closed.discard(key)
        self._dirty(key)

    def _changed(self, limit: Quota | LimitRange, gone: bool) -> None:
        self._stock = None
        self.freed = True
        self.news.set()

    def _workload(self, workload: Workload, gone: bool) -> None:
        self.freed = self.freed or (gone and workload.metadata.uid not in self.unheard)
        self.unheard -= {workload.metadata.uid} if gone else set()
        self.news.set()

    def complains(self, heard: dict[str, str]) -> None:
        """Why these launches have no pods; all others have them."""
        before, self._complaints = self._complaints, heard
        for key in {*before, *heard}:
            if before.get(key) != heard.get(key):
                self._dirty(key)

    def _dirty(self, key: str) -> None:
        if key:
            self.dirty.add(key)
            self.news.set()

    # ---- what is so ------------------------------------------------------------------------------------------------

    @property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by name."""
        if self._by_name is None:
            self._by_name = {node.metadata.name: node for node in self.nodes.objects.values()}
        return self._by_name

    def runtime_of(self, workload: str | None) -> Runtime:
        """What a launch is made for: that for whose pods this Workload holds quota; None: what is there now."""
        name = (self.connection.namespace, workload or "")
        found = self._workloads.objects.get(name) if self._workloads else None
        asked = asked_of(found) if found else None
        return asked.runtime if asked and asked.runtime else self.runtime

    @property
    def workloads(self) -> Sequence[Workload]:
        """Workloads of ours, as last told."""
        return tuple(self._workloads.objects.values()) if self._workloads else ()

    def stock(self) -> Stock:
        """What room there is, and what takes it: the same object until something of it changes."""
        if self._stock is None:
            quotas = tuple(self.quotas.objects.values()) if self.quotas else ()
            ranges = tuple(self.ranges.objects.values()) if self.ranges else None
            nodes, pods = tuple(self.nodes.objects.values()), tuple(self.pods.objects.values())
            self._stock = Stock(nodes, pods, quotas, ranges)
        return self._stock

    def main(self, key: str) -> Main | None:
        """The main object of that name that is ours, as last told."""
        for kind, mirror in self.mains.items():
            main = mirror.objects.get((self.connection.namespace, name_of(key)))
            if main is not None:
                return replace(main, kind=kind.name)
        return None

    def _there(self, key: str) -> bool:
        """Whether it has a main object or pods, as last told."""
        return key in self._mine or self.main(key) is not None

    def launch(self, key: str) -> Launch:
        """What is under this key, as last told."""
        names = self._mine.get(key, ())
        pods = [pod for name in names if (pod := self.pods.objects.get(name)) is not None]
        record = self.records.objects.get((self.connection.namespace, key))
        return self._launch(key, record, self.main(key), pods, self.by_name)

    def _launch(
        self, key: str, record: Record | None, main: Main | None, pods: Sequence[Pod], nodes: Mapping[str, Node]
    ) -> Launch:
        fates = self.memory.fates(key, pods, nodes, self._now())
        machines, agreed = dict(self.memory.machines.get(key, {})), self.memory.agreed.get(key, "")
        return Launch(
            key=key, record=record, main=main, pods=tuple(pods), machines=machines, fates=fates, agreed=agreed,
            complaint=self._complaints.get(key) or self.memory.half.get(key, ""),
        )  # fmt: skip

    def sighting(self, key: str) -> Sighting | None:
        """What is to be said of this key, as last told."""
        return sighting(self.launch(key), self.by_name, self._now())

    async def look(self) -> list[Sighting]:
        """Every launch of ours as the API server has it now."""
        space, now, kinds = self.connection.namespace, self._now(), self._kinds
        found = await asyncio.gather(
            self._all(RECORD.path(space), Record, labelSelector=records.SELECTOR),
            self._all(POD.path(space), Pod, labelSelector=OURS),
            *(self._all(kind.path(space), Main, labelSelector=OURS) for kind in kinds),
        )
        nodes = await self._witnesses(found[1])
        by_key = {record.metadata.label(KEY): record for record in found[0]}
        pods: dict[str, list[Pod]] = {}
        for pod in found[1]:
            self.memory.pod(pod, nodes)
            pods.setdefault(pod.metadata.label(KEY), []).append(pod)
        mains = {
            main.metadata.label(KEY): replace(main, kind=kind.name)
            for kind, some in zip(kinds, found[2:], strict=True)
            for main in some
        }
        ours = self.memory.unrecorded()
        keys = sorted(filter(None, {*by_key, *pods, *mains, *ours}))
        launches = (self._launch(key, by_key.get(key), mains.get(key), pods.get(key, ()), nodes) for key in keys)
        return _said((replace(launch, kept=ours.get(launch.key, "")) for launch in launches), nodes, now)

    async def _witnesses(self, pods: Sequence[Pod]) -> Mapping[str, Node]:
        """Nodes by name. Those on whose word the end of a machine rests are read now, whatever was last told."""
        names = witnesses(self.memory.machines.values(), pods)
        selects = [{"fieldSelector": f"metadata.name={name}"} for name in names] if len(names) <= FEW else [{}]
        read = await asyncio.gather(*(self._all(NODE.path(), Node, **one) for one in selects))
        fresh = {node.metadata.name: node for some in read for node in some if node.metadata.name in names}
        for name in names:
            node = fresh.get(name) or self.by_name.get(name)
            if node is not None:
                self._node(node, name not in fresh)
        return {name: node for name, node in self.by_name.items() if name not in names} | fresh

    async def closed(self) -> list[Record]:
        """The records that were closed and are kept."""
        found: list[Record] = await self._all(RECORD.path(self.connection.namespace), Record, labelSelector=records.OLD)
        return found

    async def _all(self, path: str, kind: type[Any], **selects: str) -> list[Any]:
        return await self.client.items(path, _MANY[kind], **selects)


async def _known(mirror: Mirror[Any]) -> None:
    while not mirror.known():
        waiting = asyncio.ensure_future(mirror.synced.wait())
        await asyncio.wait({waiting}, timeout=0.1)
        waiting.cancel()


def _said(launches: Iterable[Launch], nodes: Mapping[str, Node], now: int) -> list[Sighting]:
    return [seen for launch in launches if (seen := sighting(launch, nodes, now)) is not None]
