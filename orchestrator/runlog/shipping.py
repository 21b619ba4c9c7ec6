"""How do growing texts (output, progress) get to a store that cannot append?

Called by the agent (output), the training helper (progress) and readers (logs, projections). Numbered
chunks in one folder, each put if absent, so that a reader just asks for the next number. Losing one is a
pity, never a wrong decision.
"""

from __future__ import annotations

from orchestrator.runlog.results import Exists, StoreUnavailable, Unknown
from orchestrator.runlog.store import Store

CHUNK_BYTES = 1 << 20  # at most this much in one object, so that one put stays short
COLLISIONS = 10_000  # numbers taken by others; more is a fault


def _key(folder: str, n: int) -> str:
    return f"{folder}/{n:08d}"


class Chunks:
    """Writes one folder of chunks.

    A put that failed is repeated under the same number with the same bytes.
    """

    def __init__(self, store: Store, folder: str) -> None:
        """Writes nothing yet."""
        self._store, self._folder, self._next = store, folder, 1

    def ship(self, data: bytes) -> None:
        """Store `data` as the next chunk. Raises StoreUnavailable: call again with the same bytes.

        Where others wrote, it goes on behind the last of them: a process that starts again finds thousands, and its
        watchdog waits for it.
        """
        for _ in range(COLLISIONS):
            key = _key(self._folder, self._next)
            put = self._store.create(key, data)
            if isinstance(put, Exists | Unknown):
                there = self._store.get(key)
                if there is None:
                    why = f": {put.why}" if isinstance(put, Unknown) else ""
                    raise StoreUnavailable(f"{key} was put and is not there{why}")
                if there != data:
                    self._next = newest_chunk(self._store, self._folder, self._next)[1] + 1
                    continue
            self._next += 1
            return
        raise StoreUnavailable(f"{self._folder} has no free number")


def newest_chunk(store: Store, folder: str, after: int = 0) -> tuple[bytes, int]:
    """(the last chunk's bytes, its number), found in steps that double and then halve: a day has thousands of chunks.

    `after`: one that is known; where none came behind it the bytes are empty. Raises StoreUnavailable.
    """
    newest, last, step = b"", after, 1
    while (data := store.get(_key(folder, last + step))) is not None:
        newest, last, step = data, last + step, 2 * step
    while step > 1:
        step //= 2
        if (data := store.get(_key(folder, last + step))) is not None:
            newest, last = data, last + step
    return newest, last


def read_chunks(store: Store, folder: str, after: int = 0, limit: int = 1000) -> tuple[bytes, int]:
    """(the bytes of the chunks behind number `after`, the last number read). Raises StoreUnavailable."""
    parts: list[bytes] = []
    for n in range(after + 1, after + 1 + limit):
        data = store.get(_key(folder, n))
        if data is None:
            break
        parts.append(data)
    return b"".join(parts), after + len(parts)
