"""Is an attempt's beat silent? Counted in our own readable time, never by another machine's clock.

Called by the engine after each read of a beat. A store that we could not read proves nothing about the attempt.
"""

from __future__ import annotations

from msgspec import Struct


class Pulse(Struct, frozen=True):
    """What our reads of one attempt's beat amount to. Times are microseconds of our own clock."""

    beat: tuple[str, int] | None = None
    """(nonce, n) of the newest beat read; None: none yet."""
    read_at: int | None = None
    """When the last read that succeeded was sent."""
    silent: int = 0
    """Readable time since the beat was new."""


def after_read(pulse: Pulse, beat: tuple[str, int] | None, at: int, interval: int) -> Pulse:
    """The pulse after a read at `at` that succeeded; a gap of more than two intervals was not readable time."""
    if beat is not None and beat != pulse.beat:
        return Pulse(beat, at, 0)
    passed = 0 if pulse.read_at is None else at - pulse.read_at
    return Pulse(pulse.beat, at, pulse.silent + (passed if passed <= 2 * interval else 0))


def after_failure(pulse: Pulse) -> Pulse:
    """The pulse after a read that failed: the time until the next read that succeeds does not count."""
    return Pulse(pulse.beat, None, pulse.silent)
