"""How does the command's output get from its file to the store? Called by the agent after each good read.

The command writes into a file, never into a pipe of ours: a frozen agent must not block it, a dead one not
end it.
"""

from __future__ import annotations

import threading
from pathlib import Path

from orchestrator.runlog.printing import put_out
from orchestrator.runlog.shipping import CHUNK_BYTES, Chunks

_TAIL_BYTES = 64 << 10  # as much as a driver's last traceback, nested ones included


class Output:
    """Ships what the file has grown by, and repeats it on the agent's own standard output."""

    def __init__(self, path: Path, chunks: Chunks) -> None:
        """`path` need not exist yet."""
        self._path, self._chunks, self._shipped = path, chunks, 0
        self._word = b""
        self._lock = threading.Lock()

    def end(self, word: str) -> None:
        """The agent's own last word, behind what the file holds: kept in memory, the disk may be what is wrong."""
        with self._lock:
            self._word = f"{word}\n".encode(errors="replace")

    def ship(self, most: int = 4) -> bool:
        """Ship up to `most` chunks; True: nothing is left.

        Raises StoreUnavailable; then the same is shipped again.
        """
        with self._lock:
            for _ in range(most):
                data = self._read(self._shipped, CHUNK_BYTES)
                if not data:
                    return self._ship_word()
                self._chunks.ship(data)
                self._shipped += len(data)
                put_out(data)
        return False

    def _ship_word(self) -> bool:
        if self._word:
            self._chunks.ship(self._word)
        self._word = b""
        return True

    def tail(self) -> str:
        """The end of the output, for people and for telling a lost worker from a bug."""
        size = self._path.stat().st_size if self._path.exists() else 0
        return self._read(max(0, size - _TAIL_BYTES), _TAIL_BYTES).decode(errors="replace")

    def _read(self, offset: int, most: int) -> bytes:
        if not self._path.exists():
            return b""
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(most)
