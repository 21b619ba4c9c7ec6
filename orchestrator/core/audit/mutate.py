"""Which sentences would notice a forged ledger? Forge one event at a time, hash the chain anew, and see.

Called by `orchestrator audit mutate`. The forger is given the chain and the heads for free (whoever runs the ledger can
rewrite it whole); rows, documents and counters stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.audit.export import EventLine, Export
from orchestrator.core.audit.forger import rehash
from orchestrator.core.audit.history import Documents
from orchestrator.core.audit.verify import verify
from orchestrator.model import event as ev

Events: TypeAlias = Sequence[EventLine]
Forgery: TypeAlias = Callable[[Events, int, int], Events | None]
"""(events, index, microseconds of one window) → forged events; None: there is nothing to forge."""
TRIED = 3
"""Events of each kind that are forged: the first ones."""
DEFAULT_WINDOW = 60_000_000


class Outcome(Struct, frozen=True):
    """What came of one kind of forgery on one kind of event."""

    kind: str
    forgery: str
    tried: int
    detected: int
    by: tuple[int, ...]
    """Sentences that reported any of them."""

    @property
    def words(self) -> str:
        """The cell of the table."""
        if self.by:
            return ", ".join(map(str, self.by))
        return f"undetected: {_why(self)}"


def mutate(export: Export, documents: Documents) -> Iterator[Outcome]:
    """Every forgery of every kind of event in the export, in the order of kinds."""
    honest = {v.number: v.violations for v in verify(export, documents).verdicts}
    present = {line.kind for line in export.events}
    for kind in (k for k in ev.KINDS if k in present):
        places = [at for at, line in enumerate(export.events) if line.kind == kind][:TRIED]
        for name, forge in FORGERIES.items():
            yield _try(export, documents, honest, kind, name, forge, places)


def _try(
    export: Export, documents: Documents, honest: dict[int, int], kind: str, name: str, forge: Forgery,
    places: Sequence[int],
) -> Outcome:  # fmt: skip
    by: set[int] = set()
    tried = detected = 0
    for at in places:
        events = forge(export.events, at, _window(export.events, at))
        if events is None:
            continue
        tried += 1
        report = verify(rehash(export, events), documents)
        found = {v.number for v in report.verdicts if v.violations > honest[v.number]}
        detected += bool(found)
        by |= found
    return Outcome(kind, name, tried, detected, tuple(sorted(by)))


def _window(events: Events, at: int) -> int:
    """The window of the job's last offer up to here; of any other for events of the whole ledger."""
    job = events[at].job
    for line in reversed(events[: at + 1]):
        if line.kind == "OfferOpened" and line.job == job and line.body is not None:
            opened = ev.decode(line.body.encode())
            if isinstance(opened, ev.OfferOpened):
                return opened.window
    return DEFAULT_WINDOW


def _delete(events: Events, at: int, window: int) -> Events:
    return [*events[:at], *events[at + 1 :]]


def _duplicate(events: Events, at: int, window: int) -> Events:
    return [*events[: at + 1], *events[at:]]


def _swap(events: Events, at: int, window: int) -> Events | None:
    """With the job's next event; each keeps the other's time, so that time stays monotone."""
    job = events[at].job
    other = next((n for n in range(at + 1, len(events)) if events[n].job == job), None)
    if other is None:
        return None
    forged = list(events)
    forged[at], forged[other] = replace(events[other], at=events[at].at), replace(events[at], at=events[other].at)
    return forged


def _earlier(events: Events, at: int, window: int) -> Events:
    return _moved(events, at, -2 * window)


def _later(events: Events, at: int, window: int) -> Events:
    return _moved(events, at, 2 * window)


def _moved(events: Events, at: int, by: int) -> Events:
    """To another time, and to the place where that time belongs."""
    line = replace(events[at], at=max(0, events[at].at + by))
    rest = [*events[:at], *events[at + 1 :]]
    fits = (n for n, other in enumerate(rest) if other.at > line.at)
    if by < 0:
        fits = (n for n, other in enumerate(rest) if other.at >= line.at)
    place = next(fits, len(rest))
    return [*rest[:place], line, *rest[place:]]


FORGERIES: dict[str, Forgery] = {
    "delete": _delete,
    "duplicate": _duplicate,
    "swap": _swap,
    "earlier": _earlier,
    "later": _later,
}


def _why(outcome: Outcome) -> str:
    if not outcome.tried:
        return "its job has no next event"
    if outcome.forgery == "swap":
        return "the two say nothing about each other: the same story in another order"
    if outcome.forgery in ("earlier", "later"):
        return "no rule depends on its time, and it still lies between the events that need it and those it needs"
    if outcome.forgery == "duplicate":
        return "it says once more what was said"
    return "the row keeps no trace of it, and nothing that follows depends on it"
