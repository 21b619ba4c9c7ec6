"""Does a contract set decide as its author expects? The test runner behind `orchestrator contracts test`.

Pure: one case in, one outcome out. A case whose facts or expectations use a part that is not enforced
yet is neither passed nor failed, because the answer would be given by somebody else's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from orchestrator.core.clauses import in_force, may_select
from orchestrator.core.eligibility import compile_rules
from orchestrator.core.known import Known, in_records
from orchestrator.core.ranking import order, yielded
from orchestrator.model.case import Case, Facts, PastRefusal
from orchestrator.model.contract import Contracts, NotEnforced, Part, Providers
from orchestrator.model.placement import Placement, Refused, Rules, Terms
from orchestrator.model.record import Record, What

EPISODE = 2  # the present one; a refusal of another episode has 1


class Verdict(StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_ENFORCED = "not enforced yet"


class Difference(msgspec.Struct, frozen=True):
    """One expectation that was not met."""

    key: str
    expected: Any
    got: Any


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one case, and why."""

    case: str
    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    uses: tuple[NotEnforced, ...] = ()  # the parts that would have decided


def run_case(contracts: Contracts, providers: Providers, case: Case, warned: Iterable[str] = ()) -> Outcome:
    """Ask the set the case's question. `warned`: codes of the warnings at load."""
    rules, placement = decide(contracts, providers, case)
    if used := uses(contracts, case, rules):
        return Outcome(case=case.name, verdict=Verdict.NOT_ENFORCED, uses=used)
    got = answer(rules, placement, warned)
    wrong = tuple(
        Difference(key, expected, got[key]) for key, expected in case.expect.items() if not _meets(expected, got[key])
    )
    return Outcome(case=case.name, verdict=Verdict.FAILED if wrong else Verdict.PASSED, differences=wrong)


def decide(contracts: Contracts | None, providers: Providers, case: Case) -> tuple[Rules, Placement]:
    """The rules and the placement for a case's moment, job and facts."""
    known = _known(contracts, case)
    rules = compile_rules(contracts, providers, case.shape, case.at_us, known)
    refusals = [no for past in case.facts.refusals for no in _refusals(past, rules, case.at_us)]
    if noes := yielded(contracts, rules, refusals, case.at_us, EPISODE):
        rules = compile_rules(contracts, providers, case.shape, case.at_us, msgspec.structs.replace(known, noes=noes))
    return rules, order(rules, case.facts.prices, refusals, case.at_us, EPISODE)


def _known(contracts: Contracts | None, case: Case) -> Known:
    """A case's facts as the ledger would tell them."""
    facts = case.facts
    records = [Record(id=name, what=What.EVIDENCE, name=name) for name in sorted(facts.evidence)]
    records += [Record(id=f"consent-{name}", what=What.CONSENT, holder=name) for name in sorted(facts.consents)]
    for event, attesters in facts.events.items():
        said = (Record(id=f"{event}-{who}", what=What.EVENT, name=event, by=who) for who in attesters)
        records += said
    found, next_us = in_records(records, case.shape, case.at_us)
    spent = frozenset(
        f"{clause.ref}/{exempt.id}"
        for clause in (contracts.of_holders if contracts else ())
        for exempt in clause.exempt
        if exempt.limit_ms is not None and facts.exempt_ms.get(exempt.id, 0) + case.shape.whole_gpu_ms > exempt.limit_ms
    )
    return Known(records=found, down_us=facts.down_us, spent=spent, next_us=next_us)


