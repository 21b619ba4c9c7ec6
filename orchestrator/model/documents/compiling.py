"""How does a part of a document become the integers that decisions read?

Called by `compile` and `parts`. Days become microseconds UTC (a term's last day is whole), milliseconds
become microseconds, GPU-hours become GPU-milliseconds.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from orchestrator.model.contract import Range, Select
from orchestrator.model.documents.clauses import Bounds, SelectDocument, VolumeBounds
from orchestrator.model.documents.contracts import TermDocument
from orchestrator.model.placement import HOUR_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_us(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def midnight_us(day: date) -> int:
    """The beginning of a day UTC, in microseconds."""
    return moment_us(datetime(day.year, day.month, day.day, tzinfo=UTC))


def term_of(term: TermDocument) -> tuple[int, int]:
    """From (inclusive) and until (exclusive), microseconds UTC."""
    return midnight_us(term.from_), midnight_us(term.to) + 86_400_000_000


def select_of(select: SelectDocument) -> Select:
    """The select as integers and tuples."""
    return Select(
        classes=select.job_class,
        triggers=select.trigger,
        gpus=_range(select.gpus),
        gpu_ms=_volume(select.gpu_hours),
        residency=select.residency,
        labels=tuple(sorted(select.labels.items())),
    )


def whole_gpu_ms(hours: Decimal) -> int:
    """GPU-hours in GPU-milliseconds; a part of one is lost."""
    return int(hours * HOUR_MS)


def _range(bounds: Bounds | None) -> Range:
    return Range(bounds.gte, bounds.lt) if bounds else Range()


def _volume(bounds: VolumeBounds | None) -> Range:
    return Range(_gpu_ms(bounds.gte), _gpu_ms(bounds.lt)) if bounds else Range()


def _gpu_ms(hours: Decimal | None) -> int | None:
    """Of whole milliseconds, x >= t is x >= ceil(t), and x < t is x < ceil(t)."""
    if hours is None:
        return None
    return int((hours * HOUR_MS).to_integral_value(ROUND_CEILING))
