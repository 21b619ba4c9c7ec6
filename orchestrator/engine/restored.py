"""What do the run logs know that a ledger which was put back does not? Each live job's is read before anything is done.

Called by the engine at its start, while the ledger says that it was put back. A store that does not answer keeps this
server from leading: nothing is offered, launched or stopped until all of them were read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from orchestrator.core.ledgerfold import fold_ledger
from orchestrator.core.lifecycle import active
from orchestrator.core.restoring import LogEnd, hold, is_ahead
from orchestrator.core.turn import Turn
from orchestrator.engine.batching import ledger_live_row
from orchestrator.engine.core import log
from orchestrator.engine.logfacts import ran_ms
from orchestrator.engine.orders import store_of
from orchestrator.engine.wiring import Wiring
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, LedgerRow, ledger_row
from orchestrator.model.wire import WireError
from orchestrator.ports.ledger import Batch, Ledger, Record
from orchestrator.runlog.log import JobLog, read, read_beat
from orchestrator.runlog.results import StoreUnavailable

AT_ONCE = 16
"""Run logs that are read side by side."""


class LogsUnread(Exception):
    """A run log cannot be read, so this server may not lead yet; says which, and what to do."""


async def read_all(wiring: Wiring, rows: Iterable[JobRow]) -> Mapping[str, LogEnd]:
    """job → where its log ends. Raises `LogsUnread`."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(row: JobRow) -> LogEnd:
        async with room:
            return await _read(wiring, row)

    jobs = list(rows)
    found = await asyncio.gather(*map(one, jobs), return_exceptions=True)
    lost = [(row, error) for row, error in zip(jobs, found, strict=True) if isinstance(error, BaseException)]
    for row, error in lost:
        if not isinstance(error, StoreUnavailable | WireError):
            raise error
        raise LogsUnread(
            f"the ledger was put back from a backup, and nothing is done before every run log was read; {len(lost)} "
            f"of {len(jobs)} cannot be, {row.job}'s because {error}"
        ) from error
    return {row.job: end for row, end in zip(jobs, found, strict=True) if isinstance(end, LogEnd)}


async def _read(wiring: Wiring, row: JobRow) -> LogEnd:
    there = JobLog(store_of(wiring, row).store, row.project, row.job)
    state, attempt, ran = (await wiring.io(read, there)).state, active(row), 0
    if attempt is not None:
        ran = ran_ms(state, attempt.epoch, await wiring.io(read_beat, there, attempt.epoch))
    done = (state.done.exit, state.done.ran_ms) if state.done is not None else None
    return LogEnd(state.highest_epoch, state.fence, ran, done)


def after_restore(turn: Turn, ends: Mapping[str, LogEnd]) -> None:
    """Hold every job whose log is ahead, and say that all were read."""
    ahead = [row for job, end in ends.items() if is_ahead(row := turn.book.jobs[job], end)]
    for row in ahead:
        log.warning("the run log is ahead of the ledger", job=row.job, epoch=ends[row.job].epoch)
        hold(turn, row, ends[row.job])
    turn.emit_ledger(ev.LogsRead())


async def mark(ledger: Ledger, now: int) -> None:
    """Say in a ledger that was put back that it was; whoever leads it next reads every log first."""
    await ledger.next_term()
    stored, at, event = await ledger.row(""), max(now, await ledger.last_at()), ev.Restored()
    own = ledger_row(stored.body) if stored is not None else LedgerRow()
    rows = [ledger_live_row(fold_ledger(own, at, event))]
    await ledger.commit(Batch(records=[Record(at, ev.kind_of(event), "", "", ev.encode(event))], rows=rows))
