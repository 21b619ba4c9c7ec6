"""What may a front ask of the engine? Wishes that are durable when the call returns, and reads that change nothing.

Implements `ports.desk.Desk`; called by the API, the demo and benchmarks. Output and progress of user code are read from
beside the run log when somebody looks, and never enter the ledger.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from msgspec.structs import replace

from orchestrator.core.facts import CancelWish, RecordWish, ResumeWish, Wish
from orchestrator.core.lifecycle import active
from orchestrator.engine import byhand, visiting
from orchestrator.engine.engine import Engine
from orchestrator.engine.orders import store_of
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.model.ids import ENTROPY_BYTES, new_job_id
from orchestrator.model.job import TERMINAL, JobRow, JobState, LedgerRow, job_row
from orchestrator.model.offer import Answer, OfferOut
from orchestrator.model.placement import Shape
from orchestrator.model.record import Record, same
from orchestrator.ports.desk import (
    Conflict,
    Entered,
    Outcome,
    Progress,
    ProviderStatus,
    Refused,
    Submission,
    UnknownJob,
    Visit,
)
from orchestrator.ports.ledger import IdempotencyKey, StoredEvent
from orchestrator.ports.provider import ProviderError
from orchestrator.ports.telemetry import Live
from orchestrator.runlog import paths
from orchestrator.runlog.results import StoreUnavailable
from orchestrator.runlog.rules import resume_point
from orchestrator.runlog.shipping import read_chunks

KEY_LIFE = 7 * 86_400_000_000
"""How long an idempotency key is remembered, microseconds."""
LOOK_S = 0.5
"""Between two looks for more output."""
CHUNKS = 64
"""Chunks read at a time."""


class EngineDesk:
    """The engine as its fronts see it."""

    def __init__(self, engine: Engine, stores: StoreWatch | None = None) -> None:
        """Over an engine that is started; `stores` knows when each was last read."""
        self._engine, self._stores = engine, stores
        self._keys: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._last_id = (0, b"")
        self._progress: dict[tuple[str, int], tuple[int, Progress]] = {}

    # ---- wishes ----

    async def submit(self, wish: Submission) -> tuple[JobRow, bool]:
        """Take a job in; (row, created)."""
        self._engine.check_room()
        digest = hashlib.sha256(wish.document).hexdigest()
        if not wish.key:
            return await self._new(wish, digest), True
        async with self._keys.setdefault((wish.project, wish.key), asyncio.Lock()):  # one at a time, to durability
            known = await self._known(wish, digest)
            if known is not None:
                return await self.job(known), False
            return await self._new(wish, digest), True

    async def _new(self, wish: Submission, digest: str) -> JobRow:
        job, told = self._take_in(wish, digest)
        await self._engine.or_failed(told)
        return await self.job(job)

    def _take_in(self, wish: Submission, digest: str) -> tuple[str, asyncio.Future[None]]:
        engine, now = self._engine, self._engine.core.now
        engine.check_room()
        incoming = engine.agreed.intake(wish.document)
        self._check_cited(incoming.shape)
        job = self._new_id(now)
        key = IdempotencyKey(wish.project, wish.key, digest, job, now + KEY_LIFE) if wish.key else None
        event = replace(incoming.event, by=wish.by) if wish.by else incoming.event
        documents = {digest: wish.document, event.shape: incoming.shape_document}
        return job, engine.take_in(
            Wish(job=job, project=wish.project, event=event, shape=incoming.shape), documents, key
        )

    def _check_cited(self, shape: Shape) -> None:
        """What a job cites as evidence must be on record: a typing error would cost it its exemption unnoticed."""
        known = {record.id for record in self._engine.core.book.ledger.records} if shape.cited else set[str]()
        if missing := sorted(set(shape.cited) - known):
            raise Refused(f"spec.evidence: there is no record {missing[0]}; `orchestrator record` lists what there is")

    def _new_id(self, now: int) -> str:
        """A ULID above every earlier one of this process, so that jobs of one moment keep their order."""
        millis, entropy = now // 1000, self._engine.wiring.clock.entropy(ENTROPY_BYTES)
        if millis == self._last_id[0]:
            entropy = (int.from_bytes(self._last_id[1], "big") + 1).to_bytes(ENTROPY_BYTES, "big")
        else:
            entropy = bytes([entropy[0] & 0x7F]) + entropy[1:]  # room to count up
        self._last_id = (millis, entropy)
        return new_job_id(now, entropy)

    async def _known(self, wish: Submission, digest: str) -> str | None:
        """The job that this key already made; `Conflict` if it was made of something else."""
        found = await self._engine.wiring.ledger.find_key(wish.project, wish.key)
        if found is None or found.expires <= self._engine.core.now:
            return None
        if found.body_digest != digest:
            why = f"the key {wish.key!r} made job {found.job} from another document; use another key"
            raise Conflict(why, found.job)
        return found.job

    async def cancel(self, job: str, by: str) -> JobRow:
        """Ask for the job's end; idempotent."""
        await self.job(job)
        await self._engine.wish(CancelWish(job, by))
        return await self.job(job)

    async def resume(self, job: str, by: str) -> JobRow:
        """Let a held job go on."""
        row = await self.job(job)
        if row.state is not JobState.HELD:
            raise Refused(f"job {job} is {row.state.value}, not held; only held jobs are resumed")
        await self._engine.wish(ResumeWish(job, by))
        return await self.job(job)

    async def amend(self, document: bytes, by: str) -> LedgerRow:
        """Let a contract set take effect."""
        self._engine.check_room()
        await self._engine.amend(self._engine.wiring.agreed(document), by)
        return await self.in_force()

    async def record(self, record: Record) -> Record:
        """Put something on record; its id and time are ours. What stands there already is not said twice."""
        if (known := self._on_record(lambda found: same(found, record))) is not None:
            return known
        if record.job and (row := await self.job(record.job)).state in TERMINAL:
            raise Refused(f"job {record.job} is {row.state.value}: a record about it would change nothing")
        if record.until is not None and record.until <= self._engine.core.now:
            raise Refused("it would count for nothing: its end is past")
        made = replace(record, id=f"{record.what}-{self._new_id(self._engine.core.now)}", at=0)
        await self._engine.wish(RecordWish(made))
        found = self._on_record(lambda one: one.id == made.id)
        if found is None:
            raise Refused(f"job {record.job} is over: a record about it would change nothing")
        return found

    def _on_record(self, which: Callable[[Record], bool]) -> Record | None:
        return next(filter(which, self._engine.core.book.ledger.records), None)

    async def enter(self, visit: Visit) -> Entered:
        """Write down who goes in where, then give the way."""
        return await visiting.enter(self._engine, await self.job(visit.job), visit)

    async def open_offers(self, provider: str) -> Sequence[OfferOut]:
        """What waits for the word of a provider that answers by hand."""
        return byhand.open_offers(self._engine, provider)

    async def answer(self, provider: str, said: Answer) -> Outcome:
        """A provider's people answer an offer."""
        return await byhand.answer(self._engine, provider, said)

    # ---- reads ----

    async def job(self, job: str) -> JobRow:
        """Where the job stands, live or over."""
        row = self._engine.core.book.jobs.get(job)
        if row is not None:
            return row
        stored = await self._engine.wiring.ledger.row(job) if job else None
        if stored is None:
            raise UnknownJob(f"there is no job {job!r}")
        return job_row(stored.body)

    async def jobs(
        self, project: str | None, states: Sequence[str], limit: int, before: str | None
    ) -> Sequence[JobRow]:
        """Newest first."""
        rows = await self._engine.wiring.ledger.rows(project, states or None, limit, before)
        return [job_row(row.body) for row in rows if row.job]

    async def in_force(self) -> LedgerRow:
        """The ledger's own row."""
        return self._engine.core.book.ledger

    async def ending(self, job: str) -> bool:
        """Whether machines of a job that is over may still be there."""
        return self._engine.ending(job)

    async def head(self) -> int:
        """Sequence number of the newest event."""
        return (await self._engine.wiring.ledger.head())[0]

    async def document(self, digest: str) -> bytes | None:
        """A document cited by an event or row."""
        return await self._engine.wiring.ledger.spec(digest)

    async def events(self, job: str | None, after: int, follow: bool) -> AsyncIterator[StoredEvent]:
        """Events of one job (or all) after a sequence number."""
        ledger, engine = self._engine.wiring.ledger, self._engine
        while True:
            over = job is not None and (await self.job(job)).state in TERMINAL
            async for event in ledger.events(after, job):
                after = event.seq
                yield event
            if not follow or over or not engine.leads:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S * 2), engine.committed:
                    await engine.committed.wait()

    async def logs(self, job: str, follow: bool) -> AsyncIterator[bytes]:
        """Output of user code over all attempts, in order."""
        epoch, last = 1, 0
        while True:
            row = await self.job(job)
            over = row.state in TERMINAL
            newest = row.attempts[-1].epoch if row.attempts else 0
            folder = paths.out(row.project, row.job, epoch)
            data, last = await self._chunks(row, folder, last)
            if data:
                yield data
            elif epoch < newest:
                epoch, last = epoch + 1, 0
            elif not follow or over or not self._engine.leads:
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
        data, last = await self._chunks(row, paths.progress(row.project, job, epoch), last)
        if data:
            known = _latest(epoch, data) or known
            self._progress[(job, epoch)] = (last, known)
        seen = await self._engine.keeper.read(job) if active(row) else None  # somebody watches
        saved = resume_point(seen or self._engine.keeper.state(job))
        if row.state in TERMINAL:
            self._progress.pop((job, epoch), None)
        return replace(known, checkpoint_step=saved.step) if saved else known

    async def _chunks(self, row: JobRow, folder: str, after: int) -> tuple[bytes, int]:
        store = store_of(self._engine.core, row).store
        try:
            return await self._engine.wiring.io(read_chunks, store, folder, after, CHUNKS)
        except StoreUnavailable:
            return b"", after

    async def providers(self) -> Sequence[ProviderStatus]:
        """All providers in file order."""
        return [
            ProviderStatus(
                name=p.name, reachable=p.up, since=p.since, open_offers=p.open_offers, active_attempts=len(p.jobs)
            )
            for p in self._engine.core.book.providers.values()
        ]

    async def check_providers(self) -> dict[str, Sequence[str]]:
        """Per provider what is missing, with remedies."""
        found: dict[str, Sequence[str]] = {}
        for name, provider in self._engine.wiring.providers.items():
            try:
                found[name] = await provider.check()
            except ProviderError as error:
                found[name] = [str(error)]
        return found

    async def ready(self) -> str | None:
        """None when wishes are taken in."""
        return None if self._engine.leads else "the engine does not lead (starting, stopping or failed)"

    def live(self) -> Live:
        """What is true now, for a scrape. Counts shapes, not jobs."""
        book = self._engine.core.book
        queued: dict[str, int] = {}
        for shape in book.shapes.values():
            waiting = len(shape.queue) + len(shape.waiting) + len(shape.aside)
            queued[shape.shape.job_class] = queued.get(shape.shape.job_class, 0) + waiting
        return Live(
            queued=queued,
            providers_up={p.name: p.up for p in book.providers.values()},
            open_offers={p.name: p.open_offers for p in book.providers.values()},
            active_attempts={p.name: len(p.jobs) for p in book.providers.values()},
            unknown_attempts={p.name: p.unknown for p in book.providers.values()},
            store_unread=self._stores.unread() if self._stores else {},
            store_limit=self._stores.limits if self._stores else {},
            ledger_behind=max(0, self._engine.core.now - self._engine.durable_at) / 1e6,
            facts_waiting=len(self._engine.core.inbox),
        )

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        return self._engine.wiring.telemetry.page(self._engine.counters, self.live()).body


def _latest(epoch: int, lines: bytes) -> Progress | None:
    for line in reversed(lines.splitlines()):
        with suppress(ValueError):
            said = json.loads(line)
            loss = said.get("loss")
            shown = None if loss is None else f"{loss:.4g}"
            return Progress(epoch=epoch, step=said.get("step"), loss=shown, at=said.get("at_us"))
    return None
