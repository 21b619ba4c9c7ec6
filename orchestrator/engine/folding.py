"""How does the leader grant what other servers took in? Wish by wish, each answered in the commit that grants it.

Run by `serving` beside the engine. Should the leader die before that commit, the wish is still there for the next one;
after it, it is answered. What is refused, or was granted before under its key, is answered by a commit of its own.
"""

from __future__ import annotations

import asyncio

from orchestrator.engine.core import log
from orchestrator.engine.desk import EngineDesk
from orchestrator.engine.follower import Ask, Told, asked, encoded, error_of
from orchestrator.ports.desk import Busy, DeskError, Refused
from orchestrator.ports.inbox import Folded, Inbox, Wished
from orchestrator.ports.ledger import Batch, Ledger, LedgerError
from orchestrator.ports.provider import Provider

LOOK_S = 1.0
"""Between two looks when nobody rings."""
RETRY_S = 0.5
TRIES_MOST = 2
"""A wish that was in the hands of so many leaders when they ended is not tried on another: it may be why they did."""
POISON = f"{TRIES_MOST} servers ended while they had this wish; it is refused, and nothing of it was kept"


class Folding:
    """The inbox of one lead."""

    def __init__(self, ledger: Ledger, inbox: Inbox, desk: EngineDesk) -> None:
        """Takes nothing yet."""
        self._ledger, self._inbox, self._desk = ledger, inbox, desk
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take and grant, until cancelled; a database that does not answer is asked again."""
        try:
            while True:
                try:
                    for wished in await self._inbox.take():
                        self._begin(wished)
                except LedgerError as away:
                    log.info("the inbox is out of reach", why=str(away))
                await self._inbox.wait(LOOK_S)
        finally:
            for task in self._tasks:
                task.cancel()

    def _begin(self, wished: Wished) -> None:
        task = asyncio.ensure_future(self._grant(wished))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            log.error("a wish of another server failed", exc_info=bug)

    async def _grant(self, wished: Wished) -> None:
        """Until it is answered, or we lead no more."""
        while self._desk.goes_on:
            try:
                await self._answered(wished)
                return
            except (Busy, LedgerError) as later:
                log.info("a wish waits", wish=wished.id, kind=wished.kind, why=str(later))
                await asyncio.sleep(RETRY_S)

    async def _answered(self, wished: Wished) -> None:
        reply = Reply(wished.id)
        try:
            if wished.tries > TRIES_MOST:
                log.error("a wish may be why servers ended", wish=wished.id, kind=wished.kind, tries=wished.tries)
                raise Refused(POISON)
            told = await self._granted(wished.kind, asked(wished.body), reply)
        except Busy:
            raise
        except DeskError as refused:
            told = error_of(refused)
        if not reply.given:
            await self._ledger.commit(Batch(records=(), folded=(Folded(wished.id, encoded(told)),)))

    async def _granted(self, kind: str, ask: Ask, reply: Reply) -> Told:
        """What came of it; `reply` knows whether it is written already, with what it answers."""
        desk = self._desk
        match kind:
            case "submit" if ask.submission is not None:
                row, created = await desk.submit(ask.submission, reply)
                return Told(id=row.job, created=created)
            case "cancel":
                return Told(id=(await desk.cancel(ask.job, ask.by, reply)).job)
            case "resume":
                return Told(id=(await desk.resume(ask.job, ask.by, reply)).job)
            case "amend":
                await desk.amend(ask.contracts, ask.by, reply)
                return Told()
            case "own":
                await desk.own(ask.blocks, ask.by, reply)
                return Told()
            case "record" if ask.record is not None:
                return Told(id=(await desk.record(ask.record, reply)).id)
            case "answer" if ask.answer is not None:  # the same again changes nothing, so it is answered afterwards
                return Told(outcome=await desk.answer(ask.provider, ask.answer))
            case "visit" if ask.visit is not None:
                entered = await desk.enter(ask.visit)
                provider: Provider = entered.access  # type: ignore[assignment]
                return Told(provider=provider.name, key=entered.key)
            case "providers":
                return Told(providers=tuple(await desk.providers()))
            case _:
                return Told(error="Refused", words=f"the server that leads knows no wish {kind!r}")


class Reply:
    """The answer to a wish that is granted, for the commit that grants it."""

    def __init__(self, wish: int) -> None:
        """Not given yet."""
        self._wish, self.given = wish, False

    def __call__(self, made: str) -> Folded:
        """The job or record that the wish makes, or is about."""
        self.given = True
        return Folded(self._wish, encoded(Told(id=made, created=True)))