def answer(rules: Rules, placement: Placement, warned: Iterable[str] = ()) -> dict[str, Any]:
    """A placement in the words of a case's expectations; durations in microseconds."""
    return {
        "held": placement.held and placement.held.value,
        "only": rules.only,
        "gates": [{"clause": g.clause, "holder": g.holder, "window": g.window_us} for g in placement.gates],
        "market": list(placement.market),
        "regions": {candidate.provider: list(candidate.regions) for candidate in rules.candidates},
        "excluded": {exclusion.provider: exclusion.reason.value for exclusion in placement.excluded},
        "exempt": {free.clause: free.exemption for free in rules.freed if free.exemption},
        "exemptionRefused": {refused.exemption: refused.why for refused in rules.not_exempt},
        "released": {free.clause: free.how for free in rules.freed if not free.exemption},
        "notApplicable": sorted(rules.not_applicable),
        "mayKnow": sorted(placement.may_know),
        "warnings": sorted({*warned, *(warning.value for warning in rules.warnings)}),
    }


def uses(contracts: Contracts, case: Case, rules: Rules) -> tuple[NotEnforced, ...]:
    """The parts not enforced yet that the case's facts or expectations use: what it names, and what
    would be in play for its job at its moment."""
    live = [part for part in contracts.not_enforced if in_force(part, case.at_us)]
    return tuple(part for part in live if _named(part, case) or _in_play(part, case, rules))


def _named(part: NotEnforced, case: Case) -> bool:
    facts, expect = case.facts, case.expect
    released = set((expect.get("released") or {}).values())
    match part.part:
        case Part.SHARE:
            return bool(facts.shares) or "share_cap" in (expect.get("excluded") or {}).values()
        case Part.COMMIT:
            return bool(facts.burned)
        case Part.MOST_FAVOURED:
            return "most_favoured" in released
    return False


def _in_play(part: NotEnforced, case: Case, rules: Rules) -> bool:
    if not may_select(part.select, case.shape):
        return False
    lawful = any(candidate.provider == part.holder for candidate in rules.candidates)
    check = _IN_PLAY.get(part.part)
    return may_select(part.narrower, case.shape) and (check is None or check(part, case.facts, lawful))


_IN_PLAY: Mapping[Part, Callable[[NotEnforced, Facts, bool], bool]] = {
    Part.FIRST_RIGHT: lambda part, facts, lawful: lawful,
    Part.BRIDGE: lambda part, facts, lawful: lawful and part.holder in facts.down_us,
    Part.MOST_FAVOURED: lambda part, facts, lawful: bool(facts.prices),
}


def _refusals(past: PastRefusal, rules: Rules, now_us: int) -> list[Refused]:
    """A past no, as one to each gate of its provider, and to an offer without a gate."""
    found = [
        _refused(past, gate.clause, gate.terms, gate.terms_hash, now_us)
        for gate in rules.gates
        if gate.holder == past.provider
    ]
    alone = (c for c in rules.candidates if c.provider == past.provider == rules.only)
    return found + [_refused(past, "", c.terms, c.terms_hash, now_us) for c in alone]


def _refused(past: PastRefusal, clause: str, terms: Terms, terms_hash: str, now_us: int) -> Refused:
    changed: dict[str, Any] = {}
    if past.ceiling_microusd is not None:
        changed["ceiling_microusd"] = past.ceiling_microusd
    if past.gpus is not None:
        workers = -(-past.gpus // max(terms.gpus_per_worker, 1))  # such as the job has now, the last one maybe in part
        changed |= {"workers": workers, "min_workers": msgspec.UNSET}
    if past.accelerators is not None:
        changed["accelerators"] = past.accelerators
    if past.regions is not None:
        changed["regions"] = past.regions
    return Refused(
        provider=past.provider,
        clause=clause,
        at_us=now_us - past.ago_us,
        how=past.how,
        episode=EPISODE if past.same_episode else EPISODE - 1,
        terms_hash="" if changed else terms_hash,
        terms=msgspec.structs.replace(terms, **changed),
        reason=past.reason,
    )


def _meets(expected: Any, got: Any) -> bool:
    """Maps: the keys given, an empty one means none. Lists: the same items in the same order."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        return not (got and not expected) and all(_meets(v, got.get(key)) for key, v in expected.items())
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(_meets, expected, got))
    return bool(expected == got)
