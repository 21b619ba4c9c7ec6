"""How is a placement told to a person? One sentence for each provider, gate and wait.

Called by explain and the CLI. Reasons are stored as codes with parameters; sentences are made on reading
and never stored. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.model.contract import OnOutage
from orchestrator.model.placement import (
    Candidate,
    Excluded,
    Exclusion,
    Gate,
    Held,
    Placement,
    Rules,
    Warned,
)

_UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"))

HELD = {
    Held.NO_LAWFUL_PROVIDER: "held: no provider may lawfully run this job; change the job, the law or the providers",
    Held.CLASSIFICATION: "held: its class is only claimed; an attester must record it (`orchestrator record class`)",
    Held.NO_CAPABLE_PROVIDER: "held: no provider has the hardware that it asks for; change the job or the providers",
    Held.DECLINED_BY_ALL: "held: each provider that may run it says that it never can; change the job or the providers",
    Held.OVER_CEILING: "held: what could run this job costs more than its ceiling; raise it or wait for a price",
}
WARNED = {
    Warned.CLASS_CLAIMED: "its class is only claimed: every clause that would hold for some class holds",
    Warned.UNKNOWN_RESIDENCY: "no clause in force names this residency tag, so it limits nothing",
    Warned.SHARE_INFEASIBLE: "a first right may make a promised share unreachable",
    Warned.SINGLE_PROVIDER: "a class of work is left with a single provider",
    Warned.NO_PROVIDER: "a class of work is left without a provider",
}


def provider_sentences(
    rules: Rules, placement: Placement, prices: Mapping[str, int], down_us: Mapping[str, int]
) -> dict[str, str]:
    """Every provider with the reason for its place, in the order of asking, the excluded ones last."""
    excluded = {exclusion.provider: exclusion_sentence(exclusion) for exclusion in placement.excluded}
    candidates = {candidate.provider: candidate for candidate in rules.candidates}
    first = [*(gate.holder for gate in placement.gates), *placement.market, *placement.refused, *candidates]
    found = {}
    for name in dict.fromkeys([*first, *excluded]):
        parts = [_standing(name, placement), excluded.get(name, ""), _where(candidates.get(name), prices)]
        parts.append(f"not reached for {duration(down_us[name])}" if name in down_us else "")
        found[name] = "; ".join(part for part in parts if part)
    return found


def gate_sentence(gate: Gate) -> str:
    """Who is asked alone, for how long, and what silence and an outage mean."""
    outage = {
        OnOutage.DEEMED_DECLINE: f"undeliverable for {duration(gate.undeliverable_after_us)} is a refusal too",
        OnOutage.LAPSE_NORMALLY: "undeliverable is no refusal: the job waits",
    }.get(gate.on_outage, "")
    return (
        f"{gate.holder} is offered the job alone for {duration(gate.window_us)} ({gate.clause}, rank {gate.rank}); "
        f"silence is a refusal, good for {duration(gate.tail_us)} on no better terms; {outage}"
    )


NOT_EXEMPT = {
    "evidence": "no attester has recorded the evidence that it takes",
    "exempt_total": "its total has no room for this job",
    "still_lawful": "the holder may lawfully serve",
    "no_outage": "the holder has not been out of reach for long enough",
    "no_consent": "the holder has not consented",
}


def freedom_sentences(rules: Rules) -> list[str]:
    """Which clauses would hold and do not, and which exemptions were looked at in vain."""
    found = []
    for free in rules.freed:
        said = f"exempt by {free.exemption} ({free.because})" if free.exemption else f"freed, {free.how}"
        rests = f"; on record: {', '.join(free.records)}" if free.records else ""
        found.append(f"{free.clause}: {said}{rests}")
    return found + [
        f"{no.clause}: not exempt by {no.exemption}, {no.why}: {NOT_EXEMPT[no.why]}" for no in rules.not_exempt
    ]


def exclusion_sentence(exclusion: Exclusion) -> str:
    """Why a provider may not serve, and which clause says so."""
    need, have = exclusion.need, exclusion.have or "nothing"
    if exclusion.reason is Excluded.OVER_CEILING:
        need, have = dollars(need), dollars(have)
    said = {
        Excluded.CAPABILITY: f"has {have}, the job needs {need}",
        Excluded.REGION: f"has regions in {have}, the job must stay in {need or 'no jurisdiction at all'}",
        Excluded.OPERATOR_JURISDICTION: f"is operated under {have}, the job needs {need}",
        Excluded.SEAL: f"has sovereignty level {have}, the job needs {need}",
        Excluded.DATA: "has no lawful replica of the data",
        Excluded.EXCLUSIVE: f"only {need} may serve this class of work",
        Excluded.OVER_CEILING: f"asks {have} per GPU-hour, the ceiling is {need}",
    }[exclusion.reason]
    by = f" ({exclusion.clause})" if exclusion.clause else ""
    return f"excluded, {exclusion.reason.value}: {said}{by}"


def duration(microseconds: int) -> str:
    """`900000000` -> `15m`: the largest unit that divides it."""
    for size, unit in _UNITS:
        if microseconds % size == 0 and microseconds >= size:
            return f"{microseconds // size}{unit}"
    return f"{microseconds}us" if microseconds else "0"


def _standing(name: str, placement: Placement) -> str:
    if any(gate.holder == name for gate in placement.gates):
        return "holder: asked first, alone"
    if name in placement.refused:
        return "holder: its refusal is still good, so it is asked last in a new round"
    if name in placement.market:
        after = "once every gate is passed" if placement.gates else "now"
        return f"number {placement.market.index(name) + 1} in the market, {after}"
    return ""


def _where(candidate: Candidate | None, prices: Mapping[str, int]) -> str:
    if candidate is None:
        return ""
    price = prices.get(candidate.provider, candidate.list_price)
    cost = "price unknown" if price is None else f"{dollars(price)} per GPU-hour"
    return f"in {_names(candidate.regions)}; {cost}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def dollars(microdollars: int | str) -> str:
    """`2600000` -> `2.60 USD`."""
    whole, rest = divmod(int(microdollars), 1_000_000)
    cents = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{cents} USD"
