"""What can a server tell that reads the ledger and the stores, whether it leads or not? Changes nothing.

The half of a desk that `EngineDesk` and `FollowerDesk` share. Output and progress of user code are read from beside the
run log when somebody looks, and never enter the ledger.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from orchestrator.engine.noticing import notices
from orchestrator.engine.orders import store_of
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.engine.stranger import calling
from orchestrator.engine.wiring import Wiring
from orchestrator.model.capacity import Block
from orchestrator.model.job import TERMINAL, JobRow, LedgerRow, job_row, ledger_row
from orchestrator.model.record import Record
from orchestrator.model.wire import WireError
from orchestrator.ports.desk import Busy, Progress, Refused, UnknownJob
from orchestrator.ports.ledger import StoredEvent
from orchestrator.ports.provider import ProviderError
from orchestrator.runlog import paths
from orchestrator.runlog.log import JobLog, read
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import EMPTY, RunLog, resume_point
from orchestrator.runlog.shipping import newest_chunk, read_chunks
from orchestrator.runlog.store import Store

LOOK_S = 0.5
"""Between two looks for more output."""
CHUNKS = 64
"""Chunks read at a time."""


STORE_REMEDY = "put it back, or mend the way to it: jobs that cannot read their run log for their limit stop themselves"


class ReadingDesk:
    """Reads of one server."""

    def __init__(self, wiring: Wiring, stores: StoreWatch | None = None) -> None:
        """Over a ledger that is open; `stores` knows when each was last read."""
        self._wiring, self._stores = wiring, stores
        self._progress: dict[tuple[str, int], tuple[int, Progress]] = {}
        self._logs: dict[str, RunLog] = {}

    @property
    def goes_on(self) -> bool:
        """Whether who follows may hear more."""
        return True

    async def _committed(self) -> None:
        """Until the ledger may have grown."""
        await asyncio.sleep(LOOK_S)

    async def _log(self, row: JobRow) -> RunLog | None:
        """The job's run log, read on from where it was read to while somebody looks; None: it cannot be read."""
        known = self._logs.pop(row.job, None)
        with suppress(StoreUnavailable, WireError):
            there = JobLog(store_of(self._wiring, row).store, row.project, row.job)
            known = (await self._wiring.io(read, there, known or EMPTY)).state
        if known is not None and row.state not in TERMINAL:
            self._logs[row.job] = known
        return known

    async def job(self, job: str) -> JobRow:
        """Where the job stands, live or over."""
        stored = await self._wiring.ledger.row(job) if job else None
        if stored is None:
            raise UnknownJob(f"there is no job {job!r}")
        return job_row(stored.body)

    async def _scaled(self, job: str, workers: int, least: int) -> JobRow:
        """The job after a wish for this size. Raises Refused where something came first: its end, a cancel, a block."""
        row = await self.job(job)
        size = row.next or row.size
        if size is None or (size.workers, size.least) != (workers, least if least < workers else 0):
            raise Refused(f"job {job} is not to have that size: something else came first, it is {row.state.value}")
        return row

    async def jobs(
        self, project: str | None, states: Sequence[str], limit: int, before: str | None
    ) -> Sequence[JobRow]:
        """Newest first."""
        rows = await self._wiring.ledger.rows(project, states or None, limit, before)
        return [job_row(row.body) for row in rows if row.job]

    async def in_force(self) -> LedgerRow:
        """The ledger's own row."""
        stored = await self._wiring.ledger.row("")
        return ledger_row(stored.body) if stored is not None else LedgerRow()

    async def head(self) -> int:
        """Sequence number of the newest event."""
        return (await self._wiring.ledger.head())[0]

    async def documents(self, digests: Collection[str]) -> Mapping[str, bytes]:
        """Documents cited by events or rows, by their digests."""
        return await self._wiring.ledger.specs(digests)

    async def events(self, job: str | None, after: int, follow: bool) -> AsyncIterator[StoredEvent]:
        """Events of one job (or all) after a sequence number."""
        while True:
            over = job is not None and (await self.job(job)).state in TERMINAL
            async for event in self._wiring.ledger.events(after, job):
                after = event.seq
                yield event
            if not follow or over or not self.goes_on:
                return
            await self._committed()

    async def notices(self, row: JobRow) -> Sequence[str]:
        """What to know of a job besides where it stands."""
        return await notices(self._wiring, self._stores, await self.in_force(), row)

    async def readable(self, row: JobRow) -> None:
        """Raises StoreUnavailable where the job's output cannot be read now."""
        await self._wiring.io(read_chunks, store_of(self._wiring, row).store, paths.out(row.project, row.job, 1), 0, 1)

    async def logs(self, job: str, follow: bool) -> AsyncIterator[bytes]:
        """Output of user code over all attempts, in order."""
        epoch, last = 1, 0
        while True:
            row = await self.job(job)
            over = row.state in TERMINAL
            newest = row.attempts[-1].epoch if row.attempts else 0
            folder = paths.out(row.project, row.job, epoch)
            chunks = partial(read_chunks, after=last, limit=CHUNKS)
            data, last = await self._read(row, chunks, folder, patient=follow) or (b"", last)
            if data:
                yield data
            elif epoch < newest:
                epoch, last = epoch + 1, 0
            elif not follow or over or not self.goes_on:
                return
            else:
                await asyncio.sleep(LOOK_S)

    async def progress(self, job: str) -> Progress | None:
        """The latest report of the running (or last) attempt."""
        row = await self.job(job)
        if not row.attempts:
            return None
        epoch = row.attempts[-1].epoch
        last, known = self._progress.get((job, epoch), (0, Progress(epoch=epoch)))
        newest = await self._read(row, partial(newest_chunk, after=last), paths.progress(row.project, job, epoch))
        if newest is not None:
            known = _latest(epoch, newest[0]) or known
            self._progress[(job, epoch)] = (newest[1], known)
        seen = await self._log(row)
        saved = resume_point(seen) if seen is not None else None
        if row.state in TERMINAL:
            self._progress.pop((job, epoch), None)
        return replace(known, checkpoint_step=saved.step) if saved else known

    async def _read(
        self, row: JobRow, chunks: Callable[[Store, str], tuple[bytes, int]], folder: str, *, patient: bool = True
    ) -> tuple[bytes, int] | None:
        """(what chunks hold, the last number); None: the store is away. StoreUnavailable for who is not patient."""
        try:
            return await self._wiring.io(chunks, store_of(self._wiring, row).store, folder)
        except StoreUnavailable:
            if not patient:
                raise
            return None

    async def check_stores(self) -> dict[str, Sequence[str]]:
        """Per store what is missing, with remedies: each is read now."""
        watch = self._stores or StoreWatch(self._wiring)
        looks = {name: await watch.look(name, access) for name, access in self._wiring.stores.items()}
        return {name: (f"{why}; {STORE_REMEDY}",) if why else () for name, why in looks.items()}

    async def check_providers(self) -> dict[str, Sequence[str]]:
        """Per provider what is missing, with remedies."""
        found: dict[str, Sequence[str]] = {}
        for name, provider in self._wiring.providers.items():
            try:
                with calling(provider):
                    found[name] = await provider.check()
            except ProviderError as error:
                found[name] = [str(error)]
        return found


def on_record(own: LedgerRow, record: str, job: str) -> Record:
    """A record that was just folded in, about a job or (empty) not. Raises `Refused` if the job was over by then."""
    found = next((one for one in own.records if one.id == record), None)
    if found is None:
        raise Refused(f"job {job} is over: a record about it would change nothing")
    return found


def owned(own: LedgerRow, blocks: tuple[Block, ...]) -> LedgerRow:
    """The ledger's own row once these blocks are owned. Raises `Busy` where something came between, which says why if
    it is asked again."""
    if own.blocks != blocks:
        raise Busy("what is on record changed meanwhile; nothing was kept, send the document again")
    return own


def _latest(epoch: int, lines: bytes) -> Progress | None:
    for line in reversed(lines.splitlines()):
        with suppress(ValueError):
            said = json.loads(line)
            loss = said.get("loss")
            shown = None if loss is None else f"{loss:.4g}"
            return Progress(epoch=epoch, step=said.get("step"), loss=shown, at=said.get("at_us"))
    return None
