"""A server of ours with a bare cluster, and what people, controllers and kubelets do there by hand."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.providers.kubernetes.resources import KEY, LEDGER, MANAGED_BY, US
from orchestrator.bootstrap import SystemClock
from orchestrator.model.ids import new_job_id
from orchestrator.model.offer import Confirmed, LaunchOrder, Sighting, SightingState
from orchestrator.testing.builders import an_order
from tests.kubernetes.cluster import Cluster, Doc

PATIENCE_S = 20.0


class Later(SystemClock):
    """Our clock, which a test puts forward, or lets stand."""

    ahead_us = 0
    stood_us: int | None = None

    def now_us(self) -> int:
        """See SystemClock."""
        return (super().now_us() if self.stood_us is None else self.stood_us) + self.ahead_us


class Sitting:
    """A server with a cluster that it reaches through the front, and what people and kubelets do there by hand."""

    def __init__(
        self, cluster: Cluster, namespace: str, clock: Later, connect: Callable[[], KubernetesProvider]
    ) -> None:
        self.cluster, self.namespace, self.clock, self._connect = cluster, namespace, clock, connect
        self.provider = connect()

    async def restart(self) -> None:
        """As after a crash: nothing is remembered."""
        await self.provider.aclose()
        self.provider = self._connect()

    def later(self, us: int) -> None:
        """So many microseconds go by."""
        self.clock.ahead_us += us

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *arguments, stdin=stdin, check=False)

    async def deleted(self, pod: str) -> bool:
        """Whether this pod is being deleted, or was."""
        text = await self.kubectl("get", "pod", pod, "-o", "json")
        return not text or "deletionTimestamp" in json.loads(text)["metadata"]

    async def record(self, key: str) -> Doc | None:
        text = await self.kubectl("get", "configmap", key, "-o", "json")
        return json.loads(text) if text else None

    async def until(self, key: str, said: str) -> Doc:
        """Its record, once this is in its data or its labels."""

        async def found() -> Doc | None:
            await self.provider.observe(None, 0)
            record = await self.record(key)
            return record if record is not None and said in json.dumps(record).replace("\\", "") else None

        return await until(found, f"{said} in the record of {key}")

    async def told(self, key: str, *states: SightingState) -> Sighting:
        async def said() -> Sighting | None:
            sightings = (await self.provider.observe(None, 0)).sightings
            return next((s for s in sightings if s.key == key and s.state in states), None)

        return await until(said, f"{key} {states}")

    async def launched(self) -> LaunchOrder:
        order = new_order()
        assert isinstance((await self.provider.launch([order]))[0], Confirmed)
        await self.told(order.key, SightingState.PROVISIONING)
        return order

    async def bound(self, order: LaunchOrder) -> str:
        """A pod of this launch runs on the node, and that is written down."""
        name = await self.binds(order)
        await self.until(order.key, f'"{name}"')
        return name

    async def binds(self, order: LaunchOrder, name: str = "pod", managed_by: str = US) -> str:
        """A pod of this launch runs on the node."""
        name, labels = f"{name}-{order.key}", {MANAGED_BY: managed_by, LEDGER: "ledger-1", KEY: order.key}
        context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        pod = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {"nodeName": "node", "containers": [{"name": "ray", "image": "none", "securityContext": context}]}
        meta = {"name": name, "labels": labels}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec | {"securityContext": pod}}
        await self.kubectl("create", "-f", "-", stdin=json.dumps(document))
        return name

    async def ends(self, pod: str) -> None:
        """Its kubelet says that this pod is over."""
        over = '{"status":{"phase":"Failed"}}'
        await self.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", over)

    async def finishes(self, order: LaunchOrder) -> None:
        """The Job controller says that it is complete."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kinds = ("SuccessCriteriaMet", "Complete")
        done = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]
        status = {"status": {"conditions": done, "startTime": now, "completionTime": now, "succeeded": 1}}
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
        said = await self.kubectl("patch", "job", name_of(order.key), *patch)
        assert "patched" in said, said

    async def exists(self, order: LaunchOrder) -> bool:
        return bool(await self.kubectl("get", "job", name_of(order.key), "-o", "name"))


async def until(probe: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while (found := await probe()) is None:
        assert time.monotonic() < end, f"not within {PATIENCE_S:.0f} s: {what}"
        await asyncio.sleep(0.1)
    return found


def new_order() -> LaunchOrder:
    return an_order(new_job_id(time.time_ns() // 1000, secrets.token_bytes(10)), workers=1, gpus=1, cpus=1)
