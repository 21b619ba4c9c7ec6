"""In which order do we ask now: which gates are still to be passed, who is next, is the job held?

The cheap half of a placement: called by the planner at each turn in which a shape (or a job with
refusals) is decided, and by explain, `contracts test` and the auditor. Pure. A known price over the
ceiling strikes a provider from the market, never a holder of a first right: it may still accept at the ceiling, only
its own answer to this job's offer frees the job, and once it has refused it is put to it again each round (R10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.core.releases import REFUSED
from orchestrator.model.contract import DAY_US, NO_TOLERANCE, Contracts, OnOutage, Release, Tolerance
from orchestrator.model.offer import Reason
from orchestrator.model.placement import (
    Candidate,
    Excluded,
    Exclusion,
    Gate,
    Held,
    How,
    Placement,
    Refused,
    Rules,
    Terms,
)

SPOKEN_NO_US = DAY_US
"""How long a holder's no frees a job from its exclusive: as long as a refusal is good where nothing else is agreed."""


def order(
    rules: Rules,
    prices: Mapping[str, int],
    refusals: Sequence[Refused],
    now_us: int,
    episode: int = 1,
) -> Placement:
    """Whom to ask at `now_us`. `prices`: micro-dollars per GPU-hour by provider, firm before the price
    book's. `refusals`: this job's own; `episode`: the job's present one."""
    return rank(rules, prices, open_gates(rules, refusals, now_us, episode))


def open_gates(rules: Rules, refusals: Sequence[Refused], now_us: int, episode: int) -> tuple[Gate, ...]:
    """The first rights that are still to be passed, in order: all that a job's own past decides."""
    return tuple(gate for gate in rules.gates if not passed(gate, refusals, now_us, episode))


def rank(rules: Rules, prices: Mapping[str, int], gates: tuple[Gate, ...]) -> Placement:
    """The same for every job of a shape before which the same `gates` are still open."""
    priced = {c.provider: prices.get(c.provider, c.list_price) for c in rules.candidates}
    gated = {gate.holder for gate in gates}
    asked = {gate.holder for gate in rules.gates} - gated
    no_sayers = asked | (_refused_beforehand(rules) - gated)
    over = {name for name, price in priced.items() if _exceeds(price, rules.ceiling_microusd)}
    ranked = [c.provider for c in _ranked(rules, priced) if c.provider not in no_sayers]
    market = tuple(name for name in ranked if name not in over)
    refused = tuple(c.provider for c in rules.candidates if c.provider in asked | (no_sayers - over))
    first = (gates[0].holder,) if gates else (*ranked[:1], *refused)
    if rules.unsettled:
        held: Held | None = Held.CLASSIFICATION
    elif not rules.candidates:
        held = _nobody(rules)
    elif first and all(_exceeds(priced[name], rules.hold_above_microusd) for name in first):
        held = Held.OVER_CEILING
    else:
        held = None if gates or market or refused else Held.OVER_CEILING
    return Placement(
        held=held,
        gates=gates,
        market=market,
        refused=refused,
        excluded=(*rules.excluded, *(_over_ceiling(name, priced[name], rules) for name in sorted(over - asked))),
        may_know=() if held else (gates[0].holder,) if gates else market or refused,
    )


def _nobody(rules: Rules) -> Held:
    """Why nobody may be asked: where none has what the job needs, no law is the cause."""
    incapable = rules.excluded and all(e.reason is Excluded.CAPABILITY for e in rules.excluded)
    return Held.NO_CAPABLE_PROVIDER if incapable else Held.NO_LAWFUL_PROVIDER


def _refused_beforehand(rules: Rules) -> set[str]:
    """Holders whose own no has freed a clause."""
    return {free.holder for free in rules.freed if free.how in REFUSED}


def passed(gate: Gate, refusals: Sequence[Refused], now_us: int, episode: int) -> bool:
    """Whether some past no passes this gate now."""
    return any(covers(refusal, gate, now_us, episode) for refusal in refusals)


def covers(refusal: Refused, gate: Gate, now_us: int, episode: int) -> bool:
    """Whether a past no passes this gate now: to this clause, in its tail (to the microsecond), in this
    episode (or inherited), and on terms that are in no dimension better than those refused (R8, R9) by more than its
    clause tolerates."""
    if refusal.provider != gate.holder or refusal.clause != gate.clause:
        return False
    if refusal.how is How.UNDELIVERABLE and gate.on_outage is not OnOutage.DEEMED_DECLINE:
        return False
    if refusal.episode != episode and not gate.inherits:
        return False
    if not 0 <= now_us - refusal.at_us <= gate.tail_us:
        return False
    if refusal.terms_hash == gate.terms_hash:
        return True
    return refusal.terms is not None and not better(gate.terms, refusal.terms, gate.tolerance)


