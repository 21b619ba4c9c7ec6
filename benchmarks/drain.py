"""How fast is a queue emptied, and what does a placement cost? One run, in a process of its own.

Called by `__main__`, which repeats it. The server is the product's own, made by its composition root over a ledger on
disk; only the clouds are pretended. All jobs are submitted while the clouds' doors are closed; then they open.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from benchmarks import world
from benchmarks.machine import file_system, load, resident
from benchmarks.pretended import Doors, factory
from orchestrator.adapters.ledger.sql import reading
from orchestrator.bootstrap import App, build, ledger_place
from orchestrator.cli.audit import audit
from orchestrator.model.job import AttemptState
from orchestrator.ports.desk import Submission
from orchestrator.settings import Settings

ADAPTER = "pretended"
AT_ONCE = 1_000
"""Submissions under way at a time."""
QUIET_S = 1.5
"""The backlog counts as settled when nothing was committed for so long."""
PATIENCE_S = 900.0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run has shown."""

    jobs: int
    behind: int
    shapes: int
    file_system: str
    synchronous: str
    journal: str
    load: str
    seconds: float
    """From the doors' opening to the last Confirmed."""
    per_second: float
    per_second_99: float
    """Up to the moment when 99 % were confirmed: without the last few, who wait for clouds and not for us."""
    opened_before: int
    """Offers that were in the ledger already when the doors opened."""
    events: int
    """In the drain."""
    events_per_placement: float
    cpu_us_per_event: float
    """Of the whole process, the writer of the ledger and the pretended clouds included."""
    cpu_share: float
    """CPU seconds per second of the drain: near 1.0 or more, the machine's speed is the limit."""
    declined: float
    silent: float
    submitted_per_second: float
    memory_per_queued_job: int
    """Bytes of the process, per job of the backlog."""
    audited: int | None = None
    """Events that the audit has read; None: it was not asked."""
    violations: int | None = None
    unjudged: tuple[int, ...] = ()
    """Sentences that had nothing to judge: nothing is ever started in a drain."""


@dataclass(slots=True)
class Run:
    """One server over one fresh ledger."""

    app: App
    doors: Doors
    ledger: Path

    async def submit(self, documents: Iterable[bytes]) -> None:
        """Take them all in, in order, durable when this returns."""
        batch: list[bytes] = []
        for document in documents:
            batch.append(document)
            if len(batch) == AT_ONCE:
                await self._submit(batch)
                batch = []
        await self._submit(batch)

    async def _submit(self, batch: list[bytes]) -> None:
        wishes = (Submission(project="default", document=document) for document in batch)
        await asyncio.gather(*map(self.app.desk.submit, wishes))

    async def settled(self) -> None:
        """Wait until nothing was committed for a while."""
        engine = self.app.engine
        with_patience = asyncio.get_running_loop().time() + PATIENCE_S
        while asyncio.get_running_loop().time() < with_patience:
            try:
                async with asyncio.timeout(QUIET_S), engine.committed:
                    await engine.committed.wait()
            except TimeoutError:
                return

    async def placed(self, jobs: int) -> None:
        """Wait until so many jobs are confirmed; what stops the engine stops the waiting."""
        async with asyncio.timeout(PATIENCE_S):
            while self.doors.confirmed < jobs or not self._all_confirmed():
                if self.app.engine.failed is not None:
                    raise self.app.engine.failed
                async with self.app.engine.committed:
                    await self.app.engine.committed.wait()

    def _all_confirmed(self) -> bool:
        rows = (row for row in self.app.engine.core.book.jobs.values() if row.attempts)
        return all(row.attempts[-1].state is AttemptState.CONFIRMED for row in rows)


async def start(folder: Path) -> Run:
    """A server on a fresh ledger in `folder`."""
    agreed, operators = world.write_documents(folder, ADAPTER)
    settings = Settings(home=folder, contracts=agreed, providers=operators)
    doors = Doors()
    app = await build(settings, factories={ADAPTER: factory(doors)})
    await app.start()
    return Run(app, doors, Path(os.path.realpath(ledger_place(settings))))


async def drain(folder: Path, jobs: int, behind: int, *, audited: bool = False) -> Figures:
    """Place `jobs` jobs in front of a backlog of `behind` that nobody can place; then audit, if asked."""
    run = await start(folder)
    try:
        figures = await _measure(run, jobs, behind)
    finally:
        await run.app.stop()
    if not audited:
        return figures
    with reading(run.ledger) as snapshot:
        report = audit(snapshot)
    return replace(figures, audited=report.events, violations=report.violations, unjudged=report.unjudged)


async def _measure(run: Run, jobs: int, behind: int) -> Figures:
    templates = world.placeable()
    run.doors.open.set()
    empty = _memory()
    await run.submit(world.documents(world.sold_out(), behind // 2))
    await run.submit(world.documents(world.nowhere(), behind - behind // 2, behind))
    await run.settled()
    queued = _memory()
    run.doors.open.clear()
    began = time.perf_counter()
    await run.submit(world.documents(templates, jobs, behind * 2))
    submitting = time.perf_counter() - began
    run.doors.offers = run.doors.declined = run.doors.silent = 0
    before, opened_at = count_events(run.ledger), run.app.engine.core.now
    cpu, wall, busy = time.process_time(), time.perf_counter(), load()
    run.doors.open.set()
    await run.placed(jobs)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = count_events(run.ledger)
    durability = await run.app.engine.wiring.ledger.durability()  # type: ignore[attr-defined]
    new = after["all"] - before["all"]
    return Figures(
        jobs=jobs, behind=behind, shapes=len(templates), file_system=file_system(run.ledger),
        synchronous=durability["synchronous"], journal=durability["journal_mode"], load=busy, seconds=wall,
        per_second=jobs / wall, per_second_99=_rate_99(run.ledger, opened_at, jobs),
        opened_before=before["OfferOpened"] - before["OfferDelivered"], events=new, events_per_placement=new / jobs,
        cpu_us_per_event=cpu / new * 1e6, cpu_share=cpu / wall, declined=run.doors.declined / run.doors.offers,
        silent=run.doors.silent / run.doors.offers, submitted_per_second=jobs / submitting,
        memory_per_queued_job=(queued - empty) // max(behind, 1),
    )  # fmt: skip


def _memory() -> int:
    gc.collect()
    return resident()


def ask(ledger: Path, question: str, *values: Any) -> list[tuple[Any, ...]]:
    """One question to a ledger file, beside its server."""
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        return connection.execute(question, values).fetchall()
    finally:
        connection.close()


BY_KIND = "SELECT kind, count(*) FROM events GROUP BY kind"


def count_events(ledger: Path) -> dict[str, int]:
    """Events by kind, and all."""
    found = dict.fromkeys(("OfferOpened", "OfferDelivered"), 0)
    found |= dict(ask(ledger, BY_KIND))
    return {**found, "all": sum(found.values())}


def _rate_99(ledger: Path, opened_at: int, jobs: int) -> float:
    """Placements a second up to the moment when 99 % of the jobs were confirmed."""
    most = max(1, jobs * 99 // 100)
    question = "SELECT at FROM events WHERE kind = 'Confirmed' ORDER BY seq LIMIT 1 OFFSET ?"
    at: int = ask(ledger, question, most - 1)[0][0]
    return most / max(1e-6, (at - opened_at) / 1e6)
