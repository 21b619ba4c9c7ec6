"""How much had been placed under an exemption at an offer, at an intention? Counted from the events.

Made once by the history, in one pass in the ledger's order; read by sentences 1, 14 and 25. Code of its own: the
planner counts by `core.totals`. Volumes are GPU-milliseconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from msgspec import Struct

from orchestrator.model import event as ev
from orchestrator.model.contract import Contracts, Exemption
from orchestrator.model.placement import Terms

Key = tuple[str, str]
"""(`contract/clause/exemption`, where it is counted by lineage the job that was submitted)."""


class Held(Struct, frozen=True):
    """What an exemption's window held when a job was offered."""

    all: int
    """As the exemption counts: of all jobs, or of the job's lineage."""
    own: int
    """Of that, of the job itself and of those that were split from it, or it from them."""


class Use(Struct, frozen=True):
    """One attempt that was intended under an exemption."""

    key: str
    before: int
    """What its window held."""
    own: int
    most: int | None
    """None: the contract knows no such exemption, or sets it no limit."""


class Window:
    """One total over time. Keeps all: an amendment may make the window longer."""

    def __init__(self) -> None:
        """Empty."""
        self._order: list[str] = []
        self._volumes: dict[str, tuple[int, int]] = {}
        self._left = 0
        self._after = 0
        self._sum = 0

    def add(self, at: int, attempt: str, volume: int) -> None:
        """An attempt was intended."""
        self._order.append(attempt)
        self._volumes[attempt] = at, volume
        self._sum += volume

    def ends(self, attempt: str, used: int) -> None:
        """An attempt is over."""
        at, volume = self._volumes[attempt]
        used = min(used, volume)
        self._volumes[attempt] = at, used
        self._sum += used - volume if at > self._after else 0

    def holds(self, after: int) -> int:
        """The volume of what was intended after a moment."""
        if after < self._after:
            self._left, self._sum = 0, sum(volume for _, volume in self._volumes.values())
        self._after = after
        while self._left < len(self._order) and (one := self._volumes[self._order[self._left]])[0] <= after:
            self._left += 1
            self._sum -= one[1]
        return self._sum


class Volumes:
    """All totals, told event by event."""

    def __init__(self, contracts: Callable[[int], Contracts | None], terms: Callable[[str], Terms]) -> None:
        """`contracts` by version, `terms` by hash."""
        self._contracts, self._terms = contracts, terms
        self._windows: dict[Key, Window] = defaultdict(Window)
        self._offers: dict[tuple[str, int], ev.OfferOpened] = {}
        self._running: dict[str, tuple[list[Key], int]] = {}
        self._roots: dict[str, str] = {}
        """What was left of a split job → the job that was submitted."""
        self.used: dict[int, dict[str, Held]] = {}
        """offer's event → what each limited exemption's window held for this job."""
        self.uses: dict[int, list[Use]] = {}
        """Intended's event → its exemptions."""

    def see(self, seq: int, at: int, job: str, event: ev.AnyEvent) -> None:
        """The next event of a job."""
        match event:
            case ev.Submitted(rest=ev.Rest(job=other)):
                self._roots[job] = self._roots.get(other, other)
            case ev.OfferOpened():
                self._offers[job, event.n] = event
                limits = list(_limited(self._contracts(event.contract)))
                if limits:
                    self.used[seq] = {key: self._held(key, exempt, job, at) for key, exempt in limits}
            case ev.Intended(offer=n) if (job, n) in self._offers:
                self._intended(seq, at, job, event, self._offers[job, n])
            case ev.Ended(epoch=epoch, ran_ms=ran):
                keys, gpus = self._running.pop(f"{job}-{epoch}", ([], 0))
                for key in keys:
                    self._windows[key].ends(f"{job}-{epoch}", gpus * ran)

    def _intended(self, seq: int, at: int, job: str, intended: ev.Intended, opened: ev.OfferOpened) -> None:
        named = [free.key for free in opened.freed if free.exemption and free.holder != opened.provider]
        if not named:
            return
        terms, attempt = self._terms(opened.terms).sized(intended.workers), f"{job}-{intended.epoch}"
        own = terms.gpus * terms.max_runtime_ms
        limits, root = dict(_limited(self._contracts(opened.contract))), self._roots.get(job, job)
        self.uses[seq] = []
        keys = []
        for name in named:
            exempt = limits.get(name)
            before = self._held(name, exempt, job, at).all if exempt else 0
            self.uses[seq].append(Use(name, before, own, exempt.limit_ms if exempt else None))
            for key in ((name, ""), (name, root)):  # a later version may limit it, by lineage or not
                keys.append(key)
                self._windows[key].add(at, attempt, own)
        self._running[attempt] = (keys, terms.gpus)

    def _held(self, name: str, exempt: Exemption, job: str, at: int) -> Held:
        own = self._windows[name, self._roots.get(job, job)].holds(at - exempt.window_us)
        return Held(own if exempt.per_lineage else self._windows[name, ""].holds(at - exempt.window_us), own)


def _limited(contracts: Contracts | None) -> Iterable[tuple[str, Exemption]]:
    for clause in contracts.of_holders if contracts else ():
        for exempt in clause.exempt:
            if exempt.limit_ms is not None:
                yield f"{clause.ref}/{exempt.id}", exempt