def yielded(
    contracts: Contracts | None, rules: Rules, refusals: Sequence[Refused], now_us: int, episode: int
) -> dict[str, str]:
    """exclusive → the release that its holder's own no to this job has brought about, where it lists one.

    Only a spoken no counts: in this episode, for a day, on terms that are no better now than those refused.
    `rules`: the exclusive's own, before any such release.
    """
    holder = next((c for c in rules.candidates if c.provider == rules.only), None)
    if contracts is None or holder is None:
        return {}
    noes = [no for no in refusals if _declines(no, holder, now_us, episode)]
    short = any(no.reason == Reason.CAPACITY for no in noes)
    found = {}
    for clause in contracts.exclusives if noes else ():
        if clause.holder != holder.provider:
            continue
        if short and Release.UNMET_CAPACITY in clause.releases:
            found[clause.ref] = Release.UNMET_CAPACITY.value
        elif Release.HOLDER_DECLINED in clause.releases:
            found[clause.ref] = Release.HOLDER_DECLINED.value
    return found


def _declines(no: Refused, holder: Candidate, now_us: int, episode: int) -> bool:
    if no.provider != holder.provider or no.how not in (How.DECLINED, How.SPLIT) or no.episode != episode:
        return False
    if not 0 <= now_us - no.at_us <= SPOKEN_NO_US:
        return False
    return no.terms_hash == holder.terms_hash or (no.terms is not None and not better(holder.terms, no.terms))


def better(now: Terms, then: Terms, within: Tolerance = NO_TOLERANCE) -> tuple[str, ...]:
    """The dimensions in which `now` is better for a supplier than `then`, by more than is tolerated: price (dearer),
    start (later), quantity (smaller; of a range its least size), duration (shorter), spec (looser). Empty: a refusal of
    `then` covers `now`."""
    dearer = (then.ceiling_microusd or 0) * within.price_up_ppm // 1_000_000
    fewer = within.smaller_gpus if then.gpus_per_worker else 0
    dimensions = {
        "price": _higher(now.ceiling_microusd, then.ceiling_microusd, dearer),
        "start": _higher(now.start_by_ms, then.start_by_ms, within.start_later_ms),
        "quantity": _least(now) < _least(then) - fewer,
        "duration": now.max_runtime_ms < then.max_runtime_ms,
        "spec": now.residency != then.residency or _looser(now, then) > within.looser_points,
    }
    return tuple(name for name, is_better in dimensions.items() if is_better)


def _ranked(rules: Rules, priced: Mapping[str, int | None]) -> Sequence[Candidate]:
    """Cheapest first, unknown prices last, ties by name; without a contract set the file's order."""
    if rules.contracts is None:
        return rules.candidates
    return sorted(rules.candidates, key=lambda c: (priced[c.provider] is None, priced[c.provider] or 0, c.provider))


def _over_ceiling(provider: str, price: int | None, rules: Rules) -> Exclusion:
    return Exclusion(provider, Excluded.OVER_CEILING, None, str(rules.ceiling_microusd), str(price))


def _exceeds(price: int | None, ceiling: int | None) -> bool:
    return price is not None and ceiling is not None and price > ceiling


def _higher(now: int | None, then: int | None, by: int) -> bool:
    """None is no limit, hence the highest."""
    return then is not None and (now is None or now > then + by)


def _least(terms: Terms) -> int:
    """GPUs, or workers where they have none."""
    return (terms.gpus_per_worker or 1) * terms.fewest


def _looser(now: Terms, then: Terms) -> int:
    """In how many points of the spec. Its residency is none: two tags are two laws, of which neither is the looser."""
    points = (
        _wider(now.accelerators, then.accelerators),
        now.gpus_per_worker < then.gpus_per_worker,
        now.cpus < then.cpus,
        now.memory < then.memory,
        not set(now.regions) <= set(then.regions),
        now.spot > then.spot,
    )
    return sum(points)


def _wider(now: tuple[str, ...], then: tuple[str, ...]) -> bool:
    """An empty list is any accelerator, hence the widest."""
    return bool(then) and (not now or bool(set(now) - set(then)))
