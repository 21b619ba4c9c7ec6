"""`python -m benchmarks`: which benchmarks are there, and how are they run?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
import uvloop

from benchmarks import report
from benchmarks.clustered import Clustered, Setting
from benchmarks.clustered import cluster as run_cluster
from benchmarks.drain import Figures
from benchmarks.drain import drain as run_drain
from benchmarks.latency import measure
from benchmarks.lives import Lives
from benchmarks.lives import live as run_lives
from benchmarks.machine import Unfit, must_be_disk
from benchmarks.plane import assets

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure the product through the doors that its users take. Figures are printed as they are; with --check a "
    "missed target is exit code 1. Everything is written below --folder, which must lie on a disk, and removed.",
)
T = TypeVar("T")
Folder = Annotated[Path, typer.Option(help="Where to work; must lie on a disk, not in memory.")]
Check = Annotated[bool, typer.Option("--check", help="Exit with 1 if a target is missed.")]


@app.command()
def drain(
    jobs: Annotated[int, typer.Option(min=240, help="Jobs to place, of 240 shapes.")] = 20_000,
    behind: Annotated[int, typer.Option(min=100, help="The long backlog that nobody can place.")] = 20_000,
    pairs: Annotated[int, typer.Option(min=1, help="Runs behind a long and a short backlog, one after the other.")] = 3,
    lives: Annotated[int, typer.Option(min=1, help="Whole lives to weigh.")] = 1_000,
    folder: Folder = Path(),
    check: Check = False,
) -> None:
    """Empty a queue: placements per second, and what a placement costs.

    The server is made by its own composition root, over SQLite on disk with synchronous FULL. Six pretended clouds in
    the same process answer in a later turn: 20 % of offers are declined (half of them for capacity, all with an end),
    5 % meet silence until the window of 500 ms is over. Two classes of five are behind a first right. All jobs are
    submitted while the clouds' doors are closed; measured is from their opening to the last launch confirmed.

    Behind them waits a backlog: half of it refused for capacity by everybody, half eligible nowhere. Each pair of runs
    has it long (--behind) and short (a tenth of that); a rate that falls with its length would be a rate that walks it.

    Then the ledger is audited, and whole lives without a detour are weighed. 20,000 jobs take about 6 minutes.
    """
    _prepare(folder)
    long, short = [], []
    for number in range(pairs):
        long.append(_apart(Figures, folder, "one-drain", str(jobs), str(behind), *(["--audit"] if not number else [])))
        short.append(_apart(Figures, folder, "one-drain", str(jobs), str(behind // 10)))
        _say(f"pair {number + 1} of {pairs}: {long[-1].per_second:,.0f} and {short[-1].per_second:,.0f} placements/s")
    text, goals = report.drained(long, short, _apart(Lives, folder, "some-lives", str(lives)))
    _end(text, goals, check)


@app.command()
def latency(
    rate: Annotated[float, typer.Option(min=1, help="Jobs a second.")] = 50,
    seconds: Annotated[float, typer.Option(min=1, help="For how long.")] = 60,
    warm_up: Annotated[float, typer.Option(min=1, help="Seconds before it counts.")] = 10,
    folder: Folder = Path(),
    check: Check = False,
) -> None:
    """Submit over HTTP on a fixed schedule: how long to the offer's arrival, and from a yes to the launch's?

    Three processes on loopback with one steady clock: the server (real composition root, front and listener, ledger on
    disk), six clouds (which it reaches by framed JSON: no client library of theirs is measured), and this one, which
    submits whether or not replies have come. A submission counts from the moment at which it was due. Every offer is
    accepted 5 ms after its arrival; two classes of five are behind a first right.
    """
    _prepare(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".benchmark-") as home:
        try:
            seen = asyncio.run(measure(Path(home).resolve(), rate, seconds, warm_up))
        except Unfit as why:
            _say(str(why))
            raise typer.Exit(2) from why
    _end(*report.delayed(seen), check)


@app.command("kubernetes")
def on_kubernetes(
    jobs: Annotated[int, typer.Option(min=20, help="RayJobs of each run.")] = 2_000,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the cluster, with 8 GPUs each.")] = 256,
    runs: Annotated[int, typer.Option(min=1, help="Each on a fresh API server.")] = 3,
    definition: Annotated[
        Path | None, typer.Option(exists=True, help="KubeRay's own CustomResourceDefinition of RayJob, as a file.")
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Mark each RayJob Running too, before it is marked as ended.")
    ] = False,
    tracked: Annotated[
        bool, typer.Option("--tracked", help="Without deploy/untracked.yaml: the API server notes who set which field.")
    ] = False,
    folder: Folder = Path(),
    check: Check = False,
) -> None:
    """RayJobs through a real API server: offered, created, watched, ended, deleted. How many a second, and who pays?

    etcd and kube-apiserver of KUBEBUILDER_ASSETS are started on loopback, data on disk. The server is made by its
    composition root with its own Kubernetes adapter; a process beside it plays KubeRay and the agents: it puts the
    agent's entries into the run log, and after a second marks the RayJob Complete. No pods, no scheduler, no garbage
    collector: their cost is a cluster's own, and so is what KubeRay writes of a RayJob on the way, of which --running
    adds one mark. A job counts when it has succeeded; the clock stops when its objects are deleted and its record is
    closed too. Then the ledger is audited.

    Then the floor is measured there: the same RayJobs bare, created, marked and deleted, and nothing else. API
    server and etcd run with GOGC=400, etcd with GOMAXPROCS=1, or as the environment says: it is the platform's choice.

    Without --definition the API server takes RayJobs unchecked; with KubeRay's it checks each against its schema. By
    the policy deploy/untracked.yaml it does not note down who set which field of a RayJob; with --tracked it does.
    """
    _prepare(folder, assets)
    words = [str(jobs), str(nodes), *(["--definition", str(definition.resolve())] if definition else [])]
    words += [*(["--running"] if running else []), *(["--tracked"] if tracked else [])]
    seen = []
    for number in range(runs):
        seen.append(_apart(Clustered, folder, "one-cluster", *words))
        _say(f"run {number + 1} of {runs}: {seen[-1].per_second:,.1f} RayJobs/s")
    _end(*report.clustered(seen), check)


def _prepare(folder: Path, *needs: Callable[[], object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        must_be_disk(folder)
        for need in needs:
            need()
    except Unfit as why:
        _say(str(why))
        raise typer.Exit(2) from why


def _end(text: str, goals: Sequence[report.Goal], check: bool) -> None:
    print(text)
    if check and (missed := report.missed(goals)):
        _say(f"missed: {', '.join(missed)}")
        raise typer.Exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# ---- one measurement in a process of its own -------------------------------------------------------------------------


def _apart(kind: type[T], folder: Path, command: str, *words: str) -> T:
    """Measure in a fresh process, so that no run inherits another's memory; its last line is the figures."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".benchmark-") as home:
        line = [sys.executable, "-m", "benchmarks", command, home, *words]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise typer.Exit(done.returncode)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=kind)


@app.command("one-drain", hidden=True)
def one_drain(home: Path, jobs: int, behind: int, audit: bool = False) -> None:
    """One run."""
    _give(uvloop.run(run_drain(home, jobs, behind, audited=audit)))


@app.command("one-cluster", hidden=True)
def one_cluster(
    home: Path, jobs: int, nodes: int, *, definition: Path | None = None, running: bool = False, tracked: bool = False
) -> None:
    """One run on a fresh API server."""
    marks = ("Running", "Complete") if running else ("Complete",)
    given = Setting(jobs=jobs, nodes=nodes, definition=definition, marks=marks, tracked=tracked)
    try:
        _give(uvloop.run(run_cluster(home, given)))
    except Unfit as why:
        _say(str(why))
        raise typer.Exit(2) from why


@app.command("some-lives", hidden=True)
def some_lives(home: Path, jobs: int) -> None:
    """Whole lives."""
    _give(asyncio.run(run_lives(home, jobs)))


def _give(figures: msgspec.Struct) -> None:
    print(msgspec.json.encode(figures).decode(), flush=True)


if __name__ == "__main__":
    app()
