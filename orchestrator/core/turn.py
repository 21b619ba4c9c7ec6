"""One pass of the loop as a value: the events decided in it, folded into the book as they are decided.

Made by the engine, filled by the planner, committed by the engine. Effects follow from the rows it changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from orchestrator.core.book import Book
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, LedgerRow
from orchestrator.model.placement import Shape, Terms, shape_bytes, terms_bytes


@dataclass(slots=True)
class Turn:
    """What was decided at `now` (microseconds UTC)."""

    book: Book
    now: int
    events: list[tuple[str, str, ev.AnyEvent, JobRow | None, JobRow | None]] = field(default_factory=list)
    """(job, project, event, row before, row after); for events of the whole ledger job is "" and rows are None."""
    changed: dict[str, JobRow | None] = field(default_factory=dict)
    """Job → where it stood as the turn began; None: it was not there."""
    released: list[tuple[str, str]] = field(default_factory=list)
    """(provider, offer id) of earmarks to give back."""
    look: set[str] = field(default_factory=set)
    """Jobs whose run log should be read."""
    documents: dict[str, bytes] = field(default_factory=dict)
    """Documents that its events cite, by digest: shapes of jobs that are decided otherwise from here on, and terms that
    were refused without being offered."""
    ledger_before: LedgerRow = field(init=False)
    """The ledger's own row as the turn began."""

    def __post_init__(self) -> None:
        self.ledger_before = self.book.ledger

    def before(self, job: str) -> JobRow | None:
        """Where a job stood as the turn began."""
        return self.changed[job] if job in self.changed else self.book.jobs.get(job)

    def emit(self, job: str, event: ev.AnyEvent, project: str = "") -> JobRow:
        """Record an event of one job and fold it in; returns the row after it."""
        before = self.book.jobs.get(job)
        project = before.project if before is not None else project
        after = self.book.apply(job, project, self.now, event)
        self.events.append((job, project, event, before, after))
        self.changed.setdefault(job, before)
        return after

    def touch(self, job: str) -> None:
        """Look again at what follows from the job's row, although nothing happened to it."""
        self.changed.setdefault(job, self.book.jobs.get(job))

    def emit_ledger(self, event: ev.AnyEvent) -> None:
        """Record an event of the whole ledger and fold it in."""
        self.book.apply_ledger(self.now, event)
        self.events.append(("", "", event, None, None))

    def cite(self, shape: Shape) -> str:
        """The digest of a shape, which an event of this turn is to cite."""
        digest = self._keep(shape_bytes(shape))
        self.book.known_shapes[digest] = shape
        return digest

    def cite_terms(self, terms: Terms) -> str:
        """The hash of terms, which an event of this turn is to cite."""
        digest = self._keep(terms_bytes(terms))
        self.book.terms[digest] = terms
        return digest

    def _keep(self, body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()
        self.documents[digest] = body
        return digest
