"""How does one launch come to be, and how is it ended? The calls in their order, each of which may be the last before
a crash.

Called by the provider. A launch reads whether its key has a record (unless its offer was accepted not long ago, and it
was never tried), then makes the main object, which takes the key, then what belongs to it (`completing`). Done again,
each step finds what the last time left. A stop puts down its record before it deletes anything, and nothing is ever
deleted but what carries our label and a ledger id.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.adapters.providers.kubernetes import records, sightings
from orchestrator.adapters.providers.kubernetes.cluster import RAY_POD, Cluster
from orchestrator.adapters.providers.kubernetes.completing import Completing
from orchestrator.adapters.providers.kubernetes.errors import Absent, Meaning, Refused, Taken
from orchestrator.adapters.providers.kubernetes.objects import manifests, name_of
from orchestrator.adapters.providers.kubernetes.resources import (
    JOB,
    KEY,
    KINDS,
    LEDGER,
    OURS,
    POD,
    RAY_CLUSTER,
    RAY_JOB,
    RECORD,
    Kind,
    Meta,
    Record,
    Thing,
)
from orchestrator.adapters.providers.kubernetes.scribe import Scribe
from orchestrator.adapters.providers.kubernetes.sightings import LAUNCHED, STATE, STOPPED, Launch
from orchestrator.model.offer import (
    Confirmed,
    LaunchOrder,
    LaunchReply,
    OutcomeUnknown,
    Reason,
    Rejected,
    SightingState,
    StopReply,
)
from orchestrator.ports.provider import Misconfigured, Throttled, Unreachable

PATIENCE_US = 30_000_000
"""How long a deletion may hang (KubeRay's finalizer while KubeRay is away) before what it holds is deleted too."""


class Launching:
    """The launches of one cluster."""

    def __init__(self, cluster: Cluster, scribe: Scribe, completing: Completing, now: Callable[[], int]) -> None:
        self._cluster, self._client, self._scribe, self._completing = cluster, cluster.client, scribe, completing
        self._now = now
        self._deleting: dict[str, int] = {}

    # ---- launch ----------------------------------------------------------------------------------------------------

    async def known(self, order: LaunchOrder) -> LaunchReply | None:
        """What an earlier try has left: a launch, or a foreign object in its place; None: nothing."""
        record = await self._record(order.key)
        main = await self._main(order.key)
        for kind, meta in ((RECORD, record.metadata if record else None), main or (RECORD, None)):
            if meta is not None and not _same(meta, order):
                return self._foreign(order, kind, meta)
        if main is not None:
            if (record is None or _state(record) == LAUNCHED) and main[1].deletion_timestamp is None:
                await self._completing.complete(order.key, main[0])
            return Confirmed(order.key, f"{main[0].name}/{name_of(order.key)}")
        if (record is None or _state(record) == LAUNCHED) and not self._made(order.key, record):
            return None
        return Confirmed(order.key, f"{RECORD.name}/{order.key}")

    async def make(self, order: LaunchOrder, ledger: str, workload: str | None, *, first: bool) -> LaunchReply:
        """Make what is not there yet. Raises as the client does, with some of it made perhaps.

        `first`: nobody can have stopped it yet, so that no record is looked for.
        """
        recorded = not first and await self._record(order.key) is not None
        if recorded or self._made(order.key, None):
            reply = await self.known(order)
            if reply is not None:
                return reply
        with self._completing.making(order.key):
            return await self._objects(order, ledger, workload)

    async def _instead(self, order: LaunchOrder, ledger: str, means: Meaning, why: str) -> LaunchReply:
        """It cannot be made now: what an earlier try has made all the same, else a rejection."""
        return await self.known(order) or await self.give_up(order, ledger, means, why)

    async def give_up(self, order: LaunchOrder, ledger: str, means: Meaning, why: str) -> LaunchReply:
        """Reject it: its key starts nothing any more. Where no record may be made, a late call of ours still could."""
        await self._put(order.key, ledger, records.closed(self._now(), why=why[:300]))
        return self._rejected(order, means, why)

    async def _objects(self, order: LaunchOrder, ledger: str, workload: str | None) -> LaunchReply:
        main, *beside = self._manifests(order, ledger, workload)
        kind = KINDS[main["kind"]]
        try:
            made = await self._client.create(kind.path(self._cluster.connection.namespace), main, Thing)
        except Taken:
            reply = await self.known(order)
            return reply or OutcomeUnknown(order.key, "its object was there and was gone when it was read")
        except Refused as no:
            return await self._instead(order, ledger, no.means, str(no))
        except Absent as error:
            remedy = "create the namespace, or correct `connection.namespace` and `connection.runtime`"
            raise Misconfigured(f"{error}; {remedy}") from error
        self._cluster.memory.main(made.metadata)
        try:
            await self._completing.create(order.key, beside, kind, made.metadata)
        except Throttled as error:
            raise Unreachable(f"{error}; it is half made, and will be completed") from error
        return Confirmed(order.key, f"{kind.name}/{name_of(order.key)}")

    def _manifests(self, order: LaunchOrder, ledger: str, workload: str | None) -> tuple[dict[str, Any], ...]:
        cluster, token = self._cluster, self._completing.token()
        runtime = cluster.runtime_of(workload)
        return manifests(order, cluster.connection, runtime, ledger, workload=workload, token=token)

    def _made(self, key: str, record: Record | None) -> bool:
        """Whether the main object was surely there once: then it was deleted, and is not made again."""
        told = key in self._cluster.memory.unwritten or self._cluster.launch(key).made
        return told or (record is not None and records.made(record))

    def _foreign(self, order: LaunchOrder, kind: Kind, meta: Meta) -> Rejected:
        whose = f"ledger {meta.label(LEDGER)}, key {meta.label(KEY)}" if meta.ours else "not ours"
        why = f"there is a {kind.name} {meta.namespace}/{meta.name} already ({whose}): left alone; delete or rename it"
        return self._rejected(order, Meaning(Reason.ERROR), why)

    def _rejected(self, order: LaunchOrder, means: Meaning, why: str) -> Rejected:
        return Rejected(order.key, means.reason, means.scope, self._now() + means.hold_off_s * 1_000_000, why[:1000])

    # ---- stop ------------------------------------------------------------------------------------------------------

    async def stop(self, key: str) -> StopReply:
        """Have everything of ours under this key deleted. What is watched is not read again; its uid is a condition."""
        launch = self._cluster.launch(key)
        over = launch.main is not None and sightings.state(launch) is SightingState.GONE
        closes = await self._mark_stopped(launch, over) and not launch.left
        done = [await self._delete(kind, key) for kind in self._kinds(key)]
        if closes and not over and not any(there for there, _ in done):
            await self._put(key, launch.ledger, self._scribe.closing(key))
        left = "" if any(there for there, _ in done) else await self._without_main(key)
        return StopReply(key, True, "; ".join(filter(None, (*(said for _, said in done), left))))

    async def _mark_stopped(self, launch: Launch, over: bool) -> bool:
        """Have a record say that nothing starts under this key any more (`over`: nor is alive); whether none did."""
        if launch.key in self._cluster.memory.closed:
            return False
        change = self._scribe.closing(launch.key) if over else records.with_state(STOPPED)
        if launch.ledger and launch.state != STOPPED:
            return await self._put(launch.key, launch.ledger, change)
        record = await self._record(launch.key)
        if record is not None:
            mine = record.metadata.ours and _state(record) != STOPPED
            return mine and await self._put(launch.key, record.metadata.label(LEDGER), change)
        main = await self._main(launch.key)  # nothing of it was told yet
        if main is None or not main[1].ours:
            return False
        self._cluster.memory.main(main[1])
        return await self._put(launch.key, main[1].label(LEDGER), change)

    async def _put(self, key: str, ledger: str, change: dict[str, Any]) -> bool:
        with contextlib.suppress(Refused):  # there is no room for a record; what is alive must end all the same
            await self._scribe.put(key, ledger, change)
            self._cluster.written(key)
        return True

    def _kinds(self, key: str) -> Sequence[Kind]:
        """Where its main object is: as watched, else anywhere."""
        name = self._cluster.connection.namespace, name_of(key)
        return [kind for kind, mirror in self._cluster.mains.items() if name in mirror.objects] or self._cluster.kinds

    async def _delete(self, kind: Kind, key: str) -> tuple[bool, str]:
        """Delete one object, if it is ours: whether there was one, and what there is to say."""
        name = name_of(key)
        path = kind.path(self._cluster.connection.namespace, name)
        watched = self._cluster.mains[kind].objects.get((self._cluster.connection.namespace, name))
        if watched is not None and watched.metadata.ours and watched.metadata.deletion_timestamp is None:
            with contextlib.suppress(Taken):
                return await self._client.delete(path, uid=watched.metadata.uid), ""
        try:
            meta = (await self._client.get(path, Thing)).metadata
        except Absent:
            self._deleting.pop(path, None)
            return False, ""
        if not meta.ours:
            return True, f"{kind.name} {name} is not ours: left alone"
        if meta.deletion_timestamp is None:
            try:
                await self._client.delete(path, uid=meta.uid)
            except Taken:
                return True, f"{kind.name} {name} was replaced while it was being deleted"
            return True, ""
        since = self._deleting.setdefault(path, self._now())
        if self._now() - since >= PATIENCE_US:
            await self._beneath(kind, key)
            return True, f"{kind.name} {name} is held by a finalizer; its pods are being deleted"
        return True, ""

    async def _without_main(self, key: str) -> str:
        """Its object was deleted without its pods, or nobody collects garbage: they are deleted, with some patience."""
        pods = [pod.metadata for pod in self._cluster.launch(key).pods]
        if all(meta.deletion_timestamp for meta in pods):
            self._deleting.pop(key, None)
            return ""
        if self._now() - self._deleting.setdefault(key, self._now()) < PATIENCE_US:
            return ""
        await self._beneath(RAY_JOB if any(meta.label(RAY_POD) for meta in pods) else JOB, key)
        return "its object is gone and its pods are left: its pods are being deleted"

    async def _beneath(self, main: Kind, key: str) -> None:
        """Whoever should take the launch apart does not: delete its cluster and pods ourselves."""
        space = self._cluster.connection.namespace
        for kind in (RAY_CLUSTER, POD) if main is RAY_JOB else (POD,):
            await self._client.delete_all(kind.path(space), f"{OURS},{KEY}={key}")

    # ---- reading ---------------------------------------------------------------------------------------------------

    async def _record(self, key: str) -> Record | None:
        try:
            return await self._client.get(RECORD.path(self._cluster.connection.namespace, key), Record)
        except Absent:
            return None

    async def _main(self, key: str) -> tuple[Kind, Meta] | None:
        for kind in self._cluster.kinds:
            try:
                found = await self._client.get(kind.path(self._cluster.connection.namespace, name_of(key)), Thing)
            except Absent:
                continue
            return kind, found.metadata
        return None


def _state(record: Record) -> str:
    return (record.data or {}).get(STATE, LAUNCHED)


def _same(meta: Meta, order: LaunchOrder) -> bool:
    """Whether it was made for this very launch."""
    return meta.ours and meta.label(KEY) == order.key and order.ledger in ("", meta.label(LEDGER))
