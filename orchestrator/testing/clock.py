"""What time is it in a story? The clock port on the running event loop's (virtual) time, with seeded entropy.

Handed to the engine and to `ScriptedProvider` by tests and the simulator. Never reads the machine's clock, so the
same seed gives the same story, byte for byte. Outside a running loop time stands still.
"""

from __future__ import annotations

import asyncio
import random

STORY_BEGINS_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: where every story starts, so that golden files hold dates that never change."""


class FakeClock:
    """`ports.clock.Clock` over `loop.time()`; second 0 of the loop is `base_us` (microseconds UTC)."""

    def __init__(self, seed: int = 0, base_us: int = STORY_BEGINS_US) -> None:
        self._base = base_us
        self._last = base_us
        self._random = random.Random(seed)

    def now_us(self) -> int:
        """Microseconds since 1970, UTC; never backwards."""
        try:
            passed = asyncio.get_running_loop().time()
        except RuntimeError:  # no loop runs: nothing can happen, so no time passes
            return self._last
        self._last = max(self._last, self._base + round(passed * 1_000_000))
        return self._last

    def entropy(self, size: int) -> bytes:
        """`size` bytes, the next ones of the seed's sequence."""
        return self._random.randbytes(size)
