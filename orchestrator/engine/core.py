"""What every part of the engine shares: the book, the inbox of facts, and what is being done right now.

Lanes, feeds, keeper and sweepers tell facts here and ask whether an effect is still wanted; the loop takes the facts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

import structlog

from orchestrator.core.book import Book
from orchestrator.core.effects import Effect, effects_of
from orchestrator.core.facts import Fact, Sighted
from orchestrator.core.moves import FOR_A_PERSON
from orchestrator.core.standing import active
from orchestrator.engine.batching import Carried
from orchestrator.engine.lead import Lead
from orchestrator.engine.leaving import Leaving
from orchestrator.engine.wiring import Wiring
from orchestrator.model.ids import is_launch_key, launch_key, parse_launch_key
from orchestrator.model.job import JobRow, JobState, job_row
from orchestrator.model.offer import Sighting, SightingState

log = structlog.get_logger("orchestrator.engine")
RECENT = 30_000_000
"""Another provider that answered us this recently (microseconds) shows that our network works."""


class Core:
    """Shared state of one engine. Single-threaded: everything happens on the loop."""

    def __init__(self, wiring: Wiring, book: Book, lead: Lead, last_at: int = 0) -> None:
        """Nothing runs yet; `last_at`: the ledger's last event, by the clock of whoever led then."""
        self.wiring, self.book, self.lead = wiring, book, lead
        self._ahead = max(0, last_at - wiring.clock.now_us())
        """The ledger's time never runs back: if the last leader's clock was ahead of ours, we go on from there."""
        self.ledger_id = wiring.ledger.ledger_id
        self.inbox: deque[tuple[Fact, asyncio.Future[None] | None, Carried | None]] = deque()
        self.arrived = asyncio.Event()
        self.pending: set[Effect] = set()
        self.answered_at: dict[str, int] = {}
        self.waits: dict[str, str] = {}
        """Launch key → what its provider last said of machines that are not there yet. Nothing is decided by it."""
        self.leaving = {name: Leaving(name, self.now) for name in wiring.providers}
        """By provider, the launches that are to be gone and may not be. Nothing is decided by it either."""

    @property
    def now(self) -> int:
        """Our time, microseconds UTC."""
        return self.wiring.clock.now_us() + self._ahead

    @property
    def term(self) -> int:
        """The number of our lead."""
        return self.lead.term

    def sighted(self, provider: str, sightings: Iterable[Sighting]) -> list[Fact]:
        """What was seen at a provider, as facts."""
        found: list[Fact] = []
        for seen in sightings:
            self.waits.pop(seen.key, None)
            self.leaving[provider].seen(seen)
            if seen.state is SightingState.PROVISIONING and seen.detail:
                self.waits[seen.key] = seen.detail
            found.append(Sighted(provider, seen))
        return found

    def tell(self, *facts: Fact) -> None:
        """Put facts into the next turn."""
        self.inbox.extend((fact, None, None) for fact in facts)
        self.arrived.set()

    async def told(self, facts: Sequence[Fact], carried: Carried | None = None) -> None:
        """Put facts into the next turn and wait until it is committed; `carried` with the last of them."""
        if not facts:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.inbox.extend((fact, None, None) for fact in facts[:-1])
        self.inbox.append((facts[-1], done, carried))
        self.arrived.set()
        await done

    def wanted(self, effect: Effect) -> bool:
        """Whether the book still wants this done."""
        row = self.book.jobs.get(effect.job)
        return row is not None and effect in effects_of(row)

    def others_answer(self, provider: str) -> bool:
        """Whether some other provider answered us recently: if not, a silence may be our own network's."""
        now = self.now
        return any(p != provider and now - at < RECENT for p, at in self.answered_at.items())

    def owned(self, provider: str) -> set[str]:
        """Keys of the attempts that may be alive at a provider."""
        keys = (_alive(self.book.jobs[job]) for job in self.book.providers[provider].jobs)
        return {key for key in keys if key}

    def owned_elsewhere(self, key: str, provider: str) -> bool:
        """Whether this is the key of an attempt that may be alive at another provider than this one."""
        row = self.book.jobs.get(parse_launch_key(key)[0]) if is_launch_key(key) else None
        attempt = active(row) if row is not None else None
        return row is not None and attempt is not None and attempt.provider != provider and _alive(row) == key

    def held_for_a_person(self, key: str) -> bool:
        """Whether this is a launch of a job that somebody must look at first: it may be healthy, and is left alone."""
        row = self.book.jobs.get(parse_launch_key(key)[0]) if is_launch_key(key) else None
        held = row is not None and row.state is JobState.HELD and row.reason in FOR_A_PERSON
        return held or (row is not None and row.job in self.book.unread)

    async def recall(self, job: str) -> bool:
        """Take a job that is over back into the book: its provider still has something to say, a bill.

        True if it was taken back, for the caller to let it go again.
        """
        stored = None if job in self.book.jobs else await self.wiring.ledger.row(job)
        if stored is None or job in self.book.jobs:
            return False
        self.book.jobs[job] = job_row(stored.body)
        return True

    def row(self, job: str) -> JobRow | None:
        """The job's row, if the book has it."""
        return self.book.jobs.get(job)


def _alive(row: JobRow) -> str:
    """The key of the job's attempt that may be alive; empty: none may."""
    attempt = active(row)
    return launch_key(row.job, attempt.epoch) if attempt is not None and row.fence <= attempt.epoch else ""
