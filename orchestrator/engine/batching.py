"""What goes into one commit? A turn's events with everything that must become durable beside them.

Called by the loop between planning and executing. Documents are written once: a digest that was written (or found) in
this process is not sent again; one that an earlier process wrote is ignored by the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.core.counters import count
from orchestrator.core.turn import Turn
from orchestrator.model import event as ev
from orchestrator.model.job import TERMINAL, JobRow, LedgerRow, row_bytes
from orchestrator.model.placement import terms_bytes
from orchestrator.ports.inbox import Reply
from orchestrator.ports.ledger import Batch, IdempotencyKey, LiveRow, NewEvent

KNOWN_MOST = 200_000
"""Digests remembered; beyond it the memory starts anew and the ledger ignores what it has."""


class Carried(Struct, frozen=True):
    """What becomes durable together with a fact, in the same commit."""

    documents: Mapping[str, bytes] = {}
    """By digest."""
    key: IdempotencyKey | None = None
    reply: Reply | None = None
    """To the wish of the inbox that the fact comes from."""


class Batcher:
    """Makes batches of turns."""

    def __init__(self) -> None:
        """Knows no documents yet."""
        self._known: set[str] = set()
        self.documents: dict[str, bytes] = {}
        """Documents of wishes in the present turn, by digest."""
        self.keys: list[IdempotencyKey] = []
        self.replies: list[Reply] = []

    @property
    def waiting(self) -> bool:
        """Whether there is something to commit although nothing happened."""
        return bool(self.replies)

    def carry(self, carried: Carried) -> None:
        """The fact that carries this is in the present turn."""
        self.documents.update(carried.documents)
        if carried.key is not None:
            self.keys.append(carried.key)
        if carried.reply is not None:
            self.replies.append(carried.reply)

    def batch(self, turn: Turn, presence: int | None) -> Batch:
        """Everything of the turn; forgets the wishes' documents and keys."""
        documents = self.documents | turn.documents
        specs = {d: body for d, body in documents.items() if d not in self._known}
        counters: dict[str, int] = {}
        events = []
        for job, project, event, before, after in turn.events:
            events.append(NewEvent(turn.now, ev.kind_of(event), project, job, ev.encode(event)))
            for name, amount in count(event, turn.now, before, after).items():
                counters[name] = counters.get(name, 0) + amount
            if isinstance(event, ev.OfferOpened) and event.terms not in self._known:
                specs[event.terms] = terms_bytes(turn.book.terms[event.terms])
        rows = [live_row(turn.book.jobs[job]) for job in sorted(turn.changed) if job in turn.book.jobs]
        if any(job == "" for job, *_ in turn.events):
            rows.append(ledger_live_row(turn.book.ledger))
        batch = Batch(events, rows, specs, counters, tuple(self.keys), presence, tuple(self.replies))
        self._remember(specs)
        return batch

    def _remember(self, specs: dict[str, bytes]) -> None:
        if len(self._known) > KNOWN_MOST:
            self._known.clear()
        self._known.update(specs)
        self.documents, self.keys, self.replies = {}, [], []


def live_row(row: JobRow) -> LiveRow:
    """The row as the ledger keeps it; a job that is over is no longer live."""
    return LiveRow(row.job, row.project, row.state.value, row_bytes(row), row.state not in TERMINAL)


def ledger_live_row(row: LedgerRow) -> LiveRow:
    """The ledger's own row."""
    return LiveRow("", "", "", row_bytes(row))
