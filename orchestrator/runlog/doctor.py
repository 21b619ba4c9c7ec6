"""Does this store keep its promise: put-if-absent is won by one writer, and what was won can be read back?

Called by `orchestrator doctor store` and by tests. It races writers on keys of its own below `doctor/` and
deletes them afterwards; it never touches a job's keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from orchestrator.model.wire import StoreRef
from orchestrator.runlog.results import Exists, Put, Stored, StoreUnavailable, Unknown
from orchestrator.runlog.store import Store, open_store


@dataclass(frozen=True, slots=True)
class Report:
    """What a race showed. Only `double_wins`, `lost_wins` and `unlisted` are reasons not to use a store."""

    writers: int
    rounds: int
    double_wins: int  # rounds in which two writers were told that they had won
    lost_wins: int  # rounds whose winner's bytes were not what was read back
    false_exists: int  # "exists" although nothing was there (survived by reading back)
    lost_answers: int  # puts without an answer (survived by reading back)
    unlisted: int  # keys that were read back but not listed

    @property
    def ok(self) -> bool:
        """Whether a run log may live here."""
        return not (self.double_wins or self.lost_wins or self.unlisted)


def race(
    ref: StoreRef, writers: int = 4, rounds: int = 25, run: str = "0", opener: Callable[[StoreRef], Store] = open_store
) -> Report:
    """Race `writers` clients for `rounds` keys of the store.

    `run` keeps two runs apart. Raises StoreUnavailable, also where nothing that is put is kept.
    """
    stores = [opener(ref) for _ in range(writers)]
    prefix = f"doctor/{run}"
    try:
        with ThreadPoolExecutor(writers) as pool:
            results = [_round(stores, pool, f"{prefix}/{n:08d}") for n in range(rounds)]
        if all(there is None for _, there in results):
            raise StoreUnavailable(f"nothing that is put is kept: {_why(results)}")
        return _report(writers, results, len(stores[0].list(prefix)))
    finally:
        for key in stores[0].list(prefix):
            stores[0].delete(key)


def _round(stores: list[Store], pool: ThreadPoolExecutor, key: str) -> tuple[list[Put], bytes | None]:
    gate = threading.Barrier(len(stores))

    def put(n: int) -> Put:
        gate.wait()
        return stores[n].create(key, b"writer %d" % n)

    puts = list(pool.map(put, range(len(stores))))
    return puts, stores[0].get(key)


def _why(results: list[tuple[list[Put], bytes | None]]) -> str:
    """What the store said of the first put that failed."""
    said = (put.why for puts, _ in results for put in puts if isinstance(put, Unknown))
    return next(said, "the store says that it is, and it cannot be read back")


def _report(writers: int, results: list[tuple[list[Put], bytes | None]], listed: int) -> Report:
    doubles = lost = false_exists = lost_answers = present = 0
    for puts, there in results:
        winners = [n for n, put in enumerate(puts) if isinstance(put, Stored)]
        doubles += len(winners) > 1
        lost += len(winners) == 1 and there != b"writer %d" % winners[0]
        false_exists += there is None and any(isinstance(put, Exists) for put in puts)
        lost_answers += sum(not isinstance(put, Stored | Exists) for put in puts)
        present += there is not None
    return Report(writers, len(results), doubles, lost, false_exists, lost_answers, present - listed)
