"""Does a clause of a holder hold for this job, or has something freed it: an event, a record, an outage, an exemption?

Called by eligibility for each exclusive and first right that is about a shape. Pure. What frees a clause is kept with
the offer that was made because of it; an exemption that selects the job and does not free it says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from orchestrator.core.clauses import selects
from orchestrator.core.known import Known, within
from orchestrator.model.contract import (
    JUDGED,
    Because,
    Clause,
    Contracts,
    Exclusive,
    Exemption,
    FirstRight,
    Release,
)
from orchestrator.model.placement import Excluded, Freed, NotExempt, Shape
from orchestrator.model.record import Record, What, about

HolderClause = Exclusive | FirstRight
REFUSED = frozenset({"waived", Release.HOLDER_DECLINED.value, Release.UNMET_CAPACITY.value})
"""How a clause is freed by the holder's own no: it is asked last, not first."""


class Weighed(Struct, frozen=True):
    """What came of one clause for one shape."""

    clause: HolderClause
    freed: Freed | None
    barred: Excluded | None
    """Why its holder may not serve; None: it may."""
    not_exempt: tuple[NotExempt, ...] = ()


def weigh(clause: HolderClause, shape: Shape, known: Known, barred: Excluded | None) -> Weighed:
    """Whether a clause that is about the shape and in its term holds. `barred`: why its holder may not serve."""
    free = over(clause, known) or _overridden(clause, known)
    if free is None and isinstance(clause, Exclusive):
        free = _released(clause, known, barred)
    exempt, refused = _exempt(clause, shape, known, barred) if free is None else (None, ())
    free = free or exempt
    if free is None and isinstance(clause, FirstRight):
        free = _waived(clause, shape, known)
    return Weighed(clause, free, barred, refused)


def over(clause: Clause, known: Known) -> Freed | None:
    """An event that has ended the clause, for good: its quorum of attesters has put it on record (R14)."""
    for end in clause.ends:
        said: dict[str, Record] = {}
        for record in known.of(What.EVENT):
            if record.name == end.event and (not end.attesters or record.by in end.attesters):
                said.setdefault(record.by, record)
        if len(said) >= end.quorum:
            ids = tuple(record.id for record in said.values())
            return _freed(clause, "ended", records=ids, approver=", ".join(sorted(said)))
    return None


def outage_limit(clause: HolderClause) -> int:
    """How long its holder must have been unreachable for that to free something, microseconds."""
    return clause.outage_after_us if isinstance(clause, Exclusive) else clause.undeliverable_after_us


def _minds_outage(clause: HolderClause) -> bool:
    """Whether an outage of its holder may free this clause."""
    listed = isinstance(clause, Exclusive) and Release.HOLDER_OUTAGE in clause.releases
    return listed or any(exempt.because is Because.HOLDER_OUTAGE for exempt in clause.exempt)


def minding(contracts: Contracts | None) -> list[HolderClause]:
    """Clauses that an outage of their holder may free."""
    return [clause for clause in contracts.of_holders if _minds_outage(clause)] if contracts else []


def outage_due(clause: HolderClause, known: Known, now_us: int) -> int | None:
    """When an outage that has begun will have lasted long enough; None: there is none, or it has."""
    down = known.down_us.get(clause.holder)
    if down is None or not _minds_outage(clause) or down >= outage_limit(clause):
        return None
    return now_us + outage_limit(clause) - down


def _freed(clause: Clause, how: str, **more: object) -> Freed:
    holder = clause.holder if isinstance(clause, Exclusive | FirstRight) else ""
    return Freed(clause=clause.ref, how=how, holder=holder, **more)  # type: ignore[arg-type]


def _by(clause: Clause, how: str, record: Record) -> Freed:
    return _freed(clause, how, records=(record.id,), approver=record.approver or record.by)


def _overridden(clause: HolderClause, known: Known) -> Freed | None:
    """Somebody answers for passing the clause over; only one that names it. The audit lists each as a breach."""
    found = next((r for r in known.of(What.OVERRIDE) if r.clause and about(r, clause.ref)), None)
    return _by(clause, "override", found) if found else None


# ---- releases of an exclusive ----------------------------------------------------------------------------------------


def _released(clause: Exclusive, known: Known, barred: Excluded | None) -> Freed | None:
    for release in clause.releases:
        free = _RELEASED[release](clause, known, barred)
        if free is not None:
            return free
    return None


