"""How does time pass in a test? On virtual time, hours take none: the loop moves its clock to the next thing to do.

Used by whatever makes a loop of its own, and by `conftest.py` for tests that are marked `looptime`.
"""

from __future__ import annotations

from typing import Any

import looptime

PACE: dict[str, Any] = {"noop_cycles": 0}
"""Before each step looptime would turn 42 times, for threads of which it does not know: half of a story's CPU, for
nothing, since no thread takes part in a world."""


def virtual_loop() -> looptime.LoopTimeEventLoop:
    """A loop on virtual time; whoever asks closes it."""
    return looptime.new_event_loop(**PACE)
