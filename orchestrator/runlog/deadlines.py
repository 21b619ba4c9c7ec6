"""When must something that runs on good reads be asked to end, and when is it killed?

Called by the guard for the user's command and by the watchdog for its own process. Pure: `now` is a parameter.
Times are CLOCK_BOOTTIME in milliseconds.
"""

from __future__ import annotations


class Deadlines:
    """The moments for one command or process; good reads move them, a word to end fixes them."""

    def __init__(self, good_ms: int, limit_ms: int | None, grace_ms: int) -> None:
        """`limit_ms` null: only when told, or left alone."""
        self._good_ms, self._limit_ms, self._grace_ms = good_ms, limit_ms, grace_ms
        self._told_ms: int | None = None
        self._kill_ms: int | None = None
        self.why = ""

    def good(self, good_ms: int) -> None:
        """A good read: the limit counts from the newest. One made after the limit had passed undoes nothing."""
        self.term_due(good_ms)
        self._good_ms = max(self._good_ms, good_ms)

    def end(self, now_ms: int, grace_ms: int, why: str) -> None:
        """End now; a later word can only shorten the grace."""
        if self._told_ms is None:
            self._told_ms, self.why = now_ms, why
        kill_ms = now_ms + grace_ms
        self._kill_ms = kill_ms if self._kill_ms is None else min(self._kill_ms, kill_ms)

    def term_due(self, now_ms: int) -> bool:
        """Whether it must have been asked to end by now."""
        if self._told_ms is None and self._limit_ms is not None and now_ms >= self._good_ms + self._limit_ms:
            self.end(self._good_ms + self._limit_ms, self._grace_ms, "limit")
        return self._told_ms is not None

    def kill_ms(self) -> int | None:
        """When it is killed, once it was asked to end or the limit bounds it; None: never yet."""
        bounds = [] if self._kill_ms is None else [self._kill_ms]
        if self._limit_ms is not None:
            bounds.append(self._good_ms + self._limit_ms + self._grace_ms)
        return min(bounds) if bounds else None

    def next_ms(self, now_ms: int) -> int | None:
        """The next moment at which something may be due; None: no timer runs."""
        if self._told_ms is not None:
            return self.kill_ms()
        return None if self._limit_ms is None else max(now_ms, self._good_ms + self._limit_ms)