def _by_consent(clause: HolderClause, known: Known) -> Record | None:
    return next((r for r in known.of(What.CONSENT) if r.holder == clause.holder and about(r, clause.ref)), None)


def _consent(clause: Exclusive, known: Known, barred: Excluded | None) -> Freed | None:
    record = _by_consent(clause, known)
    return _by(clause, Release.CONSENT, record) if record else None


def _outage(clause: Exclusive, known: Known, barred: Excluded | None) -> Freed | None:
    lasted = known.down_us.get(clause.holder, -1) >= clause.outage_after_us
    return _freed(clause, Release.HOLDER_OUTAGE, approver=clause.contract) if lasted else None


def _unlawful(clause: Exclusive, known: Known, barred: Excluded | None) -> Freed | None:
    unlawful = barred is not None and barred is not Excluded.CAPABILITY
    return _freed(clause, Release.UNLAWFUL_FOR_HOLDER, approver=clause.contract) if unlawful else None


def _unmet(clause: Exclusive, known: Known, barred: Excluded | None) -> Freed | None:
    """It declined for want of capacity, or has nothing of the kind at all."""
    unmet = barred is Excluded.CAPABILITY or known.noes.get(clause.ref) == Release.UNMET_CAPACITY
    return _freed(clause, Release.UNMET_CAPACITY, approver=clause.contract) if unmet else None


def _declined(clause: Exclusive, known: Known, barred: Excluded | None) -> Freed | None:
    return _freed(clause, Release.HOLDER_DECLINED, approver=clause.holder) if clause.ref in known.noes else None


_RELEASED: dict[Release, Callable[[Exclusive, Known, Excluded | None], Freed | None]] = {
    Release.CONSENT: _consent,
    Release.HOLDER_DECLINED: _declined,
    Release.HOLDER_OUTAGE: _outage,
    Release.UNLAWFUL_FOR_HOLDER: _unlawful,
    Release.UNMET_CAPACITY: _unmet,
}


# ---- exemptions ------------------------------------------------------------------------------------------------------


def _exempt(
    clause: HolderClause, shape: Shape, known: Known, barred: Excluded | None
) -> tuple[Freed | None, tuple[NotExempt, ...]]:
    """The first exemption that frees the job, and those before it that select it and do not."""
    refused: list[NotExempt] = []
    for exempt in clause.exempt:
        if not selects(exempt.select, shape):
            continue
        found = _claim(clause, exempt, known, barred)
        if not isinstance(found, str):
            return found, tuple(refused)
        refused.append(NotExempt(clause.ref, exempt.id, found))
    return None, tuple(refused)


def _claim(clause: HolderClause, exempt: Exemption, known: Known, barred: Excluded | None) -> Freed | str:
    """The exemption as it frees the job, or why it does not."""
    records: list[Record] = []
    if exempt.because is Because.UNLAWFUL_FOR_HOLDER and barred is None:
        return "still_lawful"
    if exempt.because is Because.HOLDER_OUTAGE and known.down_us.get(clause.holder, -1) < outage_limit(clause):
        return "no_outage"
    if exempt.because is Because.CONSENT:
        consent = _by_consent(clause, known)
        if consent is None:
            return "no_consent"
        records.append(consent)
    for name in exempt.needed:
        found = _evidence(known.of(What.EVIDENCE), name, clause.ref)
        if found is None:
            return "evidence"
        records.append(found)
    if f"{clause.ref}/{exempt.id}" in known.spent:
        return "exempt_total"
    approvers = sorted({r.approver or r.by for r in records})
    judged = exempt.because in JUDGED and not records
    return _freed(
        clause, "exempt", exemption=exempt.id, because=exempt.because.value,
        records=tuple(r.id for r in records), approver=clause.contract if judged else ", ".join(approvers),
    )  # fmt: skip


def _evidence(records: Iterable[Record], name: str, ref: str) -> Record | None:
    return next((r for r in records if r.name == name and about(r, ref)), None)


# ---- waivers ---------------------------------------------------------------------------------------------------------


def _waived(clause: FirstRight, shape: Shape, known: Known) -> Freed | None:
    """The holder has refused all such work beforehand, within the bounds that it named (R16)."""
    signed = clause.waiver
    if signed and selects(signed.select, shape) and known.now_us < signed.until_us:
        return _freed(clause, "waived", approver=clause.contract)
    for record in known.of(What.WAIVER):
        if record.holder == clause.holder and about(record, clause.ref) and within(record, shape):
            return _by(clause, "waived", record)
    return None
