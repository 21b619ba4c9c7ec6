"""Is this clause about this job, and is it in force?

Called by eligibility and `contracts test`. Pure. A key that a select does not give is any. Where a job's class is not
settled (R20), or its size, because it is elastic or divisible, what binds it is whatever could be about it, and what
frees it only what is about it for sure: for a part of a divisible job the size of the whole counts too (R17).
"""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from orchestrator.model.contract import Clause, FirstRight, Range, Select, Trigger
from orchestrator.model.placement import Shape


def selects(select: Select, shape: Shape) -> bool:
    """Whether every key that the select gives holds for the shape, for sure: whatever size it will have."""
    if shape.unsettled and select.classes is not None:
        return False
    sizes = {shape.fewest, shape.workers, shape.whole}
    return all(may_select(select, replace(shape, workers=n, min_workers=UNSET, pieces=UNSET)) for n in sizes)


def may_select(select: Select, shape: Shape) -> bool:
    """Whether every key that the select gives holds for the shape, or could: in some size that it may have."""
    least, most = shape.gpus_per_worker * shape.fewest, shape.gpus_per_worker * shape.whole
    return (
        (bool(shape.unsettled) or _among(select.classes, shape.job_class))
        and _among(select.triggers, shape.trigger)
        and _among(select.residency, shape.residency)
        and _meets(select.gpus, least, most)
        and _meets(select.gpu_ms, least * shape.max_runtime_ms, most * shape.max_runtime_ms)
        and _labelled(select.labels, dict(shape.labels))
    )


def in_force(clause: Clause, now_us: int) -> bool:
    """Whether the clause's term holds at this moment."""
    return clause.from_us <= now_us < clause.until_us


def applies(clause: Clause, shape: Shape, now_us: int) -> bool:
    """In force, and about this shape. Owned capacity meets a first right only where it is named (R1)."""
    if not in_force(clause, now_us) or not may_select(clause.select, shape):
        return False
    unnamed = shape.trigger is Trigger.OWNED and clause.select.triggers is None
    return not (unnamed and isinstance(clause, FirstRight))


def minds_class(clause: Clause) -> bool:
    """Whether the clause, or what it leaves free, depends on a job's class."""
    waived = clause.waiver.select.classes if isinstance(clause, FirstRight) and clause.waiver is not None else None
    selects_on = (clause.select.classes, waived, *(exempt.select.classes for exempt in clause.exempt))
    return any(classes is not None for classes in selects_on)


def _among(allowed: tuple[str, ...] | tuple[Trigger, ...] | None, value: str | None) -> bool:
    return allowed is None or value in allowed


def _meets(bounds: Range, least: int, most: int) -> bool:
    """Whether something from `least` to `most` lies in these bounds."""
    return (bounds.gte is None or bounds.gte <= most) and (bounds.lt is None or least < bounds.lt)


def _labelled(wanted: tuple[tuple[str, tuple[str, ...]], ...], labels: dict[str, str]) -> bool:
    return all(labels.get(key) in values for key, values in wanted)
