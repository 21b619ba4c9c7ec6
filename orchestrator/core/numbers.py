"""How are moments, durations, money and sizes told to a person? Called by `explain` and whoever else shows them."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.model.contract import DAY_US


def clock(at_us: int, beside_us: int | None = None) -> str:
    """Time of day, UTC, to the second; and the day, where it is another than that of `beside_us`."""
    if beside_us is not None and at_us // DAY_US != beside_us // DAY_US:
        return moment(at_us)
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%H:%M:%S}Z"


def moment(at_us: int) -> str:
    """Day and time, UTC, to the second."""
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S}Z"


def stamp(at_us: int) -> str:
    """A moment as commands and documents take it."""
    return moment(at_us).replace(" ", "T")


def span(ms: int) -> str:
    """A duration as people say it: 250 ms, 12.5 s, 4 min 10 s, 2 h 5 min."""
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.3g} s"
    large, small, units = (ms // 60_000, ms // 1000 % 60, "min s") if ms < 3_600_000 else _hours(ms)
    big, little = units.split()
    return f"{large} {big} {small} {little}" if small else f"{large} {big}"


def _hours(ms: int) -> tuple[int, int, str]:
    return ms // 3_600_000, ms // 60_000 % 60, "h min"


def dollars(micro: int) -> str:
    """Micro-dollars as dollars: to the cent, or as many places as less than a cent needs."""
    places = 6 if 0 < micro < 10_000 else 2
    text = f"{micro / 1_000_000:.{places}f}"
    return f"${text.rstrip('0') if places > 2 else text}"


def so_many(most: int, least: int = 0) -> str:
    """Workers of a job: 1 worker, 8 workers, 4 to 8 workers."""
    return f"{least} to {most} workers" if least else f"{most} worker{'s' if most > 1 else ''}"


def join(*parts: str) -> str:
    """Those parts that say something."""
    return ", ".join(part for part in parts if part)
