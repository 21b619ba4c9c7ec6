"""What do records, outages, totals and refusals say about a job at this moment, beside documents and prices?

Made by the book (from the ledger's own row), by `contracts test` (from a case's facts) and by the audit (from events);
read by `releases` and `eligibility`. Pure values and how to pick them; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.model.placement import Shape
from orchestrator.model.record import Record, What, about


class Known(Struct, frozen=True, kw_only=True):
    """Facts about jobs of one shape, at one moment."""

    now_us: int = 0
    records: tuple[Record, ...] = ()
    """Those about jobs of this shape that count now, and every event."""
    down_us: Mapping[str, int] = {}
    """holder → how long it has been unreachable, in our own presence (microseconds)."""
    spent: frozenset[str] = frozenset()
    """`contract/clause/exemption` whose total has no room for one more job of this shape."""
    noes: Mapping[str, str] = {}
    """exclusive → the release that this job's own offers to its holder have brought about."""
    next_us: int | None = None
    """When the first of the records expires; None: never."""

    def of(self, what: What) -> Iterable[Record]:
        """The records of one kind."""
        return (record for record in self.records if record.what == what)


NOTHING = Known()


def concerns(record: Record, shape: Shape) -> bool:
    """Whether a record is about jobs of this shape (an event is about all)."""
    if record.job or record.block:
        return record.id in shape.records
    if record.cited and record.id not in shape.cited:
        return False
    return record.project in ("", shape.project) and (not record.classes or _surely(record, shape))


def _surely(record: Record, shape: Shape) -> bool:
    """Of a class that is only claimed nothing is known that would free a job."""
    return not shape.unsettled and shape.job_class in record.classes


def within(record: Record, shape: Shape) -> bool:
    """Whether a waiver reaches to jobs as large as these."""
    return record.gpus is None or shape.gpus_per_worker * shape.whole <= record.gpus


def reaches(wide: Record, narrow: Record) -> bool:
    """Whether one waiver, whoever put it on record, says all that another says of any job and clause, and as long."""
    classes = not wide.classes or (narrow.classes and set(narrow.classes) <= set(wide.classes))
    size = wide.gpus is None or (narrow.gpus is not None and narrow.gpus <= wide.gpus)
    time = wide.until is None or (narrow.until is not None and narrow.until <= wide.until)
    jobs = wide.job in ("", narrow.job) and not wide.block and wide.project in ("", narrow.project) and not wide.cited
    same = (wide.what, wide.holder) == (narrow.what, narrow.holder) and about(wide, narrow.clause)
    return bool(same and jobs and classes and size and time)


def with_record(shape: Shape, record: Record) -> Shape:
    """The shape of a job once this record is about it; a record of its class settles the class."""
    known = replace(shape, records=tuple(sorted({*shape.records, record.id})))
    return replace(known, job_class=record.name, unsettled="") if record.what == What.CLASS else known


def in_records(records: Iterable[Record], shape: Shape, now_us: int) -> tuple[tuple[Record, ...], int | None]:
    """The records that count for a shape at `now_us`, and when the first of them expires."""
    found = tuple(r for r in records if (r.until is None or now_us < r.until) and concerns(r, shape))
    return found, min((r.until for r in found if r.until is not None), default=None)
