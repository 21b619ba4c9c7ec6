"""What if the server dies here? Every durable or visible moment of a story is a point at which it can be made to.

Called by the crash stories: once to count the points, then once for each. A crash is an exception that nothing
catches; from then on the dead server reaches neither ledger nor store nor providers, like a killed process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from orchestrator.model.job import JobRow
from orchestrator.ports.desk import Busy, Submission
from orchestrator.ports.ledger import Committed
from orchestrator.runlog.results import Put, Stored
from orchestrator.runlog.store import Store
from orchestrator.simulate.world import World, until_over
from orchestrator.testing.stores import MemoryStore

LIVES_MOST = 5
"""A story with one crash needs two lives; more means that something crashes by itself."""


class Crash(BaseException):
    """The server is dead. No `Exception`, so that no handler of ours can survive it."""


class Points:
    """Counts the points of one story and dies at the chosen one (from 1; 0: never)."""

    def __init__(self, die_at: int = 0) -> None:
        """Nothing is passed yet."""
        self.passed: Counter[str] = Counter()
        self.dead = False
        self._die_at = die_at

    @property
    def total(self) -> int:
        """How many points were passed."""
        return sum(self.passed.values())

    def here(self, kind: str) -> None:
        """A point of this kind; raises Crash if it is the chosen one, or if the server is dead already."""
        if self.dead:
            raise Crash(kind)
        self.passed[kind] += 1
        if self.total == self._die_at:
            self.dead = True
            raise Crash(kind)

    def beside(self, kind: str) -> None:
        """A point that somebody else passes: the server dies at its next breath."""
        if not self.dead:
            self.passed[kind] += 1
            self.dead = self.total == self._die_at

    def revive(self) -> None:
        """The next life begins."""
        self.dead = False

    def die_in(self, points: int) -> None:
        """Die so many points from now; 0: not any more."""
        self._die_at = self.total + points if points else 0


class AttemptsStore(MemoryStore):
    """The store as attempts use it: their appends are points of the server's life too."""

    def __init__(self, points: Points) -> None:
        """Empty."""
        super().__init__()
        self._points = points

    def create(self, key: str, data: bytes) -> Put:
        """Put-if-absent; the server may die beside it."""
        put = super().create(key, data)
        if isinstance(put, Stored) and "/log/" in key:
            self._points.beside("append")
        return put


class WatchedStore:
    """The server's own access to the store: nothing reaches it from a dead server."""

    def __init__(self, store: Store, points: Points) -> None:
        """Over the store that attempts use."""
        self._store, self._points = store, points

    def create(self, key: str, data: bytes) -> Put:
        """Put-if-absent; the server may die right behind it."""
        self._alive()
        put = self._store.create(key, data)
        self._alive()
        return put

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        self._alive()
        return self._store.get(key)

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite."""
        self._alive()
        self._store.put(key, data)

    def list(self, prefix: str) -> list[str]:
        """Every key below a folder."""
        self._alive()
        return self._store.list(prefix)

    def delete(self, key: str) -> None:
        """Delete."""
        self._alive()
        self._store.delete(key)

    def upload(self, key: str, path: Path) -> None:
        """Write a file."""
        self._alive()
        self._store.upload(key, path)

    def download(self, key: str, path: Path) -> bool:
        """Fetch into a file."""
        self._alive()
        return self._store.download(key, path)

    def _alive(self) -> None:
        if self._points.dead:
            raise Crash("store")


async def lived_through(make: Callable[[], World], wish: Submission, points: Points) -> tuple[World, JobRow]:
    """The story of one job, resumed after the crash (if there is one) until the job has ended."""
    world = make()
    watched(world, points)
    for _ in range(LIVES_MOST):
        points.revive()
        try:
            async with world.server() as server:
                row, _ = await server.desk.submit(wish)
                return world, await until_over(server, row.job)
        except (Crash, Busy):
            if not points.dead:
                raise
    raise AssertionError(f"the server died {LIVES_MOST} times although one crash was ordered")


def watched(world: World, points: Points) -> None:
    """From here on the server of this world passes these points, and dies at the one that is ordered."""

    def committed(_: Committed) -> None:
        points.here("commit")

    async def before(_: str) -> None:
        points.here("before a call")

    async def after(_: str) -> None:
        points.here("after a call")

    world.on_commit = committed
    world.site.store = AttemptsStore(points)
    world.store = WatchedStore(world.site.store, points)
    for provider in world.providers.values():
        provider.before_call, provider.after_call = before, after
