"""What are the cloud's clusters made of? Processes of this machine, or nothing at all.

Called by the cloud (`start`, `kill`), by the switchboard (`strike`, `freeze`) and by the server at its end. A host
reports back through `Cloud.came_up` and `Cloud.vanished`, and `vanished` only when no process of the cluster is left.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import httpx

from orchestrator.mockcloud.cloud import Cloud
from orchestrator.mockcloud.config import Machines
from orchestrator.mockcloud.heads import Head, head_for
from orchestrator.mockcloud.processes import MARKER, kill_all, members, named, send
from orchestrator.mockcloud.records import Cluster, ClusterState

TRIES = 3
"""A head fails to start about once in eight under load."""
READY_WITHIN = 150.0
"""Seconds: a start takes 5 on a quiet machine and took 57 on one whose cores were four times overbooked."""
POLL = 0.2
JOBS_EVERY = 1.0


class PaperHost:
    """Clusters without machines."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def start(self, cluster: Cluster) -> None:
        """It is there at once."""
        self._cloud.journal.write("started", key=cluster.order.key, cluster=cluster.id, gpus=cluster.gpus)
        self._cloud.came_up(cluster, "", "", _now())

    def kill(self, cluster: Cluster) -> None:
        """It is gone at once."""
        self._cloud.vanished(cluster, "terminated", _now())

    async def strike(self, cluster: Cluster) -> int:
        """Dead without a word of the API."""
        self._cloud.journal.write("killed", key=cluster.order.key, cluster=cluster.id)
        self.kill(cluster)
        return 0

    async def aclose(self) -> None:
        """Nothing is left behind."""


