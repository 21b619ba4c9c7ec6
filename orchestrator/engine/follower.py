"""What may a front ask of a server that does not lead? Every read; and wishes, which another server grants.

Implements `ports.desk.Desk` beside `EngineDesk`. A wish goes into the ledger's inbox and is waited for; one that nobody
has taken in time is withdrawn, so that the caller knows that nothing was kept. Without an inbox (SQLite) there is no
other server, and wishes are told to come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from orchestrator.engine import byhand, visiting
from orchestrator.engine.leaving import ended_lately
from orchestrator.engine.reading import ReadingDesk, on_record, owned
from orchestrator.model.capacity import Block
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.job import TERMINAL, JobRow, LedgerRow
from orchestrator.model.offer import Answer, OfferOut
from orchestrator.model.record import Record
from orchestrator.ports.desk import (
    Busy,
    Conflict,
    DeskError,
    Entered,
    Mistaken,
    NoShell,
    NothingRuns,
    Outcome,
    ProviderStatus,
    Refused,
    Submission,
    UnknownJob,
    UnknownOffer,
    Visit,
)
from orchestrator.ports.ledger import LedgerError, LedgerUnavailable
from orchestrator.ports.telemetry import Live

PATIENCE_S = 10.0
"""How long a wish waits for a leader: longer than it takes until another server leads."""
ASIDE_S = 2.0
"""The same, for what can be left out of an answer."""
TAKEN_S = 5.0
"""How much longer where a leader has taken it."""
NOBODY = "no server leads at the moment"
ERRORS: dict[str, type[DeskError]] = {
    kind.__name__: kind for kind in (UnknownJob, UnknownOffer, Conflict, Mistaken, Refused, NothingRuns, NoShell, Busy)
}


class WishBody(msgspec.Struct, omit_defaults=True):
    """What a wish in the inbox says."""

    job: str = ""
    by: str = ""
    submission: Submission | None = None
    visit: Visit | None = None
    record: Record | None = None
    contracts: bytes = b""
    blocks: tuple[Block, ...] = ()
    provider: str = ""
    answer: Answer | None = None
    """`provider`'s, to an offer."""
    workers: int = 0
    least: int = 0
    """Of another size."""


class Told(msgspec.Struct, omit_defaults=True):
    """The reply to it; `error` names one of the desk's."""

    id: str = ""
    """Of the job or record that the wish made, or found; of the launch that is visited, or the job of an error."""
    created: bool = False
    providers: tuple[ProviderStatus, ...] = ()
    taken: dict[str, int] | None = None
    ending: bool = False
    outcome: Outcome | None = None
    error: str = ""
    words: str = ""
    problems: tuple[Problem, ...] = ()
    """Of a document that is refused."""


