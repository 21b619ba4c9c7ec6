"""By what was each first right passed for an offer that was just accepted? Evidence, kept with the intention.

Called by offering. Pure; whether they were all passed is decided there.
"""

from __future__ import annotations

from orchestrator.core.ranking import covers
from orchestrator.model import event as ev
from orchestrator.model.job import JobRow, RefusalRow
from orchestrator.model.placement import How, Refused, Rules


def passed_gates(row: JobRow, rules: Rules, now: int, same_version: bool) -> tuple[ev.Gate, ...]:
    """Every first right over this job, and by what it was passed for the offer that was just accepted.

    Of an offer of an earlier contract version only its own: what the rules of today say was not asked then.
    """
    offer = row.offer
    assert offer is not None, "an offer was just accepted"
    if not same_version:
        return (ev.Gate(offer.clause, offer.provider, "accepted", offer.n),) if offer.clause else ()
    found = []
    for gate in rules.gates:
        if gate.clause == offer.clause or gate.holder == offer.provider:
            found.append(ev.Gate(gate.clause, gate.holder, "accepted", offer.n))
            continue
        for refusal in reversed(row.refusals):
            if refusal.provider == gate.holder and covers(_as_refused(refusal, rules), gate, now, row.episode):
                found.append(ev.Gate(gate.clause, gate.holder, refusal.how, refusal.n))
                break
    return tuple(found)


def _as_refused(row: RefusalRow, rules: Rules) -> Refused:
    terms = next((g.terms for g in rules.gates if g.terms_hash == row.terms), None)
    return Refused(
        provider=row.provider, clause=row.clause, at_us=row.at, how=How(row.how), episode=row.episode,
        terms_hash=row.terms, terms=terms,
    )  # fmt: skip