class HeadHost:
    """Clusters that are a head and its processes, each under a supervisor of its own."""

    def __init__(self, cloud: Cloud, logs: Path) -> None:
        """`logs`: the folder that takes the heads' own output."""
        self._cloud = cloud
        self._logs = logs
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[Any]] = set()
        self._closing = False

    def start(self, cluster: Cluster) -> None:
        """Begin its life."""
        if not self._closing:
            self._lives[cluster.id] = asyncio.get_running_loop().create_task(self._live(cluster))

    def kill(self, cluster: Cluster) -> None:
        """End its processes; its life then reports."""
        if cluster.id not in self._lives:
            self._cloud.vanished(cluster, "terminated", _now())
            return
        self._chore(asyncio.to_thread(kill_all, cluster.id))

    async def strike(self, cluster: Cluster) -> int:
        """SIGKILL to everything now, as a power cut would; how many processes were there."""
        self._cloud.journal.write("killed", key=cluster.order.key, cluster=cluster.id)
        hit = len(await asyncio.to_thread(members, cluster.id))
        await asyncio.to_thread(kill_all, cluster.id)
        return hit

    def freeze(self, cluster: Cluster, pattern: str, *, thaw: bool = False) -> list[int]:
        """SIGSTOP (SIGCONT) to its processes whose command line matches; which ones."""
        pids = named(members(cluster.id), pattern)
        hit = sorted(pid for pid in pids if send(pid, signal.SIGCONT if thaw else signal.SIGSTOP))
        kind = "thawed" if thaw else "frozen"
        self._cloud.journal.write(kind, key=cluster.order.key, cluster=cluster.id, pids=hit)
        return hit

    async def aclose(self) -> None:
        """End every cluster."""
        self._closing = True
        for cluster in list(self._lives):
            await asyncio.to_thread(kill_all, cluster)
        await asyncio.gather(*self._lives.values(), *self._chores)

    # ---- one cluster -----------------------------------------------------------------------------------------------

    async def _live(self, cluster: Cluster) -> None:
        why = "could not be started"
        try:
            for _ in range(TRIES):
                if not self._wanted(cluster):
                    why = "terminated"
                    break
                if await self._once(cluster):
                    why = "terminated" if cluster.state is ClusterState.DELETING else "its machines died"
                    break
        finally:
            await asyncio.to_thread(kill_all, cluster.id)
            del self._lives[cluster.id]
            self._cloud.vanished(cluster, why, _now())

    def _wanted(self, cluster: Cluster) -> bool:
        return cluster.state is ClusterState.PROVISIONING and not self._closing

    async def _once(self, cluster: Cluster) -> bool:
        """Start it and stay until its end; False when it never came up."""
        async with self._turn(cluster) as mine:
            if not mine:
                return False
            head = head_for(cluster, self._cloud.config)
            process = await self._supervise(cluster, head)
            up = await self._ready(cluster, head, process)
        try:
            if up:
                await self._watch(cluster, head, process)
            return up
        finally:
            while not await asyncio.to_thread(kill_all, cluster.id):
                continue
            await process.wait()
            shutil.rmtree(head.folder, ignore_errors=True)

    @asynccontextmanager
    async def _turn(self, cluster: Cluster) -> AsyncIterator[bool]:
        """Ray heads of one machine start one after another, whichever cloud they belong to; False: not wanted now."""
        if self._cloud.config.machines is not Machines.RAY:
            yield True
            return
        path = Path(tempfile.gettempdir()) / f"orchestrator-head-start.{os.getuid()}.lock"
        with path.open("a") as file:
            while self._wanted(cluster) and not _locked(file):  # noqa: ASYNC110 - a file lock has no event
                await asyncio.sleep(POLL)
            yield self._wanted(cluster)

    async def _supervise(self, cluster: Cluster, head: Head) -> asyncio.subprocess.Process:
        supervisor = (sys.executable, "-m", "orchestrator.mockcloud.supervisor", cluster.id, str(os.getpid()))
        with (self._logs / f"{cluster.id}.log").open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *supervisor,
                str(head.folder),
                "--",
                *head.plan.argv,
                env=head.plan.environment | {MARKER: cluster.id},
                cwd=head.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def _ready(self, cluster: Cluster, head: Head, process: asyncio.subprocess.Process) -> bool:
        until = time.monotonic() + READY_WITHIN
        async with httpx.AsyncClient(headers=_bearer(head), timeout=2.0, trust_env=False) as client:
            while time.monotonic() < until and process.returncode is None and self._wanted(cluster):
                if all([await _answers(client, url) for url in head.plan.health]):
                    gpus, key = cluster.gpus, cluster.order.key
                    self._cloud.journal.write("started", key=key, cluster=cluster.id, gpus=gpus, pid=process.pid)
                    self._cloud.came_up(cluster, head.plan.address, head.plan.token, _now())
                    return True
                await asyncio.sleep(POLL)
        return False

    async def _watch(self, cluster: Cluster, head: Head, process: asyncio.subprocess.Process) -> None:
        ended = asyncio.ensure_future(process.wait())
        seen: dict[str, str] = {}
        async with httpx.AsyncClient(headers=_bearer(head), timeout=5.0, trust_env=False) as client:
            while not ended.done():
                await asyncio.wait([ended], timeout=JOBS_EVERY)
                for job, status in (await _jobs(client, head)).items():
                    if seen.get(job) != status:
                        self._note(cluster, job, status, first=job not in seen)
                        seen[job] = status

    def _note(self, cluster: Cluster, job: str, status: str, *, first: bool) -> None:
        write = self._cloud.journal.write
        if first:
            write("job_submitted", key=cluster.order.key, cluster=cluster.id, job=job)
        if status in ("SUCCEEDED", "FAILED", "STOPPED"):
            write("job_ended", key=cluster.order.key, cluster=cluster.id, job=job, status=status)

    def _chore(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


async def _jobs(client: httpx.AsyncClient, head: Head) -> dict[str, str]:
    try:
        reply = await client.get(f"{head.plan.address}/api/jobs/")
        rows = reply.json() if reply.status_code == 200 else []
    except (httpx.HTTPError, ValueError):
        return {}
    return {row["submission_id"]: row["status"] for row in rows if row.get("submission_id")}


def _bearer(head: Head) -> dict[str, str]:
    return {"Authorization": f"Bearer {head.plan.token}"}


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _now() -> int:
    return time.time_ns() // 1000
