"""What would the same RayJobs cost that API server if nobody watched, offered, remembered or ran anything?

Called by `clustered` after its run, on the same API server: each RayJob is created, marked and deleted, with the run's
own marks, document, client and kind of requests, and nothing else. No product over RayJobs can be cheaper there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.operator import MARKS, marked
from benchmarks.plane import Plane
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.objects import manifests
from orchestrator.adapters.providers.kubernetes.resources import RAY_JOB, Thing
from orchestrator.testing.builders import an_order, job_id

AT_ONCE = 16
"""As many as the product has under way."""


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """What it has shown."""

    jobs: int
    per_second: float
    cpu_ms: dict[str, float]
    """Who → CPU milliseconds per job; `client`: whoever asks, marks and deletes."""
    document: int
    """Bytes of one RayJob as it is sent."""


async def floor(control: Plane, connection: Connection, jobs: int, marks: Sequence[str]) -> Floor:
    """Let `jobs` bare RayJobs come and go."""
    client = Client("floor", str(control.kubeconfig), None)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(document: dict[str, Any]) -> None:
        async with gate:
            await _live(client, connection.namespace, document, marks)

    documents = [_document(number, connection) for number in range(jobs + AT_ONCE)]
    try:
        await asyncio.gather(*map(one, documents[jobs:]))  # connections are made, code is warm
        before, wall = _cpu(control), time.perf_counter()
        await asyncio.gather(*map(one, documents[:jobs]))
        wall = time.perf_counter() - wall
        spent = {who: (now - before[who]) / jobs * 1e3 for who, now in _cpu(control).items()}
    finally:
        await client.aclose()
    size = len(msgspec.json.encode(documents[0]))
    return Floor(jobs=jobs, per_second=jobs / wall, cpu_ms=spent, document=size)


async def _live(client: Client, namespace: str, document: dict[str, Any], marks: Sequence[str]) -> None:
    made = await client.create(RAY_JOB.path(namespace), document, Thing)
    name = made.metadata.name
    for mark in marks:
        made = await client.replace(RAY_JOB.path(namespace, name, "status"), marked(made, MARKS[mark]), Thing)
    await client.delete(RAY_JOB.path(namespace, name), uid=made.metadata.uid)


def _document(number: int, connection: Connection) -> dict[str, Any]:
    order = an_order(job_id(number), workers=1, gpus=1)
    main, *_ = manifests(order, connection, "kuberay", "floor", workload=None, token="")
    return main


def _cpu(control: Plane) -> dict[str, float]:
    return {**control.cpu(), "client": time.process_time()}
