"""One pass of the loop as a value: the events decided in it, folded into the book as they are decided.

Made by the engine, filled by the planner, committed by the engine. Effects follow from the rows it changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.book import Book
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow


@dataclass(slots=True)
class Turn:
    """What was decided at `now` (microseconds UTC)."""

    book: Book
    now: int
    events: list[tuple[str, str, ev.AnyEvent, JobRow | None, JobRow | None]] = field(default_factory=list)
    """(job, project, event, row before, row after); for events of the whole ledger job is "" and rows are None."""
    changed: set[str] = field(default_factory=set)
    released: list[tuple[str, str]] = field(default_factory=list)
    """(provider, offer id) of earmarks to give back."""
    look: set[str] = field(default_factory=set)
    """Jobs whose run log should be read."""
    documents: dict[str, bytes] = field(default_factory=dict)
    """Documents that its events cite, by digest: shapes of jobs that are decided otherwise from here on."""

    def emit(self, job: str, event: ev.AnyEvent, project: str = "") -> JobRow:
        """Record an event of one job and fold it in; returns the row after it."""
        before = self.book.jobs.get(job)
        project = before.project if before is not None else project
        after = self.book.apply(job, project, self.now, event)
        self.events.append((job, project, event, before, after))
        self.changed.add(job)
        return after

    def emit_ledger(self, event: ev.AnyEvent) -> None:
        """Record an event of the whole ledger and fold it in."""
        self.book.apply_ledger(self.now, event)
        self.events.append(("", "", event, None, None))
