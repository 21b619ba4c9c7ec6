"""How are figures shown? As tables with their targets; a target is met, or it is said that it is not."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.clustered import Clustered
from benchmarks.drain import Figures
from benchmarks.latency import Latencies
from benchmarks.lives import Lives
from benchmarks.machine import machine, rows

RATE, RATIO, EVENTS, EVENT_KIB = 1_000.0, 0.9, 8.0, 3.0
EVENT_US, PLANNING_US = 60.0, 350.0
"""What a placement may cost: so much for each of its events, commit included, and so much for planning it."""
P50_MS, P99_MS = 10.0, 50.0
RAY_JOBS, REQUESTS, STEADY, GROWTH_KIB = 100.0, 6.0, 0.8, 32.0
"""RayJobs a second, from offer to end, on two cores; requests of ours for each; how steady; what the server keeps of
each (its row in the book, its document and events in caches), which is bounded by no more than the jobs themselves."""


class Goal(msgspec.Struct, frozen=True):
    """A figure and what it should be."""

    name: str
    value: float
    limit: float
    least: bool
    """The limit is a floor; else a ceiling."""
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.value >= self.limit if self.least else self.value <= self.limit

    def words(self) -> str:
        """One line."""
        sign, verdict = ("≥" if self.least else "≤"), ("met" if self.met else "MISSED")
        return f"{self.value:,.2f}{self.unit} (target {sign} {self.limit:,.2f}{self.unit}: {verdict})"


def drained(long: Sequence[Figures], short: Sequence[Figures], lives: Lives) -> tuple[str, list[Goal]]:
    """The whole report of `drain`; `long[i]` and `short[i]` were measured one after the other."""
    first, pairs = long[0], [a.per_second / b.per_second for a, b in zip(long, short, strict=True)]
    events = median(f.events_per_placement for f in long)
    cpu = median(f.cpu_us_per_event * f.events_per_placement for f in long)
    goals = [
        Goal("placements per second", median(f.per_second for f in long), RATE, least=True),
        Goal("rate behind a long backlog / a short one", median(pairs), RATIO, least=True),
        Goal("CPU per placement", cpu, events * EVENT_US + PLANNING_US, least=False, unit=" µs"),
        Goal("events of a happy life", lives.events, EVENTS, least=False),
        Goal("bytes of its events", lives.event_bytes / 1024, EVENT_KIB, least=False, unit=" KiB"),
        Goal("violations", float(first.violations or 0), 0, least=False),
    ]
    world = {
        **machine(),
        "ledger": f"SQLite on {first.file_system}, journal {first.journal}, synchronous {first.synchronous}",
        "jobs": f"{first.jobs:,} of {first.shapes} shapes, each with a document of its own",
        "offers": f"{first.declined:.1%} declined, {first.silent:.1%} silent for 500 ms, the rest accepted",
    }
    more = {
        "events per placement": f"{events:.2f} (with its refusals; submission not counted)",
        "CPU per event": f"{median(f.cpu_us_per_event for f in long):.1f} µs (whole process: planning, commit, clouds)",
        "memory per queued job": f"{median(f.memory_per_queued_job for f in long) / 1024:.2f} KiB",
        "row and document of a happy life": f"{(lives.row_bytes + lives.document_bytes) / 1024:.2f} KiB",
        "submissions per second": f"{median(f.submitted_per_second for f in long):,.0f}",
        "audit": f"{first.audited or 0:,} events, {first.violations} violations; "
        f"nothing to judge for sentences {', '.join(map(str, first.unjudged)) or 'none'}",
    }
    text = [
        rows("drain", world),
        _runs(long, short),
        rows("medians", {goal.name: goal.words() for goal in goals} | more),
    ]
    return "\n\n".join(text), goals


def _runs(long: Sequence[Figures], short: Sequence[Figures]) -> str:
    names = ("behind", "placed/s", "first 99%", "seconds", "CPU/wall", "µs/event")
    title = "  " + " ".join(f"{name:>9}" for name in names) + "  load before"
    lines = ["runs, in order", title]
    for pair in zip(long, short, strict=True):
        lines += [
            f"  {f.behind:>9,} {f.per_second:>9,.0f} {f.per_second_99:>9,.0f} {f.seconds:>9.1f} {f.cpu_share:>9.2f} "
            f"{f.cpu_us_per_event:>9.1f}  {f.load}"
            for f in pair
        ]
    return "\n".join(lines)


def delayed(seen: Latencies) -> tuple[str, list[Goal]]:
    """The whole report of `latency`."""
    goals = [
        Goal("submit → offer's arrival, p50", seen.to_offer.p50, P50_MS, least=False, unit=" ms"),
        Goal("submit → offer's arrival, p99", seen.to_offer.p99, P99_MS, least=False, unit=" ms"),
        Goal("acceptance → launch's arrival, p50", seen.to_launch.p50, P50_MS, least=False, unit=" ms"),
        Goal("acceptance → launch's arrival, p99", seen.to_launch.p99, P99_MS, least=False, unit=" ms"),
        Goal("jobs lost on the way", seen.refused + seen.never_offered + seen.never_launched, 0, least=False),
    ]
    world = {
        **machine(),
        "ledger": f"SQLite on {seen.file_system}, synchronous full",
        "load before": seen.load,
        "schedule": f"{seen.rate:.0f} jobs/s for {seen.seconds:.0f} s, open loop: {seen.submitted:,} jobs",
    }
    more = {
        "submit → reply": f"p50 {seen.to_reply.p50:.2f} ms, p99 {seen.to_reply.p99:.2f} ms",
        "longest": f"offer {seen.to_offer.most:.1f} ms, launch {seen.to_launch.most:.1f} ms",
    }
    figures = {goal.name: goal.words() for goal in goals} | more
    return "\n\n".join([rows("latency", world), rows("seen from outside", figures)]), goals


def clustered(runs: Sequence[Clustered]) -> tuple[str, list[Goal]]:
    """The whole report of `kubernetes`."""
    first = runs[0]
    goals = [
        Goal("RayJobs per second, offered to ended", median(r.per_second for r in runs), RAY_JOBS, least=True),
        Goal("rate of the second half / the first", median(r.steadiness for r in runs), STEADY, least=True),
        Goal("our requests per job", median(r.requests for r in runs), REQUESTS, least=False),
        Goal(
            "memory kept per ended job",
            median(r.grown_per_job for r in runs) / 1024,
            GROWTH_KIB,
            least=False,
            unit=" KiB",
        ),
        Goal("violations", float(sum(r.violations for r in runs)), 0, least=False),
    ]
    cpu = {who: median(r.cpu_ms[who] for r in runs) for who in first.cpu_ms}
    world = {
        **machine(),
        "API server": f"kube-apiserver over etcd on {first.file_system}, synced, both with GOGC={first.collector} "
        f"and etcd with GOMAXPROCS={first.etcd_cores}; "
        f"RayJob defined by {first.definition}"
        + (", fields tracked" if first.tracked else ", its fields not tracked (deploy/untracked.yaml)"),
        "run logs": f"on {first.logs}: agents write them, and a real store is on other machines",
        "cluster": f"{first.nodes:,} nodes with 8 GPUs as objects; KubeRay and agents played, no pods; "
        f"RayJobs marked {' and '.join(first.marks)}",
        "jobs": f"{first.jobs:,} a run, submitted at once, behind a first right; each lives 1 s on its GPU",
    }
    split = ", ".join(f"{who} {ms:.2f} ms ({ms / sum(cpu.values()):.0%})" for who, ms in cpu.items())
    theirs = [sum(ms for who, ms in r.cpu_ms.items() if who in r.floor.cpu_ms) for r in runs]
    least = [sum(ms for who, ms in r.floor.cpu_ms.items() if who in r.cpu_ms) for r in runs]
    more = {
        "CPU per job": f"{sum(cpu.values()):.2f} ms: {split}",
        "floor": _floor(runs),
        "API server and etcd, ours / floor": f"{median(t / f for t, f in zip(theirs, least, strict=True)):.2f}",
        "rate, ours / floor": f"{median(r.per_second / r.floor.per_second for r in runs):.2f}",
        "CPU busy": f"{median(r.busy for r in runs):.2f} cores by all of them together",
        "most RayJobs at a time": f"{median(r.most_alive for r in runs):,.0f}",
        "declined offers": f"{median(r.declined for r in runs):,.0f}",
        "memory at the end": f"{median(r.resident for r in runs) / 2**20:.0f} MiB",
    }
    lines = ["runs, in order", "   jobs/s   seconds  requests  our ms/job  KiB/job  load before"]
    lines += [
        f"  {r.per_second:>7.1f} {r.seconds:>9.1f} {r.requests:>9.2f} {r.cpu_ms['us']:>11.2f} "
        f"{r.grown_per_job / 1024:>8.1f}  {r.load}"
        for r in runs
    ]
    figures = {goal.name: goal.words() for goal in goals} | more
    return "\n\n".join([rows("kubernetes", world), "\n".join(lines), rows("medians", figures)]), goals


def _floor(runs: Sequence[Clustered]) -> str:
    """A RayJob's create, marks and delete, and nothing else."""
    floors = [r.floor for r in runs]
    split = ", ".join(f"{who} {median(f.cpu_ms[who] for f in floors):.2f} ms" for who in floors[0].cpu_ms)
    rate = median(f.per_second for f in floors)
    return f"{rate:.1f}/s: a bare create, the marks and a delete of {floors[0].document:,} bytes; CPU per job: {split}"


def missed(goals: Sequence[Goal]) -> list[str]:
    """Names of what was not reached."""
    return [goal.name for goal in goals if not goal.met]
