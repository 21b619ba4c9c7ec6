"""What does one job cost when nothing goes wrong? Events and bytes of whole lives, from submission to the bill.

Called by `__main__`. Attempts are played by putting their entries into the real run log; nothing else is pretended.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks import world
from benchmarks.drain import Run, ask, count_events, start
from benchmarks.pretended import PretendedCloud
from orchestrator.bootstrap import App
from orchestrator.model.job import JobRow, JobState
from orchestrator.model.offer import SightingState
from orchestrator.model.wire import AttemptEntry, Claim, Done, Start
from orchestrator.runlog.log import JobLog, append_attempt
from orchestrator.runlog.rules import EMPTY, RunLog

PATIENCE_S = 300.0
GRACE_MS = 30_000


class Lives(msgspec.Struct, frozen=True, kw_only=True):
    """Whole lives without a detour, on average."""

    jobs: int
    events: float
    """Per job."""
    event_bytes: float
    """What the events take in the database, per job: bodies, salts, hashes, chain, index, pages filled or not."""
    row_bytes: float
    """What its row takes, per job."""
    document_bytes: float
    """What documents take, per job; each has a document of its own."""


async def live(folder: Path, jobs: int) -> Lives:
    """Let `jobs` jobs run to their end."""
    ledger = await _ledger_of(folder, jobs)
    events = sum(number for kind, number in count_events(ledger).items() if kind != "all" and kind not in OF_ALL)
    sizes: dict[str, int] = dict(ask(ledger, "SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))

    def size(*names: str) -> float:
        return sum(part for name, part in sizes.items() if any(word in name for word in names)) / jobs

    return Lives(
        jobs=jobs, events=events / jobs, event_bytes=size("events", "bodies"), row_bytes=size("jobs_live"),
        document_bytes=size("specs"),
    )  # fmt: skip


OF_ALL = frozenset({"Led", "ContractInForce", "ProvidersInForce", "ControllerAbsent"})
"""Kinds that belong to no job."""


async def _ledger_of(folder: Path, jobs: int) -> Path:
    """The file of a server's ledger after so many whole lives; it was closed, so that nothing waits beside it."""
    run = await start(folder)
    try:
        run.doors.agreeable = True
        run.doors.open.set()
        await run.submit(world.documents(world.placeable(), jobs))
        await run.placed(jobs)
        await _play(run, jobs)
    finally:
        await run.app.stop()
    return run.ledger


async def _play(run: Run, jobs: int) -> None:
    rows = [row for row in run.app.engine.core.book.jobs.values() if row.attempts]
    await asyncio.gather(*(asyncio.to_thread(_append, run.app, row, beginning) for row in rows))
    _show(run.app, SightingState.RUNNING)
    await _until(run, JobState.RUNNING, jobs)
    await asyncio.gather(*(asyncio.to_thread(_append, run.app, row, end) for row in rows))
    _show(run.app, SightingState.ENDED)
    await _until(run, JobState.SUCCEEDED, jobs)


def beginning() -> list[AttemptEntry]:
    """What the agent of a first attempt says before user code runs."""
    claim = Claim(epoch=1, provider="", limit_ms=900_000, grace_ms=GRACE_MS, id=_id(), nonce=NONCE)
    return [claim, Start(epoch=1, waited=False, id=_id(), nonce=NONCE)]


def end() -> list[AttemptEntry]:
    """What it says when all went well."""
    return [Done(epoch=1, exit=0, result=None, ran_ms=3_600_000, id=_id(), nonce=NONCE)]


NONCE = "benchmark"


def _id() -> str:
    return os.urandom(8).hex()


def _append(app: App, row: JobRow, entries: Callable[[], list[AttemptEntry]]) -> None:
    access = next(iter(app.engine.wiring.stores.values()))
    append(JobLog(access.store, row.project, row.job), entries())


def append(log: JobLog, entries: Sequence[AttemptEntry], state: RunLog = EMPTY) -> RunLog:
    """Put the entries of a first attempt into a run log that stood so when it was last read: how it stands then."""
    for entry in entries:
        state = append_attempt(log, state, 1, entry).state
    return state


def _show(app: App, state: SightingState) -> None:
    for provider in app.engine.wiring.providers.values():
        assert isinstance(provider, PretendedCloud), "the benchmark's providers are its own"
        provider.show(state)


async def _until(run: Run, state: JobState, jobs: int) -> None:
    engine = run.app.engine
    async with asyncio.timeout(PATIENCE_S):
        while sum(row.state is state for row in engine.core.book.jobs.values()) < jobs:
            async with engine.committed:
                await engine.committed.wait()
