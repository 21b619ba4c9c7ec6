"""Is this clause about this job, is it in force, and can two clauses ever be about the same job?

Called by eligibility, by the loader of contract sets (conflicts between holders) and by `contracts
test`. Pure. A key that a select does not give is any; an empty one cannot be written.
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


def overlap(one: Select, other: Select) -> bool:
    """Whether some job could be selected by both."""
    return (
        _meet(one.classes, other.classes)
        and _meet(one.triggers, other.triggers)
        and _meet(one.residency, other.residency)
        and _cross(one.gpus, other.gpus)
        and _cross(one.gpu_ms, other.gpu_ms)
        and _labels_meet(dict(one.labels), dict(other.labels))
    )


def terms_overlap(one: Clause, other: Clause) -> bool:
    """Whether both are in force at some moment."""
    return one.from_us < other.until_us and other.from_us < one.until_us


def _among(allowed: tuple[str, ...] | tuple[Trigger, ...] | None, value: str | None) -> bool:
    return allowed is None or value in allowed


def _within(bounds: Range, value: int) -> bool:
    return (bounds.gte is None or bounds.gte <= value) and (bounds.lt is None or value < bounds.lt)


def _labelled(wanted: tuple[tuple[str, tuple[str, ...]], ...], labels: dict[str, str]) -> bool:
    return all(labels.get(key) in values for key, values in wanted)


def _meet(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    return one is None or other is None or bool(set(one) & set(other))


def _cross(one: Range, other: Range) -> bool:
    low = max(one.gte or 0, other.gte or 0)
    highs = [bound for bound in (one.lt, other.lt) if bound is not None]
    return not highs or low < min(highs)


def _labels_meet(one: dict[str, tuple[str, ...]], other: dict[str, tuple[str, ...]]) -> bool:
    return all(set(one[key]) & set(other[key]) for key in one.keys() & other.keys())
