"""Who may serve a shape, behind which gates, on what terms, and until when is this answer good?

The static half of a placement: called once per shape, contract version and term boundary by the
planner, and by explain, `contracts test` and the auditor. Pure: no prices, no refusals, no clock.
The law comes first (capability, region, operator, seal), then ceilings, then first rights by rank: a
holder that cannot lawfully serve has no gate and is not even told (R15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from orchestrator.core.clauses import applies, in_force, minds_class
from orchestrator.core.known import NOTHING, Known
from orchestrator.core.releases import Weighed, outage_due, over, weigh
from orchestrator.model.contract import (
    Classification,
    Clause,
    Contracts,
    Exclusive,
    FirstRight,
    OnExceed,
    OnReplace,
    PriceCeiling,
    ProviderFacts,
    Providers,
    ResidencyLaw,
    Trigger,
)
from orchestrator.model.placement import (
    Candidate,
    Excluded,
    Exclusion,
    Gate,
    Rules,
    Shape,
    Terms,
    Warned,
    terms_hash,
)

Verdict = Exclusion | tuple[str, ...]
"""Of one provider: why it may not serve, or the regions where it may."""
NO_CONTRACTS = Contracts(digest="", name="")


def compile_rules(
    contracts: Contracts | None, providers: Providers, shape: Shape, now_us: int, known: Known = NOTHING
) -> Rules:
    """What holds for `shape` at `now_us`, until `Rules.expires_us`. No contracts: no gate, file order."""
    agreed = contracts or NO_CONTRACTS
    known = replace(known, now_us=now_us)
    laws, verdicts = _lawful(agreed, providers, shape, known)
    ceilings = tuple(clause for clause in agreed.ceilings if applies(clause, shape, now_us) and not over(clause, known))
    ceiling = effective_ceiling(shape, ceilings)
    barred = {name: verdict for name, verdict in verdicts.items() if isinstance(verdict, Exclusion)}
    weighed = _weighed(agreed, shape, now_us, known, verdicts)
    holding = [found.clause for found in weighed if found.freed is None]
    alone = [clause for clause in holding if isinstance(clause, Exclusive)]
    only = alone[0] if alone else None
    elsewhere = [name for name in verdicts if only is not None and name not in barred and name != only.holder]
    able = verdicts.keys() - barred.keys() - set(elsewhere)
    rights = [clause for clause in holding if isinstance(clause, FirstRight) and clause.holder in able]
    asked = replace(shape, min_workers=_fewest(shape, rights))
    candidates = {
        facts.name: _candidate(facts, verdict, asked, ceiling)
        for facts in providers.providers
        if not isinstance(verdict := verdicts[facts.name], Exclusion) and facts.name in able
    }
    minding = [clause for clause in (*laws, *ceilings, *holding) if minds_class(clause)] if shape.unsettled else []
    return Rules(
        shape=shape,
        contracts=contracts.digest if contracts else None,
        providers=providers.digest,
        candidates=tuple(candidates.values()),
        gates=tuple(_gate(right, candidates[right.holder], shape.trigger) for right in rights),
        excluded=(*barred.values(), *(_set_apart(name, only) for name in elsewhere)),
        not_applicable=tuple(_not_applicable(weighed)),
        jurisdictions=_jurisdictions(laws),
        ceiling_microusd=ceiling,
        hold_above_microusd=_lowest(c.ceiling_microusd for c in ceilings if c.on_exceed is OnExceed.HELD),
        warnings=_warnings(agreed, shape, now_us) + ((Warned.CLASS_CLAIMED,) if shape.unsettled and minding else ()),
        expires_us=_expires(agreed, weighed, known, now_us),
        unsettled=bool(minding) and (shape.unsettled == Classification.HELD or len({c.holder for c in alone}) > 1),
        only=only.holder if only else None,
        freed=tuple(found.freed for found in weighed if found.freed is not None),
        not_exempt=tuple(refused for found in weighed for refused in found.not_exempt),
    )


def weighed(contracts: Contracts, providers: Providers, shape: Shape, known: Known) -> list[Weighed]:
    """Every exclusive and, by rank, every first right that is about the shape at `known.now_us`; does it hold?"""
    return _weighed(contracts, shape, known.now_us, known, _lawful(contracts, providers, shape, known)[1])


def _lawful(
    agreed: Contracts, providers: Providers, shape: Shape, known: Known
) -> tuple[tuple[ResidencyLaw, ...], dict[str, Verdict]]:
    """The laws about the shape that hold, and what they say of each provider."""
    laws = tuple(law for law in agreed.laws if applies(law, shape, known.now_us) and not over(law, known))
    return laws, {facts.name: judge(facts, laws, shape) for facts in providers.providers}


def _weighed(
    agreed: Contracts, shape: Shape, now_us: int, known: Known, verdicts: Mapping[str, Verdict]
) -> list[Weighed]:
    """Every exclusive and first right that is about the shape, by rank, and whether it holds."""
    about = (clause for clause in agreed.of_holders if applies(clause, shape, now_us))
    return [weigh(clause, shape, known, _bar(verdicts.get(clause.holder))) for clause in about]


def _bar(verdict: Verdict | None) -> Excluded | None:
    """Why a provider may not serve; one that nobody knows has nothing to serve with."""
    if verdict is None:
        return Excluded.CAPABILITY
    return verdict.reason if isinstance(verdict, Exclusion) else None


def _not_applicable(weighed: Iterable[Weighed]) -> Iterable[str]:
    """First rights that nothing has ended and whose holder cannot lawfully serve (R15)."""
    for found in weighed:
        ended = found.freed is not None and found.freed.how == "ended"
        if isinstance(found.clause, FirstRight) and found.barred is not None and not ended:
            yield found.clause.ref


def _set_apart(name: str, only: Exclusive | None) -> Exclusion:
    assert only is not None, "somebody has it to itself"
    return Exclusion(name, Excluded.EXCLUSIVE, only.ref, only.holder, name)


def _expires(agreed: Contracts, weighed: Iterable[Weighed], known: Known, now_us: int) -> int | None:
    """When this answer stops being good by itself: a term's boundary, the end of a record, an outage long enough."""
    moments = [_next_boundary((*agreed.laws, *agreed.ceilings, *agreed.of_holders), now_us), known.next_us]
    moments += [outage_due(found.clause, known, now_us) for found in weighed]
    waivers = (right.waiver.until_us for right in agreed.first_rights if right.waiver is not None)
    moments += [moment for moment in waivers if moment > now_us]
    return _lowest(moment for moment in moments if moment is not None)


