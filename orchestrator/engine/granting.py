"""How does the leader grant what other servers took in? Wish by wish, the reply in the commit that grants it.

Run by `serving` beside the engine. Should the leader die before that commit, the wish is still there for the next one;
after it, there is a reply. What is refused, or was granted before under its key, has a commit of its own.
"""

from __future__ import annotations

import asyncio

from orchestrator.engine.core import log
from orchestrator.engine.desk import EngineDesk
from orchestrator.engine.follower import Told, WishBody, encoded, error_of, wish_body
from orchestrator.model.documents.errors import DocumentError
from orchestrator.ports.desk import Busy, DeskError, Refused
from orchestrator.ports.inbox import Inbox, Reply, Wished
from orchestrator.ports.ledger import Batch, Ledger, LedgerError

LOOK_S = 1.0
"""Between two looks when nobody rings."""
RETRY_S = 0.5
"""Before a wish is tried again for which there was no room, or no ledger: both are soon back, as a rule."""
TRIES_MOST = 2
"""A wish that was in the hands of so many leaders when they ended is not tried on another: it may be why they did."""
POISON = f"{TRIES_MOST} servers ended while they had this wish; it is refused, and nothing of it was kept"


class Granting:
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
        """Until it has a reply, or we lead no more."""
        while self._desk.goes_on:
            try:
                await self._replied(wished)
                return
            except (Busy, LedgerError) as later:
                log.info("a wish waits", wish=wished.id, kind=wished.kind, why=str(later))
                await asyncio.sleep(RETRY_S)

    async def _replied(self, wished: Wished) -> None:
        grant = Grant(wished.id)
        try:
            if wished.tries > TRIES_MOST:
                log.error("a wish may be why servers ended", wish=wished.id, kind=wished.kind, tries=wished.tries)
                raise Refused(POISON)
            told = await self._granted(wished.kind, wish_body(wished.body), grant)
        except Busy:
            if grant.given:  # its reply is written; whoever wished it looks at what became of it
                return
            raise
        except (DeskError, DocumentError) as refused:
            told = error_of(refused)
        if not grant.given:
            await self._ledger.commit(Batch(events=(), replies=(Reply(wished.id, encoded(told)),)))

    async def _granted(self, kind: str, body: WishBody, grant: Grant) -> Told:
        """What came of it; `grant` knows whether it is written already, with what it says."""
        desk = self._desk
        match kind:
            case "submit" if body.submission is not None:
                row, created = await desk.submit(body.submission, grant)
                return Told(id=row.job, created=created)
            case "cancel":
                return Told(id=(await desk.cancel(body.job, body.by, grant)).job)
            case "resume":
                return Told(id=(await desk.resume(body.job, body.by, grant)).job)
            case "scale":
                row, changed = await desk.scale(body.job, body.workers, body.least, body.by, grant)
                return Told(id=row.job, created=changed)
            case "amend":
                await desk.amend(body.contracts, body.by, grant)
                return Told()
            case "own":
                await desk.own(body.blocks, body.by, grant)
                return Told()
            case "record" if body.record is not None:
                return Told(id=(await desk.record(body.record, grant)).id)
            case "answer" if body.answer is not None:  # the same again changes nothing, so the reply comes after it
                return Told(outcome=await desk.answer(body.provider, body.answer))
            case "visit" if body.visit is not None:
                return Told(id=(await desk.enter(body.visit, grant)).key)
            case _:
                return await self._read(kind, body)

    async def _read(self, kind: str, body: WishBody) -> Told:
        """What only the leader knows, and nothing comes of."""
        desk = self._desk
        match kind:
            case "providers":
                return Told(providers=tuple(await desk.providers()))
            case "taken":
                return Told(taken=await desk.taken())
            case "ending":
                return Told(ending=await desk.ending(await desk.job(body.job)))
            case _:
                return Told(error="Refused", words=f"the server that leads knows no wish {kind!r}")


class Grant:
    """One wish that is being granted: makes the reply for the commit that grants it."""

    def __init__(self, wish: int) -> None:
        """Not given yet."""
        self._wish, self.given = wish, False

    def __call__(self, made: str) -> Reply:
        """The job, record or launch that the wish makes, or is about."""
        self.given = True
        return Reply(self._wish, encoded(Told(id=made, created=True)))
