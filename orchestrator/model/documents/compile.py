"""What do the documents say in the form that decisions read?

Called by the bootstrap, the CLI and `contracts test` after loading; the results hold the documents'
digests. Nothing here decides; drafts are left out, and so is what is not enforced yet, which is listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.model.contract import (
    Because,
    Clause,
    Contracts,
    End,
    Exclusive,
    Exemption,
    FirstRight,
    Policy,
    PriceCeiling,
    ProviderFacts,
    Providers,
    Range,
    Release,
    ResidencyLaw,
    Select,
    StoreFacts,
    Tolerance,
    Waiver,
)
from orchestrator.model.documents.base import digest
from orchestrator.model.documents.clauses import (
    ClauseDocument,
    ExclusiveDocument,
    Exempt,
    FirstRightDocument,
    PriceDocument,
    ReofferIf,
    Residency,
    StandingWaiver,
)
from orchestrator.model.documents.compiling import midnight_us, select_of, term_of, whole_gpu_ms
from orchestrator.model.documents.contracts import ContractDocument, ContractSet, ProviderStated
from orchestrator.model.documents.errors import Problem
from orchestrator.model.documents.parts import not_enforced
from orchestrator.model.documents.providers import PolicyDocument, ProviderDocument, ProviderSet

_US = 1_000  # microseconds in a millisecond


def compile_contracts(document: ContractSet) -> Contracts:
    """The contract set as decisions read it."""
    clauses = list(_clauses(document))
    rights = [found for found in clauses if isinstance(found, FirstRight)]
    laws = tuple(found for found in clauses if isinstance(found, ResidencyLaw))
    ceilings = tuple(found for found in clauses if isinstance(found, PriceCeiling))
    return Contracts(
        digest=digest(document),
        name=document.metadata.name,
        exclusives=tuple(found for found in clauses if isinstance(found, Exclusive)),
        first_rights=tuple(sorted(rights, key=lambda right: right.rank)),
        ceilings=ceilings,
        laws=laws,
        not_enforced=not_enforced(document),
        labels=frozenset(key for found in clauses for key in _labels(found)),
        events=frozenset(end.event for contract in document.spec.contracts for end in contract.ends_on),
        evidence=frozenset(_evidence(document)),
    )


def _labels(clause: Clause) -> Iterator[str]:
    """The label keys that a clause or one of its exemptions reads."""
    for select in (clause.select, *(exempt.select for exempt in clause.exempt)):
        yield from (key for key, _ in select.labels)


def _evidence(document: ContractSet) -> Iterator[str]:
    """The names of evidence that some exemption takes."""
    for contract in document.spec.contracts:
        for clause in contract.clauses:
            for exempt in clause.exempt:
                yield from _exemption(exempt).needed


def unenforced(document: ContractSet) -> list[tuple[str, str]]:
    """(path, what) of every part that this release does not enforce; empty: all of it is."""
    return [(part.path, part.what) for part in not_enforced(document)]


def refused(document: ContractSet, operators: ProviderSet | None) -> list[Problem]:
    """Why a server would not decide by this set: what is not enforced yet, and what its operator says otherwise."""
    problems = disagreements(document, operators) if operators is not None else []
    for path, what in unenforced(document):
        problems.append(Problem(path, f"{what} is not enforced by this version yet", "Leave it out", "not_enforced"))
    return problems


def compile_providers(document: ProviderSet) -> Providers:
    """The operator's providers as decisions read them, in the order of the file."""
    spec = document.spec
    stores = tuple(StoreFacts(name, store.url, store.jurisdiction) for name, store in spec.stores.items())
    first = next(iter(spec.stores), "default")
    policies = {"default": PolicyDocument(), **spec.policies}
    return Providers(
        digest=digest(document),
        providers=tuple(_provider(name, facts) for name, facts in spec.providers.items()),
        stores=stores,
        policies=tuple(_policy(name, policy, first) for name, policy in policies.items()),
    )


def stated_providers(document: ContractSet) -> Providers:
    """The providers that a contract set itself describes: without prices, stores or connections."""
    facts = (_provider(name, stated) for name, stated in document.spec.providers.items())
    return Providers(digest=digest(document), providers=tuple(facts))


def disagreements(document: ContractSet, providers: ProviderSet) -> list[Problem]:
    """Where a contract set relies on facts that the operator's providers contradict or lack."""
    known = providers.spec.providers
    found = []
    for at, contract in enumerate(document.spec.contracts):
        if contract.holder is not None and contract.holder not in known:
            reason = f"{contract.holder} is none of the operator's providers"
            remedy = "Add it to providers.yaml or name another"
            found.append(Problem(f"spec.contracts[{at}].holder", reason, remedy, "unknown_holder"))
    for name, stated in document.spec.providers.items():
        if name in known:
            found += _differences(f"spec.providers.{name}", stated, known[name])
    return found


def _differences(path: str, stated: ProviderStated, known: ProviderStated) -> Iterator[Problem]:
    for key in ("operator_jurisdiction", "seal"):
        yield from _differs(f"{path}.{key}", getattr(stated, key), getattr(known, key))
    for key in ("regions", "accelerators"):
        mine, theirs = getattr(stated, key), getattr(known, key)
        for name in sorted(mine.keys() & theirs.keys()):
            yield from _differs(f"{path}.{key}.{name}", mine[name], theirs[name])


