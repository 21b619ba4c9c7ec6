"""By what was each first right passed for an offer that was just accepted? Evidence, kept with the intention.

Called by offering. Pure; whether they were all passed is decided there.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.ranking import covers
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id
from orchestrator.model.job import JobRow, RefusalRow
from orchestrator.model.placement import How, Refused, Rules, Terms


def passed_gates(
    row: JobRow, rules: Rules, terms: Mapping[str, Terms], now: int, same_version: bool
) -> tuple[ev.Gate, ...]:
    """Every first right over this job, and by what it was passed for the offer that was just accepted.

    `terms`: what was refused, by hash.

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
            if refusal.provider == gate.holder and covers(_as_refused(refusal, terms), gate, now, row.episode):
                name = offer_id(refusal.job, refusal.n) if refusal.job else refusal.n
                found.append(ev.Gate(gate.clause, gate.holder, refusal.how, name))
                break
    return tuple(found)


def _as_refused(row: RefusalRow, terms: Mapping[str, Terms]) -> Refused:
    return Refused(
        provider=row.provider, clause=row.clause, at_us=row.at, how=How(row.how), episode=row.episode,
        terms_hash=row.terms, terms=terms.get(row.terms),
    )  # fmt: skip