def store_lawful(rules: Rules, jurisdiction: str) -> bool:
    """Whether the job's checkpoints, logs and package may lie in a store of this jurisdiction."""
    return rules.jurisdictions is None or jurisdiction in rules.jurisdictions


def effective_ceiling(shape: Shape, ceilings: Iterable[PriceCeiling]) -> int | None:
    """The lowest of the job's own and the clauses' ceilings; None: there is none."""
    own = () if shape.ceiling_microusd is None else (shape.ceiling_microusd,)
    return _lowest((*own, *(clause.ceiling_microusd for clause in ceilings)))


def _fewest(shape: Shape, rights: Iterable[FirstRight]) -> int | UnsetType:
    """The least that anybody may take: of a divisible job what the strictest first right over it lets its holder take,
    or others would get a smaller part than one who refused (R8). Unset: all."""
    least = max((right.least_gpus for right in rights), default=0) if shape.divisible else 0
    if not least:
        return shape.min_workers
    fewest = max(-(-least // shape.gpus_per_worker), shape.fewest) if shape.gpus_per_worker else shape.workers
    return fewest if fewest < shape.workers else UNSET


def judge(facts: ProviderFacts, laws: Iterable[ResidencyLaw], shape: Shape) -> Verdict:
    """The regions in which the provider may serve the shape (sorted), or the first law that excludes it:
    capability, then region, then operator, then seal."""
    if missing := _incapable(facts, shape):
        return missing
    laws = tuple(laws)
    regions = dict(facts.regions)
    for law in laws:
        if law.regions_in is not None:
            regions = {name: place for name, place in regions.items() if place in law.regions_in}
        if not regions:
            places = sorted({place for _, place in facts.regions})
            return Exclusion(facts.name, Excluded.REGION, law.ref, _any(law.regions_in), _any(places))
    for law in laws:
        if law.operator_in is not None and facts.operator_jurisdiction not in law.operator_in:
            need = _any(law.operator_in)
            return Exclusion(facts.name, Excluded.OPERATOR_JURISDICTION, law.ref, need, facts.operator_jurisdiction)
    for law in laws:
        if law.min_seal is not None and facts.seal < law.min_seal:
            return Exclusion(facts.name, Excluded.SEAL, law.ref, str(law.min_seal), str(facts.seal))
    return tuple(sorted(regions))


def _incapable(facts: ProviderFacts, shape: Shape) -> Exclusion | None:
    if not shape.gpus or _accelerator(facts, shape) is not None:
        return None
    need = _any(shape.accelerators) or "an accelerator"
    return Exclusion(facts.name, Excluded.CAPABILITY, None, need, _any(name for name, _ in facts.accelerators))


def _accelerator(facts: ProviderFacts, shape: Shape) -> str | None:
    has = [name for name, _ in facts.accelerators]
    wanted = shape.accelerators or tuple(has)
    return next((name for name in wanted if name in has), None)


def _candidate(facts: ProviderFacts, regions: tuple[str, ...], shape: Shape, ceiling: int | None) -> Candidate:
    terms = Terms(
        accelerators=shape.accelerators,
        gpus_per_worker=shape.gpus_per_worker,
        workers=shape.workers,
        min_workers=shape.min_workers,
        divisible=shape.divisible,
        cpus=shape.cpus,
        memory=shape.memory,
        ceiling_microusd=ceiling,
        max_runtime_ms=shape.max_runtime_ms,
        start_by_ms=shape.start_by_ms,
        regions=regions,
        residency=shape.residency,
        spot=shape.spot,
    )
    accelerator = _accelerator(facts, shape) if shape.gpus else None
    return Candidate(
        provider=facts.name,
        accelerator=accelerator,
        regions=regions,
        terms=terms,
        terms_hash=terms_hash(terms),
        list_price=dict(facts.prices).get(accelerator or ""),
    )


def _gate(right: FirstRight, holder: Candidate, trigger: Trigger) -> Gate:
    return Gate(
        clause=right.ref,
        contract=right.contract,
        holder=right.holder,
        rank=right.rank,
        window_us=right.window_us,
        tail_us=right.tail_us,
        inherits=right.on_replace is OnReplace.INHERIT and trigger is Trigger.REPLACE,
        on_outage=right.on_outage,
        undeliverable_after_us=right.undeliverable_after_us,
        terms=holder.terms,
        terms_hash=holder.terms_hash,
        tolerance=right.tolerance,
    )


def _jurisdictions(laws: Iterable[ResidencyLaw]) -> tuple[str, ...] | None:
    allowed = [set(law.regions_in) for law in laws if law.regions_in is not None]
    return tuple(sorted(set.intersection(*allowed))) if allowed else None


def _warnings(contracts: Contracts, shape: Shape, now_us: int) -> tuple[Warned, ...]:
    unknown = shape.residency is not None and limits_nothing(contracts, shape.residency, now_us)
    return (Warned.UNKNOWN_RESIDENCY,) if unknown else ()


def limits_nothing(contracts: Contracts | None, residency: str, now_us: int) -> bool:
    """Whether no clause in force names this residency tag."""
    laws = contracts.laws if contracts is not None else ()
    return not any(residency in (law.select.residency or ()) for law in laws if in_force(law, now_us))


def _next_boundary(clauses: Iterable[Clause], now_us: int) -> int | None:
    moments = {moment for clause in clauses for moment in (clause.from_us, clause.until_us)}
    return _lowest(moment for moment in moments if moment > now_us)


def _lowest(values: Iterable[int]) -> int | None:
    return min(values, default=None)


def _any(names: Iterable[str] | None) -> str:
    return " or ".join(names or ())
