"""KubeRay and the agents, as little of them as lets a RayJob live and end.

`python -m benchmarks.operator KUBECONFIG NAMESPACE STORE_URL MARK...`, started by `clustered` as a process of its own.
It watches RayJobs; of a new one its agent's first entries are put into the run log; after `LASTS_S` the last one is,
and the RayJob is marked Complete. With the mark `Running` it says that too, as KubeRay does. Real KubeRay makes a
cluster with pods and a Secret for each: that is its own cost, and no part of what is measured.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Coroutine
from typing import Any

import uvloop

from benchmarks import lives
from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.errors import Taken
from orchestrator.adapters.providers.kubernetes.resources import RAY_JOB, Thing
from orchestrator.adapters.providers.kubernetes.watching import Mirror
from orchestrator.model.wire import StoreRef
from orchestrator.runlog.log import JobLog
from orchestrator.runlog.store import open_store

LASTS_S = 1.0
"""From the start of user code to its end."""
AT_ONCE = 32
AGAIN_S = 0.01
JOB = "orchestrator.dev/job"
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
COMPLETE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
MARKS = {"Running": RUNNING, "Complete": COMPLETE}


def marked(job: Thing, status: dict[str, str]) -> dict[str, Any]:
    """An update of this RayJob's status, as it was last read; the API server takes nothing else of it."""
    meta = job.metadata
    named = {"name": meta.name, "namespace": meta.namespace, "resourceVersion": meta.resource_version}
    return {"apiVersion": RAY_JOB.api_version, "kind": RAY_JOB.name, "metadata": named, "status": status}


class Operator:
    """The one of a namespace."""

    def __init__(self, client: Client, namespace: str, store_url: str, marks: Collection[str]) -> None:
        self._client, self._namespace, self._marks = client, namespace, marks
        self._store = open_store(StoreRef(name="main", url=store_url))
        self._mirror = Mirror(client, RAY_JOB.path(namespace), Thing, self._told)
        self._known: set[str] = set()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def begin(self) -> None:
        """Returns once everything is being watched."""
        self._mirror.start()
        await self._mirror.synced.wait()

    async def aclose(self) -> None:
        """Watch nothing any more."""
        await self._mirror.aclose()
        await self._client.aclose()

    def _told(self, job: Thing, gone: bool) -> None:
        if gone:
            self._known.discard(job.metadata.uid)
        elif job.metadata.uid not in self._known:
            self._known.add(job.metadata.uid)
            self._start(self._live(job))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self.failed.done():
            self.failed.set_exception(task.exception() or RuntimeError("nothing"))

    async def _live(self, job: Thing) -> None:
        log = JobLog(self._store, "default", job.metadata.label(JOB))
        async with self._gate:  # entries are put from here: where they lie that takes less than a thread would
            state = lives.append(log, lives.beginning())
            await self._mark(job, "Running")
        await asyncio.sleep(LASTS_S)
        async with self._gate:
            lives.append(log, lives.end(), state)
            await self._mark(job, "Complete")

    async def _mark(self, job: Thing, mark: str) -> None:
        """If asked for: as KubeRay does, by an update of the status; it costs the API server less than a patch."""
        name, status = (self._namespace, job.metadata.name), MARKS[mark]
        while mark in self._marks and name in self._mirror.objects:
            try:
                await self._client.replace(
                    RAY_JOB.path(*name, "status"), marked(self._mirror.objects[name], status), Thing
                )
            except Taken:  # changed since
                await asyncio.sleep(AGAIN_S)
            else:
                return


async def main(kubeconfig: str, namespace: str, store_url: str, *marks: str) -> None:
    """Watch until standard input ends; one line of output says that it does."""
    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    client = Client("operator", kubeconfig, None)
    operator = Operator(client, namespace, store_url, marks)
    await operator.begin()
    print("watching", flush=True)
    await asyncio.wait({asyncio.ensure_future(stop), operator.failed}, return_when=asyncio.FIRST_COMPLETED)
    if operator.failed.done():
        operator.failed.result()
    await operator.aclose()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
