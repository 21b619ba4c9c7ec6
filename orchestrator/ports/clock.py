"""The clock port: what time is it for us? The engine asks only here; core gets `now` as a parameter."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Our own time. `now_us` never goes backwards within one process."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC, monotone within the process."""
        ...

    def entropy(self, size: int) -> bytes:
        """Random bytes for ids, nonces and salts; seeded in tests."""
        ...
