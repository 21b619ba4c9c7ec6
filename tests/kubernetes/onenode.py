"""A cluster of one node on paper, on which one launch runs, and a provider that has seen it. On virtual time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.resources import (
    JOB,
    KEY,
    LEDGER,
    MANAGED_BY,
    NODE,
    POD,
    QUOTA,
    RECORD,
    US,
)
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.model.offer import SightingState
from orchestrator.ports.provider import ProviderError
from orchestrator.ports.runtime import Tools
from orchestrator.testing.clock import FakeClock
from tests.kubernetes.paper import PaperApi

LAUNCH, SPACE, GRACE_S = "k-e1", "default", 10
NODES, QUOTAS, RECORDS = NODE.path(), QUOTA.path(SPACE), RECORD.path(SPACE)
RAN, MADE = POD.path(SPACE, f"{LAUNCH}-0"), JOB.path(SPACE, f"run-{LAUNCH}")


class OneNode:
    """A node on which one launch runs, and a provider that has seen it."""

    def __init__(self, *full: str) -> None:
        """`full`: where nothing more may be made."""
        self.api = PaperApi()
        self.api.full.update(full)
        self.answers(True)
        self.put(MADE, spec={"completions": 1}, status={"ready": 1})
        spec = {"nodeName": "n1", "terminationGracePeriodSeconds": GRACE_S, "containers": [{"name": "ray"}]}
        self.put(RAN, spec=spec, status={"phase": "Running"})
        told = {"image": "i", "agentImage": "a", "runtime": "job"}
        self.provider = KubernetesProvider("k", told, Tools(runtime=RayJobs(), clock=FakeClock(), ledger="l"))
        self.provider.client = self.provider.cluster.client = self.api  # type: ignore[assignment]

    async def __aenter__(self) -> OneNode:
        assert await self.listed() == await self.told() == SightingState.RUNNING
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.aclose()

    def put(self, path: str, **fields: Any) -> None:
        """Something of the launch's."""
        labels = {MANAGED_BY: US, LEDGER: "l", KEY: LAUNCH}
        meta = {"name": path.rsplit("/", 1)[1], "namespace": SPACE, "uid": path, "labels": labels}
        self.api.put(path, metadata=meta, **fields)

    def answers(self, ready: bool, since: str = "2026-01-01T00:00:00Z") -> None:
        """The control plane says so of the node."""
        condition = {"type": "Ready", "status": "True" if ready else "Unknown", "lastTransitionTime": since}
        self.api.put(NODE.path(name="n1"), status={"conditions": [condition]})

    def deleted(self) -> None:
        """Somebody deletes what ran there, by force."""
        self.api.drop(RAN)
        self.api.drop(MADE)

    def lose(self) -> None:
        """The node is known to be cut off, and then somebody deletes what ran there."""
        self.answers(False)
        self.deleted()

    def lists(self) -> int:
        """How often nodes were listed."""
        return self.api.asked.count(f"GET {NODES}")

    async def listed(self) -> SightingState | None:
        """What a listing says of the launch."""
        return next((seen.state for seen in (await self.provider.list_ours()).sightings), None)

    async def told(self) -> SightingState | None:
        """What the feed says of it."""
        return next((seen.state for seen in (await self.provider.observe(None, 0)).sightings), None)

    async def stays(self, state: SightingState, seconds: int) -> None:
        """The feed says nothing else for so long, though it may not be heard."""
        for _ in range(seconds):
            await asyncio.sleep(1)
            with suppress(ProviderError):
                assert await self.told() == state
