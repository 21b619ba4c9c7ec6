"""How many RayJobs a second go through a real API server, from offer to end, and who pays for them?

Called by `__main__`, one run in a process of its own. The server is the product's, made by its composition root with
its Kubernetes adapter; API server and etcd are real (`plane`); KubeRay and agents are played (`operator`). Others'
users wait a quarter of an hour for 1,000 workloads over 10 clusters, because clients hold themselves back (kueue#14973,
kueue#8564: about 1.1 a second); here 2,000 jobs on one cluster are to take 20 seconds, on the two cores that API
server, etcd, operator and we share.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import world
from benchmarks.drain import ask, count_events
from benchmarks.floor import Floor, floor
from benchmarks.machine import Unfit, file_system, load, resident
from benchmarks.plane import Plane, collector, cpu_of, etcd_cores, plane
from orchestrator.adapters.ledger.sql import reading
from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.bootstrap import App, build, ledger_place
from orchestrator.cli.audit import audit
from orchestrator.model.job import JobState
from orchestrator.ports.desk import Submission
from orchestrator.settings import Settings

NAME, NAMESPACE = "cluster", "training"
NODE_GPUS = 8
MEMORY = Path("/dev/shm")
UNTRACKED = Path(__file__).parents[1] / "deploy" / "untracked.yaml"
SIZE = {"count": 1, "gpus": 1, "cpus": 8, "accelerator": ["H100"]}
AT_ONCE = 200
"""Submissions under way at a time."""
LOOK_S = 0.1
CALM_S, IDLE = 30.0, 0.1
"""CPU seconds per second of a control plane that does nothing in particular."""
PATIENCE_S = 600.0
FLOOR_PART = 5
"""The floor is measured with one RayJob for so many of the run's."""
EDGE = 0.10
"""What is left out at either end of a run where it says how steady the rate was."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What lives and ends where."""

    jobs: int
    nodes: int
    definition: Path | None = None
    """KubeRay's own of RayJobs; None: a small one, without a schema."""
    marks: tuple[str, ...] = ("Complete",)
    """What of its life the operator puts into a RayJob's status."""
    tracked: bool = False
    """Whether the API server keeps track of who set which field of a RayJob, as it does unless it is told not to."""


class Clustered(msgspec.Struct, frozen=True, kw_only=True):
    """What one run has shown."""

    jobs: int
    nodes: int
    file_system: str
    logs: str
    """What the jobs' run logs lie on."""
    load: str
    definition: str
    """Which RayJob definition the API server checks objects against."""
    marks: tuple[str, ...]
    """As in `Setting`, like the next one."""
    tracked: bool
    seconds: float
    """From the first submission until every job has succeeded and nothing of it is left to be watched."""
    per_second: float
    steadiness: float
    """Rate of ends in the second half over that in the first, without the edges."""
    requests: float
    """Ours, per job; watches and lists included."""
    cpu_ms: dict[str, float]
    """Who → CPU milliseconds per job."""
    busy: float
    """CPU seconds of all of them per second."""
    grown_per_job: float
    """Bytes of our memory, per job that ended, from the first quarter to the end."""
    resident: int
    """Bytes, at the end."""
    most_alive: int
    """RayJobs that were there at a time."""
    declined: int
    violations: int
    floor: Floor
    """What the API server asks for in any case, measured right after."""
    collector: str
    """GOGC of API server and etcd."""
    etcd_cores: str
    """GOMAXPROCS of etcd."""