class FollowerDesk(ReadingDesk):
    """A server beside the one that leads. Reads at once; nothing is taken in where the ledger has no inbox."""

    async def submit(self, wish: Submission) -> tuple[JobRow, bool]:
        """Hand a job over; (row, created)."""
        self._wiring.intake(wish.document)  # what is refused is refused here
        told = await self._wish("submit", WishBody(submission=wish))
        return await self.job(told.id), told.created

    async def cancel(self, job: str, by: str) -> JobRow:
        """Hand over that somebody asks for the job's end."""
        await self.job(job)
        await self._wish("cancel", WishBody(job=job, by=by))
        return await self.job(job)

    async def resume(self, job: str, by: str) -> JobRow:
        """Hand over that a held job may go on."""
        await self._wish("resume", WishBody(job=job, by=by))
        return await self.job(job)

    async def scale(self, job: str, workers: int, least: int, by: str) -> tuple[JobRow, bool]:
        """Hand over that somebody gives the job another number of workers; (row, whether that is a change)."""
        told = await self._wish("scale", WishBody(job=job, by=by, workers=workers, least=least))
        return await (self._scaled(job, workers, least) if told.created else self.job(job)), told.created

    async def amend(self, document: bytes, by: str) -> LedgerRow:
        """Hand over that another contract set takes effect."""
        await self._wish("amend", WishBody(contracts=document, by=by))
        return await self.in_force()

    async def own(self, blocks: tuple[Block, ...], by: str) -> LedgerRow:
        """Hand over that another set of owned capacity takes effect."""
        await self._wish("own", WishBody(blocks=blocks, by=by))
        return owned(await self.in_force(), blocks)

    async def record(self, record: Record) -> Record:
        """Hand over what goes on record."""
        told = await self._wish("record", WishBody(record=record))
        return on_record(await self.in_force(), told.id, record.job)

    async def open_offers(self, provider: str) -> Sequence[OfferOut]:
        """As they lie in the ledger."""
        return await byhand.open_in_ledger(self._wiring, provider)

    async def answer(self, provider: str, said: Answer) -> Outcome:
        """Hand over what a provider's people say."""
        told = await self._wish("answer", WishBody(provider=provider, answer=said))
        assert told.outcome is not None, "an answer that was folded in has an outcome"
        return told.outcome

    async def enter(self, visit: Visit) -> Entered:
        """Have it written down who goes in where; the way in is our own."""
        told = await self._wish("visit", WishBody(visit=visit))
        return visiting.entered(self._wiring.providers, await self.job(visit.job), told.id)

    async def providers(self) -> Sequence[ProviderStatus]:
        """As the leader sees them."""
        return (await self._wish("providers", WishBody())).providers

    async def taken(self) -> Mapping[str, int] | None:
        """As the leader sees it; None: there is none, or an older one."""
        with suppress(DeskError, LedgerError):
            return (await self._wish("taken", WishBody(), ASIDE_S)).taken
        return None

    async def ending(self, row: JobRow) -> bool:
        """As the leader knows; where none says it, what ended lately may have machines."""
        if row.state not in TERMINAL or not row.attempts:
            return False
        with suppress(DeskError, LedgerError):
            return (await self._wish("ending", WishBody(job=row.job), ASIDE_S)).ending
        return any(ended_lately(attempt, self._wiring.clock.now_us()) for attempt in row.attempts)

    async def ready(self) -> str | None:
        """None when the ledger answers, and there is an inbox for wishes."""
        if self._wiring.ledger.inbox is None:
            return "this server does not lead; its log says why, and it is tried again and again"
        try:
            await self._wiring.ledger.presence()
        except LedgerError as away:
            return str(away)
        return None

    def live(self) -> Live:
        """Of the ledger nothing: the leader tells."""
        if self._stores is None:
            return Live()
        return Live(store_unread=self._stores.unread(), store_limit=self._stores.limits)

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        return self._wiring.telemetry.page({}, self.live()).body

    async def _wish(self, kind: str, body: WishBody, patience_s: float = PATIENCE_S) -> Told:
        inbox = self._wiring.ledger.inbox
        if inbox is None:
            raise Busy(NOBODY)
        wish = await inbox.put(kind, msgspec.json.encode(body))
        reply = await inbox.reply(wish, patience_s)
        if reply is None and await inbox.withdraw(wish):
            raise Busy(NOBODY)
        reply = reply or await inbox.reply(wish, TAKEN_S)
        if reply is None:
            raise LedgerUnavailable("The server that leads has this wish and did not answer yet.")
        return _heard(msgspec.json.decode(reply, type=Told))


def _heard(told: Told) -> Told:
    if told.problems:
        raise DocumentError(told.problems)
    if told.error == Conflict.__name__:
        raise Conflict(told.words, told.id)
    if told.error:
        raise ERRORS.get(told.error, Busy)(told.words)
    return told


def error_of(error: DeskError | DocumentError) -> Told:
    """What the leader answers where it grants nothing."""
    if isinstance(error, DocumentError):
        return Told(error=Refused.__name__, words=str(error), problems=error.problems)
    name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in ERRORS), Refused.__name__)
    return Told(id=error.job if isinstance(error, Conflict) else "", error=name, words=str(error))


def encoded(told: Told) -> bytes:
    """As it lies in the inbox."""
    return msgspec.json.encode(told)


def wish_body(body: bytes) -> WishBody:
    """A wish as the leader reads it."""
    return msgspec.json.decode(body, type=WishBody)
