"""What do the run logs know that a ledger which was put back does not? Each live job's is read before anything is done.

Called by the engine at its start, while the ledger says that it was put back, and beside it until all were read. A log
that cannot be read keeps its own job alone from everything: it is not offered, launched or stopped until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from orchestrator.core.facts import LogEnd
from orchestrator.core.ledgerfold import fold_ledger
from orchestrator.core.restoring import all_read, found, is_ahead, set_aside
from orchestrator.core.standing import active
from orchestrator.core.turn import Turn
from orchestrator.engine.batching import ledger_live_row
from orchestrator.engine.core import Core, log
from orchestrator.engine.logfacts import ran_ms
from orchestrator.engine.orders import store_of
from orchestrator.engine.wiring import Wiring
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, LedgerRow, ledger_row
from orchestrator.model.wire import WireError
from orchestrator.ports.ledger import Batch, Ledger, NewEvent
from orchestrator.runlog.log import JobLog, read, read_beat
from orchestrator.runlog.results import StoreUnavailable

AT_ONCE = 16
"""Run logs that are read side by side."""


async def read_all(wiring: Wiring, rows: Iterable[JobRow]) -> tuple[list[LogEnd], dict[str, str]]:
    """Where the logs end that can be read; job → why of those that cannot. A store that is away is asked once."""
    room, away = asyncio.Semaphore(AT_ONCE), dict[str, str]()
    ends, lost = list[LogEnd](), dict[str, str]()

    async def one(row: JobRow) -> None:
        async with room:
            try:
                if row.store in away:
                    lost[row.job] = away[row.store]
                else:
                    ends.append(await _read(wiring, row))
            except StoreUnavailable as error:
                lost[row.job] = away[row.store] = str(error)
            except WireError as error:
                lost[row.job] = str(error)

    await asyncio.gather(*map(one, rows))
    return sorted(ends, key=lambda end: end.job), lost


async def _read(wiring: Wiring, row: JobRow) -> LogEnd:
    there = JobLog(store_of(wiring, row).store, row.project, row.job)
    state, attempt, ran = (await wiring.io(read, there)).state, active(row), 0
    if attempt is not None:
        ran = ran_ms(state, attempt.epoch, await wiring.io(read_beat, there, attempt.epoch))
    done = (state.done.exit, state.done.ran_ms) if state.done is not None else None
    return LogEnd(
        row.job, state.highest_epoch, state.fence, claimed=max(state.claims, default=0), ran_ms=ran, done=done,
        workers=state.done.workers if state.done else None,
    )  # fmt: skip


def after_restore(turn: Turn, ends: Iterable[LogEnd], lost: Mapping[str, str]) -> None:
    """Set aside what cannot be read, hold every job whose log is ahead, and say so if all were read."""
    for job in sorted(lost):
        log.warning("its run log cannot be read, so nothing is done for it", job=job, why=lost[job])
        set_aside(turn, turn.book.jobs[job])
    for end in ends:
        _tell(turn.book.jobs[end.job], end)
        found(turn, end)
    all_read(turn)


def _tell(row: JobRow, end: LogEnd) -> None:
    if is_ahead(row, end):
        log.warning("the run log is ahead of the ledger", job=row.job, epoch=end.epoch)


async def read_on(core: Core) -> None:
    """Ask for what could not be read, again and again, until all of it was."""
    pause = core.wiring.pace.retry
    while core.book.unread:
        await asyncio.sleep(pause / 1e6)
        pause = min(pause * 2, core.wiring.pace.retry_most)
        ends, _ = await read_all(core.wiring, [core.book.jobs[job] for job in sorted(core.book.unread)])
        for end in ends:
            _tell(core.book.jobs[end.job], end)
        if ends:
            await core.told(ends)


async def mark(ledger: Ledger, now: int) -> None:
    """Say in a ledger that was put back that it was; whoever leads it next reads every log first."""
    await ledger.next_term()
    stored, last = await ledger.row(""), await ledger.last_at()
    at = max(now, last)
    event = ev.Restored((at - last) // 1000)
    own = ledger_row(stored.body) if stored is not None else LedgerRow()
    rows = [ledger_live_row(fold_ledger(own, at, event))]
    await ledger.commit(Batch(events=[NewEvent(at, ev.kind_of(event), "", "", ev.encode(event))], rows=rows))
