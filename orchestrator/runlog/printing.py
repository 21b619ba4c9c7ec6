"""How does one print where printing may fail: on a full disk, into a pipe that nobody reads any more?

Called by the agent and the watcher. What cannot be printed is lost there, and nothing else is: the run log and the
output at the store do not depend on who looks on. Past Python's streams, which keep what they could not write and fail
again when the process ends, and which user code may have closed. Standard library only.
"""

from __future__ import annotations

import contextlib
import os


def put_out(data: bytes) -> None:
    """Bytes to standard output, or as many of them as can be. Never raises OSError."""
    _put(1, data)


def put_err(text: str) -> None:
    """A message to standard error, likewise."""
    _put(2, f"{text.rstrip()}\n".encode(errors="replace"))


def _put(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
