"""What should an author know about a contract set that loads all the same?

Called by `contracts check` and `test`, and by the bootstrap. Four things: a share that a first right of another holder
may make unreachable, a class of work for which a single provider (or none) is left, where the operator's providers are
known too, clauses by class whose classes nobody but the submitter vouches for, and where they are not, holders that are
described nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.model.documents.clauses import ClauseDocument, ExclusiveDocument, FirstRightDocument, Residency, Share
from orchestrator.model.documents.conflicts import selects_overlap
from orchestrator.model.documents.contracts import ContractDocument, ContractSet, ProviderStated
from orchestrator.model.documents.errors import Notice
from orchestrator.model.documents.providers import PolicyDocument, ProviderSet


def warnings(document: ContractSet) -> list[Notice]:
    """Every warning, by path. Drafts are passed over."""
    return [*_infeasible_shares(document), *_lonely_classes(document)]


def unattested(document: ContractSet, operators: ProviderSet) -> list[Notice]:
    """That clauses go by class, and policies leave it at what the submitter says without saying so themselves."""
    by_class = [(path, f"{contract.id}/{c.id}") for path, contract, c in _live(document) if _minds_class(c)]
    policies = {"default": PolicyDocument(), **operators.spec.policies}
    silent = [name for name, policy in policies.items() if "classification" not in policy.model_fields_set]
    if not by_class or not silent:
        return []
    what = (
        f"{', '.join(ref for _, ref in by_class)} {'goes' if len(by_class) == 1 else 'go'} by class, and a class is "
        f"what the submitter claims: who writes another one escapes. In providers.yaml, set classification: strictest "
        f"or held (or claimed, if you mean it) in spec.policies for {', '.join(silent)}"
    )
    return [Notice(by_class[0][0], what, "class_unattested")]


def undescribed(document: ContractSet) -> list[Notice]:
    """Each holder of clauses in a set that describes no provider at all: without the operator's providers nobody can
    be asked first, and whatever is asked of the set is answered as if it had no such clause."""
    if document.spec.providers:
        return []  # then a holder that is not among them is a problem
    paths: dict[str, str] = {}
    for at, contract in enumerate(document.spec.contracts):
        if contract.holder is not None and contract.status != "draft" and contract.clauses:
            paths.setdefault(contract.holder, f"spec.contracts[{at}].holder")
    what = (
        "is described nowhere: here none of its clauses binds anybody. Describe it under spec.providers, or pass the "
        "operator's file with --providers"
    )
    return [Notice(path, f"{holder} {what}", "holder_undescribed") for holder, path in paths.items()]


def _minds_class(clause: ClauseDocument) -> bool:
    waiver = clause.standing_waiver if isinstance(clause, FirstRightDocument) else None
    named = [clause.select.job_class, *(exempt.select.job_class for exempt in clause.exempt)]
    return any(classes is not None for classes in (*named, waiver.job_class if waiver else None))


def _live(document: ContractSet) -> Iterator[tuple[str, ContractDocument, ClauseDocument]]:
    for at, contract in enumerate(document.spec.contracts):
        for number, clause in enumerate(contract.clauses if contract.status != "draft" else ()):
            yield f"spec.contracts[{at}].clauses[{number}]", contract, clause


def _infeasible_shares(document: ContractSet) -> Iterator[Notice]:
    """The most that can go elsewhere is 1 - a·g; a holder may accept everything that it is offered (a = 1)."""
    rights = [(c, r) for _, c, r in _live(document) if isinstance(r, FirstRightDocument)]
    for path, contract, share in _live(document):
        if not isinstance(share, Share) or share.bound == "max":
            continue
        for other, right in rights:
            apart = other.term.to < contract.term.from_ or contract.term.to < other.term.from_
            met = other.holder != contract.holder and selects_overlap(share.select, right.select)
            asked = max(milestone.pct for milestone in share.trajectory)
            if met and not apart and asked > 0:
                who, whose = contract.holder, f"{other.id}/{right.id}"
                what = f"if {other.holder} accepts all that {whose} offers it, {who} cannot reach {asked} %"
                yield Notice(path, what, "share_infeasible")
                break


def _lonely_classes(document: ContractSet) -> Iterator[Notice]:
    providers = document.spec.providers
    if not providers:
        return
    named = {name for _, _, clause in _live(document) for name in clause.select.job_class or ()}
    for name in [None, *sorted(named)]:
        left = [who for who, facts in providers.items() if _may_serve(document, name, who, facts)]
        if len(left) > 1:
            continue
        work = f"work of class {name}" if name else "work of any class that no clause names"
        code = "single_provider" if left else "no_provider"
        yield Notice("spec.contracts", f"{work} is left with {left[0] if left else 'no provider'}", code)


def _may_serve(document: ContractSet, name: str | None, who: str, facts: ProviderStated) -> bool:
    """Whether `who` may serve plain work of this class: no residency tag, no label."""
    for _, contract, clause in _live(document):
        select = clause.select
        plain = select.residency is None and not select.labels
        if not plain or not (select.job_class is None or name in select.job_class):
            continue
        if isinstance(clause, ExclusiveDocument) and contract.holder != who:
            return False
        if isinstance(clause, Residency) and not _lawful(clause, facts):
            return False
    return True


def _lawful(law: Residency, facts: ProviderStated) -> bool:
    places, operator = set(facts.regions.values()), facts.operator_jurisdiction
    return (
        (law.regions_in is None or bool(places & set(law.regions_in)))
        and (law.operator_jurisdiction_in is None or operator in law.operator_jurisdiction_in)
        and (law.min_seal is None or facts.seal >= law.min_seal)
    )