def _differs(path: str, stated: Any, known: Any) -> Iterator[Problem]:
    if stated != known:
        reason = f"the contracts rely on {stated}, providers.yaml says {known}"
        yield Problem(path, reason, "Correct the one that is wrong", "facts_differ")


def _clauses(document: ContractSet) -> Iterator[Clause]:
    for contract in document.spec.contracts:
        for clause in contract.clauses if contract.status != "draft" else ():
            if found := _clause(contract, clause):
                yield found


def _clause(contract: ContractDocument, clause: ClauseDocument) -> Clause | None:
    from_us, until_us = term_of(contract.term)
    common: dict[str, Any] = {
        "ref": f"{contract.id}/{clause.id}",
        "contract": contract.id,
        "from_us": from_us,
        "until_us": until_us,
        "select": select_of(clause.select),
        "ends": tuple(_ends(contract, clause)),
        "exempt": tuple(_exemption(exempt) for exempt in clause.exempt),
    }
    if isinstance(clause, ExclusiveDocument):
        releases = tuple(Release(name) for name in clause.release)
        after = (clause.outage_after or 0) * _US
        return Exclusive(holder=contract.holder or "", releases=releases, outage_after_us=after, **common)
    if isinstance(clause, FirstRightDocument):
        return _first_right(contract.holder or "", clause, common)
    if isinstance(clause, PriceDocument) and clause.ceiling_usd_per_gpu_hour is not None:
        ceiling = clause.ceiling_usd_per_gpu_hour
        return PriceCeiling(ceiling_microusd=ceiling, on_exceed=clause.on_exceed, **common)
    if isinstance(clause, Residency):
        return ResidencyLaw(
            regions_in=clause.regions_in,
            operator_in=clause.operator_jurisdiction_in,
            min_seal=clause.min_seal,
            **common,
        )
    return None


def _ends(contract: ContractDocument, clause: ClauseDocument) -> Iterator[End]:
    """The events that end this clause: those of the whole contract, and those that name it."""
    for end in contract.ends_on:
        if end.clauses is None or clause.id in end.clauses:
            yield End(end.event, end.quorum, end.attesters)


def _exemption(exempt: Exempt) -> Exemption:
    limit, window = exempt.max_gpu_hours_per_window or (None, 0)
    return Exemption(
        id=exempt.id,
        because=Because(exempt.because),
        select=select_of(exempt.select),
        evidence=exempt.evidence,
        limit_ms=whole_gpu_ms(limit) if limit is not None else None,
        window_us=window * _US,
        per_lineage=exempt.per == "lineage",
    )


def _first_right(holder: str, clause: FirstRightDocument, common: dict[str, Any]) -> FirstRight:
    after = clause.window if clause.undeliverable_after is None else clause.undeliverable_after
    return FirstRight(
        holder=holder,
        rank=clause.rank,
        window_us=clause.window * _US,
        tail_us=clause.tail * _US,
        on_replace=clause.on_replace,
        on_outage=clause.on_outage,
        undeliverable_after_us=after * _US,
        tolerance=_tolerance(clause.reoffer_if),
        least_gpus=clause.partial.min_gpus if clause.partial else 0,
        waiver=_waiver(clause.standing_waiver) if clause.standing_waiver else None,
        **common,
    )


def _tolerance(agreed: ReofferIf) -> Tolerance:
    return Tolerance(
        price_up_ppm=int(agreed.price_up_pct * 10_000),
        start_later_ms=agreed.start_later,
        smaller_gpus=int(agreed.smaller),
        looser_points=int(agreed.looser_spec),
    )


def _waiver(signed: StandingWaiver) -> Waiver:
    select = Select(classes=signed.job_class, gpus=Range(lt=signed.gpus + 1))
    return Waiver(select, midnight_us(signed.until))


def _provider(name: str, facts: ProviderStated) -> ProviderFacts:
    prices: tuple[tuple[str, int], ...] = ()
    window = 60_000
    if isinstance(facts, ProviderDocument):
        prices, window = tuple(sorted(facts.cheapest().items())), facts.market_window
    norms = ((accelerator, int(norm * 1_000)) for accelerator, norm in facts.accelerators.items())
    return ProviderFacts(
        name=name,
        regions=tuple(sorted(facts.regions.items())),
        operator_jurisdiction=facts.operator_jurisdiction,
        seal=facts.seal,
        accelerators=tuple(sorted(norms)),
        prices=prices,
        market_window_us=window * _US,
    )


def _policy(name: str, policy: PolicyDocument, first_store: str) -> Policy:
    isolation = policy.isolation
    never_by_itself = isolation.limit is None or policy.on_unreachable == "confirmed_stop_only"
    return Policy(
        name=name,
        store=policy.store or first_store,
        check_us=isolation.check * _US,
        limit_us=None if never_by_itself else (isolation.limit or 0) * _US,
        grace_us=isolation.grace * _US,
        on_unreachable=policy.on_unreachable,
        max_attempts=policy.max_attempts,
        max_runtime_us=policy.max_runtime * _US,
        classification=policy.classification,
    )
