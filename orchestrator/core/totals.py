"""How much has been placed under an exemption in its window? Anti-structuring totals (R17).

Held by the rule book; fed by the book as attempts are intended and end, and at a restart from the ledger's rows.
Counted from workers × maxRuntime when an attempt is intended, corrected to what it used when it ends. GPU-
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from orchestrator.core.clauses import selects
from orchestrator.model.contract import Contracts, Exemption
from orchestrator.model.job import AttemptRow
from orchestrator.model.placement import Shape


class Limit(Struct, frozen=True):
    """A total that some clause's exemption may not exceed."""

    key: str
    """`contract/clause/exemption`."""
    most_ms: int
    window_us: int
    per_lineage: bool

    def account(self, lineage: str) -> str:
        """Under which the volume of a job is counted: all jobs together, or those of its lineage."""
        return f"{self.key}@{lineage}" if self.per_lineage else self.key


def limits_of(contracts: Contracts | None) -> dict[str, Limit]:
    """Every limited exemption of a contract set, by key."""
    found = {}
    for clause in contracts.of_holders if contracts else ():
        for exempt in clause.exempt:
            if exempt.limit_ms is not None:
                found[f"{clause.ref}/{exempt.id}"] = _limit(clause.ref, exempt, exempt.limit_ms)
    return found


def _limit(ref: str, exempt: Exemption, most: int) -> Limit:
    return Limit(f"{ref}/{exempt.id}", most, exempt.window_us, exempt.per_lineage)


def limiting(contracts: Contracts | None, shape: Shape) -> Iterator[str]:
    """The keys of the limited exemptions that select jobs of this shape."""
    for clause in contracts.of_holders if contracts else ():
        if selects(clause.select, shape):
            chosen = (e for e in clause.exempt if e.limit_ms is not None and selects(e.select, shape))
            yield from (f"{clause.ref}/{exempt.id}" for exempt in chosen)


def volume(shape: Shape, attempt: AttemptRow) -> int:
    """What an attempt counts for: all that it may use, and once it is over what it used."""
    return shape.gpu_ms if attempt.ended_at is None else min(shape.gpus * attempt.ran_ms, shape.gpu_ms)


class Totals:
    """The volumes in their windows. What has left its window is dropped when somebody asks."""

    def __init__(self) -> None:
        """Nothing was placed yet."""
        self._entries: dict[str, dict[tuple[str, int], tuple[int, int]]] = {}
        self._sums: dict[str, int] = {}

    def recount(self, found: Iterable[tuple[Iterable[str], str, AttemptRow, Shape]]) -> None:
        """After a restart: every attempt that may still be in some window, as `note` takes them, in any order."""
        self._entries.clear()
        self._sums.clear()
        for accounts, job, attempt, shape in sorted(found, key=lambda one: one[2].intended_at):
            self.note(accounts, job, attempt, shape)

    def note(self, accounts: Iterable[str], job: str, attempt: AttemptRow, shape: Shape) -> None:
        """An attempt was intended: its volume counts under each account."""
        for account in accounts:
            used = volume(shape, attempt)
            self._entries.setdefault(account, {})[job, attempt.epoch] = (attempt.intended_at, used)
            self._sums[account] = self._sums.get(account, 0) + used

    def correct(self, accounts: Iterable[str], job: str, attempt: AttemptRow, shape: Shape) -> None:
        """An attempt is over: what it used counts, unless it has left the window already."""
        for account in accounts:
            entries = self._entries.get(account, {})
            if (known := entries.get((job, attempt.epoch))) is not None:
                entries[job, attempt.epoch] = (known[0], volume(shape, attempt))
                self._sums[account] += volume(shape, attempt) - known[1]

    def used(self, account: str, since_us: int) -> int:
        """What was placed under an account after `since_us`."""
        entries = self._entries.get(account)
        while entries:
            first = next(iter(entries))
            at, used = entries[first]
            if at > since_us:
                break
            del entries[first]
            self._sums[account] -= used
        return self._sums.get(account, 0)