@dataclass(slots=True)
class Watch:
    """What is looked at while it runs: (jobs ended, bytes resident) and RayJobs alive."""

    app: App
    memory: list[tuple[int, int]]
    most_alive: int = 0

    @property
    def provider(self) -> KubernetesProvider:
        """The one under test."""
        found = self.app.engine.wiring.providers[NAME]
        assert isinstance(found, KubernetesProvider), "the benchmark's provider is the product's"
        return found

    def look(self) -> tuple[int, int]:
        """(jobs that have succeeded, objects that are left)."""
        ended = count_of(self.app, JobState.SUCCEEDED)
        cluster = self.provider.cluster
        alive = sum(len(mirror.objects) for mirror in cluster.mains.values())
        self.most_alive = max(self.most_alive, alive)
        self.memory.append((ended, resident()))
        return ended, alive + len(cluster.records.objects)

    def grown_per_job(self) -> float:
        """Bytes per job, from a quarter of the jobs on."""
        last, most = self.memory[-1]
        first, then = next((ended, held) for ended, held in self.memory if ended >= last // 4)
        return (most - then) / max(1, last - first)


def count_of(app: App, state: JobState) -> int:
    """Jobs in this state."""
    return sum(row.state is state for row in app.engine.core.book.jobs.values())


async def cluster(folder: Path, given: Setting) -> Clustered:
    """Let jobs live and end on a cluster of this setting."""
    with plane(folder) as control, run_logs() as store:
        logs = file_system(store)
        furnish(control, given)
        settings = documents(folder, control.kubeconfig, store)
        app = await build(settings, factories={"kubernetes": KubernetesProvider})
        with operator(control.kubeconfig, store, given.marks) as pid:
            await app.start()
            try:
                figures = await _measure(app, control, pid, given.jobs)
            finally:
                await app.stop()
        connection = parse_connection(NAME, connection_of(control.kubeconfig))
        bare = await floor(control, connection, max(AT_ONCE // 10, given.jobs // FLOOR_PART), given.marks)
    with reading(ledger_place(settings)) as snapshot:
        violations = audit(snapshot).violations
    said = given.definition.name if given.definition else "a small one of the benchmark's own"
    return Clustered(
        **figures, jobs=given.jobs, nodes=given.nodes, definition=said, marks=given.marks, tracked=given.tracked,
        violations=violations, floor=bare, logs=logs, collector=collector(), etcd_cores=etcd_cores(),
        file_system=file_system(folder), steadiness=_steadiness(ledger_place(settings)),
    )  # fmt: skip


async def _measure(app: App, control: Plane, operator_pid: int, jobs: int) -> dict[str, Any]:
    watch = Watch(app, [])
    await watch.provider.list_ours()  # connected, and everything is being watched
    await _calm(control)
    gc.collect()
    calls, busy = watch.provider.client.calls, load()
    before, wall = _cpu(control, operator_pid), time.perf_counter()
    submitting = asyncio.create_task(_submit(app, jobs))
    await _ended(watch, jobs)
    await submitting
    wall = time.perf_counter() - wall
    spent = {who: now - before[who] for who, now in _cpu(control, operator_pid).items()}
    return {
        "load": busy, "seconds": wall, "per_second": jobs / wall, "busy": sum(spent.values()) / wall,
        "requests": (watch.provider.client.calls - calls) / jobs,
        "cpu_ms": {who: seconds / jobs * 1e3 for who, seconds in spent.items()},
        "grown_per_job": watch.grown_per_job(), "resident": resident(), "most_alive": watch.most_alive,
        "declined": _declined(app),
    }  # fmt: skip


async def _calm(control: Plane) -> None:
    """Let the API server finish what it does once after its start and after a new kind; at most `CALM_S`."""
    for _ in range(int(CALM_S)):
        before = sum(control.cpu().values())
        await asyncio.sleep(1)
        if sum(control.cpu().values()) - before < IDLE:
            return


async def _submit(app: App, jobs: int) -> None:
    templates = [world.job({"class": "training", "workers": SIZE}, {})]
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(document: bytes) -> None:
        async with gate:
            await app.desk.submit(Submission(project="default", document=document))

    await asyncio.gather(*map(one, world.documents(templates, jobs)))


async def _ended(watch: Watch, jobs: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if watch.app.engine.failed is not None:
            raise watch.app.engine.failed
        ended, left = watch.look()
        if ended == jobs and not left:
            return
        await asyncio.sleep(LOOK_S)
    raise Unfit(f"{ended} of {jobs} jobs had ended after {PATIENCE_S:.0f} s, and {left} objects were left")


def _cpu(control: Plane, operator_pid: int) -> dict[str, float]:
    return {"us": time.process_time(), **control.cpu(), "operator": cpu_of(operator_pid)}


def _declined(app: App) -> int:
    kinds = count_events(ledger_place(app.settings))
    return kinds["OfferOpened"] - kinds.get("Intended", 0)


def _steadiness(ledger: Path) -> float:
    times = [at for (at,) in ask(ledger, "SELECT at FROM events WHERE kind = 'Ended' ORDER BY seq")]
    edge = int(len(times) * EDGE)
    return halves(times[edge : len(times) - edge])


def halves(times: Sequence[int]) -> float:
    """Rate of the second half of these moments over that of the first."""
    middle = len(times) // 2
    first, second = times[middle] - times[0], times[-1] - times[middle]
    return (len(times) - 1 - middle) / max(1, second) * max(1, first) / max(1, middle)


# ---- the world -------------------------------------------------------------------------------------------------------


def furnish(control: Plane, given: Setting) -> None:
    """RayJobs are known, there is a namespace, and there are nodes that answer and have GPUs."""
    control.apply(*([] if given.definition else [small_definition()]), file=given.definition)
    control.established("rayjobs.ray.io", "RayJob")
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    control.apply(space, *(node(f"node-{number}") for number in range(given.nodes)))
    if not given.tracked:
        control.apply(file=UNTRACKED)


def node(name: str) -> dict[str, Any]:
    """As its kubelet would have registered it."""
    room = {"cpu": "192", "memory": "2Ti", "pods": "250", "nvidia.com/gpu": str(NODE_GPUS), "ephemeral-storage": "1Ti"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "kubernetes.io/hostname": name}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def small_definition() -> dict[str, Any]:
    """A RayJob without its schema: what it holds is not checked."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    names = {"kind": "RayJob", "listKind": "RayJobList", "plural": "rayjobs", "singular": "rayjob"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "rayjobs.ray.io"},
        "spec": {"group": "ray.io", "scope": "Namespaced", "names": names,
                 "versions": [{**version, "schema": {"openAPIV3Schema": schema}}]},
    }  # fmt: skip


@contextmanager
def run_logs() -> Iterator[Path]:
    """Where the jobs' store is: in memory where that can be, for a real one is another machine's."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="benchmark-") as folder:
        yield Path(folder)


def documents(folder: Path, kubeconfig: Path, logs: Path) -> Settings:
    """One cluster, whose owner has the first right to everything."""
    facts = {
        "regions": {"here": "EU"}, "operatorJurisdiction": "EU", "seal": 1, "accelerators": {"H100": 1},
    }  # fmt: skip
    right = {"id": "rofr", "type": "first_right", "select": {}, "window": "1m", "tail": "24h", "onReplace": "reoffer",
             "onOutage": "deemed_decline"}  # fmt: skip
    term = {"from": "2025-01-01", "to": "2035-12-31"}
    store = {"url": logs.resolve().as_uri(), "jurisdiction": "EU"}
    isolation = {"check": world.CHECK, "limit": "15m", "grace": "30s"}
    providers = {"providers": {NAME: {**facts, "adapter": "kubernetes", "connection": connection_of(kubeconfig)}},
                 "stores": {"main": store}, "policies": {"default": {"isolation": isolation}}}  # fmt: skip
    contracts = {"providers": {NAME: facts},
                 "contracts": [{"id": "agreement", "holder": NAME, "term": term, "clauses": [right]}]}  # fmt: skip
    paths = {}
    for kind, spec in (("ProviderSet", providers), ("ContractSet", contracts)):
        head = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": kind, "metadata": {"name": "benchmark"}}
        paths[kind] = folder / f"{kind}.json"
        paths[kind].write_text(json.dumps({**head, "spec": spec}))
    return Settings(home=folder, contracts=paths["ContractSet"], providers=paths["ProviderSet"])


def connection_of(kubeconfig: Path) -> dict[str, Any]:
    """What the provider is told of it."""
    return {
        "kubeconfig": str(kubeconfig), "namespace": NAMESPACE, "image": "environment:1", "agentImage": "orchestrator:1",
        "accelerators": {"H100": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}},
        "runtime": "kuberay",
    }  # fmt: skip


@contextmanager
def operator(kubeconfig: Path, store: Path, marks: Sequence[str]) -> Iterator[int]:
    """The operator at work; gives its process id."""
    words = [str(kubeconfig), NAMESPACE, store.resolve().as_uri(), *marks]
    line = [sys.executable, "-m", "benchmarks.operator", *words]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None, "both were asked for"
        try:
            if not process.stdout.readline():
                raise Unfit("the operator did not start; see what it said above")
            yield process.pid
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
