"""What may a front ask of the engine? Wishes that are durable when the call returns, and reads that change nothing.

Implements `ports.desk.Desk` where this server leads; called by the API, the demo, benchmarks, and by `granting` for the
wishes of other servers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias
from weakref import WeakValueDictionary

from msgspec.structs import replace

from orchestrator.core.capacity import find
from orchestrator.core.facts import CancelWish, OwnedWish, RecordWish, ResumeWish, ScaleWish, Wish
from orchestrator.core.foreseeing import foreseen, nobody
from orchestrator.core.lifecycle import fold_job
from orchestrator.core.reasons import why
from orchestrator.core.recording import misnamed
from orchestrator.core.restoring import UNREAD
from orchestrator.core.scaling import to_be, why_not, wished
from orchestrator.core.sizes import stops
from orchestrator.core.standing import active
from orchestrator.engine import byhand, visiting
from orchestrator.engine.batching import Carried
from orchestrator.engine.engine import Engine
from orchestrator.engine.noticing import not_started, out_of_reach
from orchestrator.engine.reading import LOOK_S, ReadingDesk, on_record, owned
from orchestrator.engine.renewing import refuse_unrenewed
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.model.capacity import Block
from orchestrator.model.ids import ENTROPY_BYTES, launch_key, new_job_id
from orchestrator.model.job import TERMINAL, JobRow, JobState, LedgerRow
from orchestrator.model.offer import Answer, OfferOut
from orchestrator.model.placement import Shape
from orchestrator.model.record import Record, same
from orchestrator.ports.desk import (
    Busy,
    Conflict,
    Entered,
    Mistaken,
    Outcome,
    ProviderStatus,
    Refused,
    Submission,
    Visit,
)
from orchestrator.ports.inbox import Reply
from orchestrator.ports.ledger import IdempotencyKey
from orchestrator.ports.telemetry import Live
from orchestrator.runlog.rules import RunLog

KEY_LIFE = 7 * 86_400_000_000
"""How long an idempotency key is remembered, microseconds."""
Replying: TypeAlias = Callable[[str], Reply | None]
"""job, record or launch → the reply for the inbox, in the commit that grants a wish; None: the wish came in here."""


def here(_: str) -> None:
    """The wish came in at this server: nobody else waits for an answer."""


class EngineDesk(ReadingDesk):
    """The engine as its fronts see it."""

    def __init__(self, engine: Engine, stores: StoreWatch | None = None) -> None:
        """Over an engine that is started; `stores` knows when each was last read."""
        super().__init__(engine.wiring, stores)
        self._engine = engine
        self._keys: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._last_id = (0, b"")
        self._recording, self._scaling, self._owning = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    # ---- wishes ----

    async def submit(self, wish: Submission, reply: Replying = here) -> tuple[JobRow, bool]:
        """Take a job in; (row, created). The reply is durable with a job that is created, only."""
        self._engine.check_room()
        digest = hashlib.sha256(wish.document).hexdigest()
        if not wish.key:
            return await self._new(wish, digest, reply), True
        async with self._keys.setdefault((wish.project, wish.key), asyncio.Lock()):  # one at a time, to durability
            known = await self._known(wish, digest)
            if known is not None:
                return await self.job(known), False
            return await self._new(wish, digest, reply), True

    async def _new(self, wish: Submission, digest: str, reply: Replying) -> JobRow:
        engine, now = self._engine, self._engine.core.now
        engine.check_room()
        incoming = engine.agreed.intake(wish.document)
        self._check_cited(incoming.shape)
        job = self._new_id(now)
        key = IdempotencyKey(wish.project, wish.key, digest, job, now + KEY_LIFE) if wish.key else None
        event = replace(incoming.event, by=wish.by) if wish.by else incoming.event
        documents = {digest: wish.document, event.shape: incoming.shape_document}
        fact = Wish(job=job, project=wish.project, event=event, shape=incoming.shape)
        await engine.or_failed(asyncio.ensure_future(engine.core.told([fact], Carried(documents, key, reply(job)))))
        return await self.job(job)

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

    async def cancel(self, job: str, by: str, reply: Replying = here) -> JobRow:
        """Ask for the job's end; idempotent."""
        await self._decided(job)
        await self._engine.wish(CancelWish(job, by), Carried(reply=reply(job)))
        return await self.job(job)

    async def resume(self, job: str, by: str, reply: Replying = here) -> JobRow:
        """Let a held job go on."""
        row = await self._decided(job)
        if row.state is not JobState.HELD:
            raise Refused(f"job {job} is {row.state.value}, not held; only held jobs are resumed")
        await self._engine.wish(ResumeWish(job, by), Carried(reply=reply(job)))
        return await self.job(job)

    async def scale(self, job: str, workers: int, least: int, by: str, reply: Replying = here) -> tuple[JobRow, bool]:
        """Give the job another number of workers; (row, whether that is a change)."""
        async with self._scaling:  # so that of two equal wishes at once the second finds the first
            return await self._scale(ScaleWish(job, workers, least, by), reply)

    async def _scale(self, wish: ScaleWish, reply: Replying) -> tuple[JobRow, bool]:
        row = await self._decided(job := wish.job)
        if row.state in TERMINAL:
            raise Refused(f"job {job} cannot have another size: it is {row.state.value}")
        now = self._engine.core.book.known_shapes[to_be(row)]
        if (after := now.ranged(wish.workers, wish.least)) == now:
            return row, False
        if reason := why_not(row, after):
            raise Refused(f"job {job} cannot have another size: {reason}")
        if reason := self._stops_for_nothing(row, after):
            raise Refused(f"job {job} runs on as it is: with another size it would be {reason}")
        await self._engine.wish(wish, Carried(reply=reply(job)))
        return await self._scaled(job, wish.workers, wish.least), True

    def _stops_for_nothing(self, row: JobRow, after: Shape) -> str:
        """Why nobody might run it with its new size, were it stopped for it; empty: somebody may, or nothing runs."""
        if active(row) is None:
            return ""
        book, now = self._engine.core.book, self._engine.core.now
        then = fold_job(row, row.job, row.project, now, wished(row, after, book.known_shapes[row.shape].workers))
        return "" if not stops(then) else nobody(foreseen(book.rulebook, then, after, now, book.ledger)[1])

    async def _decided(self, job: str) -> JobRow:
        """Where a job stands that may be decided about; `Busy` until its run log was read after a restore."""
        if job in self._engine.core.book.unread:
            raise Busy(f"nothing is done for job {job}: {why(UNREAD)}")
        return await self.job(job)

    async def amend(self, document: bytes, by: str, reply: Replying = here) -> LedgerRow:
        """Let a contract set take effect."""
        self._engine.check_room()
        await self._engine.amend(self._engine.wiring.agreed(document), by, Carried(reply=reply("")))
        return await self.in_force()

    async def own(self, blocks: tuple[Block, ...], by: str, reply: Replying = here) -> LedgerRow:
        """Let a set of owned capacity take effect."""
        async with self._owning:  # so that what is judged is what it takes the place of
            self._engine.check_room()
            book = self._engine.core.book
            refuse_unrenewed(book.rulebook, book.ledger, blocks, self._engine.core.now)
            await self._engine.wish(OwnedWish(blocks, by), Carried(reply=reply("")))
            return owned(await self.in_force(), blocks)

    async def record(self, record: Record, reply: Replying = here) -> Record:
        """Put something on record; its id and time are ours. What stands there already is not said twice."""
        async with self._recording:  # so that what is found there is durable, and not found twice by two at once
            return await self._record(record, reply)

    async def _record(self, record: Record, reply: Replying) -> Record:
        if (known := self._on_record(lambda found: same(found, record))) is not None:
            return known
        if record.job and (row := await self.job(record.job)).state in TERMINAL:
            left = f"; what was left of it is job {row.rest}" if row.rest else ""
            raise Refused(f"job {record.job} is {row.state.value}: a record about it would change nothing{left}")
        if record.until is not None and record.until <= self._engine.core.now:
            raise Mistaken("until: it is past, so the record would count for nothing; name a later moment")
        if wrong := misnamed(record, self._engine.core.book.rulebook.contracts):
            raise Mistaken(f"{wrong}; correct it, or apply the contract first")
        if record.block and find(self._engine.core.book.ledger.blocks, record.block) is None:
            raise Mistaken("block: no capacity of that name is owned; `orchestrator capacity` lists what is")
        made = replace(record, id=f"{record.what}-{self._new_id(self._engine.core.now)}", at=0)
        await self._engine.wish(RecordWish(made), Carried(reply=reply(made.id)))
        return on_record(await self.in_force(), made.id, record.job)

    def _on_record(self, which: Callable[[Record], bool]) -> Record | None:
        return next(filter(which, self._engine.durable_ledger.records), None)

    async def enter(self, visit: Visit, reply: Replying = here) -> Entered:
        """Write down who goes in where, then give the way."""
        providers = self._wiring.providers
        wish = visiting.asked(providers, await self._decided(visit.job), visit)
        key = launch_key(visit.job, wish.event.epoch)
        await self._engine.wish(wish, Carried(reply=reply(key)))
        return visiting.entered(providers, await self.job(visit.job), key)

    async def open_offers(self, provider: str) -> Sequence[OfferOut]:
        """What waits for the word of a provider that answers by hand."""
        return byhand.open_offers(self._engine, provider)

    async def answer(self, provider: str, said: Answer) -> Outcome:
        """A provider's people answer an offer."""
        return await byhand.answer(self._engine, provider, said)

    # ---- reads ----

    @property
    def goes_on(self) -> bool:
        """While the engine leads."""
        return self._engine.leads

    async def _committed(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S * 2), self._engine.committed:
                await self._engine.committed.wait()

    async def _log(self, row: JobRow) -> RunLog | None:
        if row.state in TERMINAL:  # nobody watches it any more
            return await super()._log(row)
        keeper = self._engine.keeper
        return (await keeper.read(row.job) if active(row) else None) or keeper.state(row.job)  # somebody watches

    async def job(self, job: str) -> JobRow:
        """Where the job stands, live or over."""
        row = self._engine.durable(job)
        return row if row is not None else await super().job(job)

    async def in_force(self) -> LedgerRow:
        """The ledger's own row."""
        return self._engine.durable_ledger

    async def taken(self) -> dict[str, int]:
        """GPUs that are offered or in use, by the refs of the blocks that are owned."""
        return {block.ref: self._engine.core.book.taken.of(block) for block in self._engine.durable_ledger.blocks}

    async def ending(self, row: JobRow) -> bool:
        """Whether machines of a job that is over may still be there. Who has not said so is asked soon."""
        names = self._engine.ending(row)
        self._engine.ask_soon(names)
        return bool(names)

    async def notices(self, row: JobRow) -> Sequence[str]:
        """Also why its machines are not there yet, and who is out of reach and may still have some when it is over."""
        core, names = self._engine.core, self._engine.ending(row)
        unsure = out_of_reach(names, core.book.providers)
        return [*await super().notices(row), *not_started(row, core.waits), *unsure]

    async def providers(self) -> Sequence[ProviderStatus]:
        """All providers in file order."""
        return [
            ProviderStatus(
                name=p.name, reachable=p.up, since=p.since, open_offers=p.open_offers, active_attempts=len(p.jobs)
            )
            for p in self._engine.core.book.providers.values()
        ]

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
