"""How much has been placed under an exemption in its window? Anti-structuring totals (R17).

Held by the rule book; fed by the book as attempts are intended and end, and at a restart from the ledger's rows.
Counted from workers × maxRuntime when an attempt is intended (of an elastic job the workers that were accepted),
corrected to what it used when it ends. GPU-milliseconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import UNSET, Struct

from orchestrator.core.clauses import may_select, selects
from orchestrator.model.contract import Contracts, Exemption
from orchestrator.model.job import AttemptRow, JobRow
from orchestrator.model.placement import Shape


class Limit(Struct, frozen=True):
    """A total that some clause's exemption may not exceed."""

    key: str
    """`contract/clause/exemption`."""
    most_ms: int
    window_us: int
    per_lineage: bool

    def account(self, root: str) -> str:
        """Under which the volume of a job is counted: all jobs together, or its lineage, which is all of its parts."""
        return _lineage(self.key, root) if self.per_lineage else self.key


def _lineage(key: str, root: str) -> str:
    return f"{key}@{root}"


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
        if may_select(clause.select, shape):
            chosen = (e for e in clause.exempt if e.limit_ms is not None and selects(e.select, shape))
            yield from (f"{clause.ref}/{exempt.id}" for exempt in chosen)


def exempting(contracts: Contracts | None) -> bool:
    """Whether any clause leaves jobs free by an exemption."""
    return any(clause.exempt for clause in (contracts.of_holders if contracts else ()))


def volume(shape: Shape, attempt: AttemptRow) -> int:
    """What an attempt counts for: all that it may use, and once it is over what it used."""
    shape = shape.sized(attempt.workers)
    return shape.gpu_ms if attempt.ended_at is None else min(shape.gpus * attempt.ran_ms, shape.gpu_ms)


class _Account(Struct):
    """What was ever placed under one total, in order, and the sum of what is still in its window.

    Nothing is forgotten: an amendment may make the window longer.
    """

    order: list[tuple[str, int]] = []
    """(job, epoch)"""
    known: dict[tuple[str, int], tuple[int, int]] = {}
    """… → (when it was intended, its volume)"""
    since: int = 0
    first: int = 0
    """The first in the window, whose begin is `since`."""
    total: int = 0

    def put(self, key: tuple[str, int], at: int, used: int) -> None:
        """One attempt's volume, for the first time or anew."""
        if key not in self.known:
            self.order.append(key)
        before = self.known.get(key, (at, 0))
        self.known[key] = (before[0], used)
        if before[0] > self.since:
            self.total += used - before[1]

    def used(self, since: int) -> int:
        """The volume after a moment."""
        if since < self.since:
            self.first, self.total = 0, sum(used for _, used in self.known.values())
        self.since = since
        while self.first < len(self.order) and (one := self.known[self.order[self.first]])[0] <= since:
            self.total -= one[1]
            self.first += 1
        return self.total


class Totals:
    """The volumes in their windows."""

    def __init__(self) -> None:
        """Nothing was placed yet."""
        self._accounts: dict[str, _Account] = defaultdict(_Account)

    def recount(self, found: Iterable[tuple[JobRow, AttemptRow, Shape]]) -> None:
        """After a restart: every attempt that was intended under an exemption, as `note` takes them, in any order."""
        self._accounts.clear()
        for row, attempt, shape in sorted(found, key=lambda one: one[1].intended_at):
            self.note(row, attempt, shape)

    def note(self, row: JobRow, attempt: AttemptRow, shape: Shape) -> None:
        """An attempt was intended, or is over: its volume counts under each of its exemptions, with a limit or without;
        a later version of the contracts may set one."""
        for key in attempt.freed:
            for account in (key, _lineage(key, row.root or row.job)):
                self._accounts[account].put((row.job, attempt.epoch), attempt.intended_at, volume(shape, attempt))

    def has_room(self, limit: Limit, row: JobRow, shape: Shape, now_us: int) -> bool:
        """Whether this job fits under a limit, to which the total may be equal. With a part its whole must fit, beside
        what others have placed: cut up, a job is no smaller (R17)."""
        root, since = row.root or row.job, now_us - limit.window_us
        used = self.used(limit.account(root), since)
        needs = used + shape.gpu_ms
        if shape.pieces is not UNSET:
            needs = max(needs, used - self.used(_lineage(limit.key, root), since) + shape.whole_gpu_ms)
        return needs <= limit.most_ms

    def used(self, account: str, since_us: int) -> int:
        """What was placed under an account after `since_us`."""
        found = self._accounts.get(account)
        return found.used(since_us) if found is not None else 0
