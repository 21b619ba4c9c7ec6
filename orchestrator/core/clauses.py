"""Is this clause about this job, and is it in force?

Called by eligibility and `contracts test`. Pure. A key that a select does not give is any.
"""

from __future__ import annotations

from orchestrator.model.contract import Clause, FirstRight, Range, Select, Trigger
from orchestrator.model.placement import Shape


def selects(select: Select, shape: Shape) -> bool:
    """Whether every key that the select gives holds for the shape."""
    return (
        _among(select.classes, shape.job_class)
        and _among(select.triggers, shape.trigger)
        and _among(select.residency, shape.residency)
        and _within(select.gpus, shape.gpus)
        and _within(select.gpu_ms, shape.gpu_ms)
        and _labelled(select.labels, dict(shape.labels))
    )


def in_force(clause: Clause, now_us: int) -> bool:
    """Whether the clause's term holds at this moment."""
    return clause.from_us <= now_us < clause.until_us


def applies(clause: Clause, shape: Shape, now_us: int) -> bool:
    """In force, and about this shape. Owned capacity meets a first right only where it is named (R1)."""
    if not in_force(clause, now_us) or not selects(clause.select, shape):
        return False
    unnamed = shape.trigger is Trigger.OWNED and clause.select.triggers is None
    return not (unnamed and isinstance(clause, FirstRight))


def _among(allowed: tuple[str, ...] | tuple[Trigger, ...] | None, value: str | None) -> bool:
    return allowed is None or value in allowed


def _within(bounds: Range, value: int) -> bool:
    return (bounds.gte is None or bounds.gte <= value) and (bounds.lt is None or value < bounds.lt)


def _labelled(wanted: tuple[tuple[str, tuple[str, ...]], ...], labels: dict[str, str]) -> bool:
    return all(labels.get(key) in values for key, values in wanted)
