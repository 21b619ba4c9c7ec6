"""Do the clauses of a contract set contradict each other or themselves?

`load_contracts` is a contract set's only way in, and refuses with every problem that it finds; with these, once every
part is well-formed. Two holders can never both be first: exclusives that overlap, or first rights of equal rank that
overlap, of different holders, are refused at load rather than decided by chance at three in the morning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from orchestrator.model.documents.base import load_data
from orchestrator.model.documents.clauses import (
    ClauseDocument,
    Commit,
    ExclusiveDocument,
    FirstRightDocument,
    Precedence,
    PriceDocument,
    SelectDocument,
    Share,
)
from orchestrator.model.documents.contracts import ContractDocument, ContractSet
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.documents.text import plain

_OF_A_HOLDER = (ExclusiveDocument, FirstRightDocument, Precedence, Commit, Share)


def load_contracts(text: str | bytes) -> ContractSet:
    """A contract set from YAML 1.2 or JSON; `DocumentError` with every problem."""
    data, problems = plain(text)
    return contracts_from(data, problems)


def contracts_from(data: Any, problems: list[Problem] | None = None) -> ContractSet:
    """A contract set from plain values; `DocumentError` with every problem."""
    found = load_data(ContractSet, data, problems or ())
    if clashes := conflicts(found):
        raise DocumentError(clashes)
    return found


def conflicts(document: ContractSet) -> list[Problem]:
    """Every contradiction, by path."""
    contracts = document.spec.contracts
    found = list(_twice(((f"spec.contracts[{at}].id", c.id) for at, c in enumerate(contracts)), "contract"))
    for at, contract in enumerate(contracts):
        path = f"spec.contracts[{at}]"
        found += _holder(document, contract, path)
        found += _names(contract, path)
        for number, clause in enumerate(contract.clauses):
            found += _clause(document, contract, clause, f"{path}.clauses[{number}]")
    return found + list(_rivals(document))


def _twice(named: Iterable[tuple[str, str]], what: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, name in named:
        if name in seen:
            yield Problem(path, f"the {what} id {name} is used twice", "Give each its own", "duplicate_id")
        seen.add(name)


def _holder(document: ContractSet, contract: ContractDocument, path: str) -> Iterator[Problem]:
    known = document.spec.providers
    if contract.holder is not None and known and contract.holder not in known:
        remedy = f"Name one of {', '.join(known)}, or describe it under spec.providers"
        yield Problem(f"{path}.holder", f"{contract.holder} is no known provider", remedy, "unknown_holder")


def _names(contract: ContractDocument, path: str) -> Iterator[Problem]:
    ids = [clause.id for clause in contract.clauses]
    yield from _twice(((f"{path}.clauses[{at}].id", name) for at, name in enumerate(ids)), "clause")
    for at, end in enumerate(contract.ends_on):
        for number, name in enumerate(end.clauses or ()):
            if name not in ids:
                where = f"{path}.endsOn[{at}].clauses[{number}]"
                yield Problem(where, f"{name} is no clause here", f"Name one of {', '.join(ids)}", "unknown_clause")


def _clause(document: ContractSet, contract: ContractDocument, clause: ClauseDocument, path: str) -> Iterator[Problem]:
    if isinstance(clause, _OF_A_HOLDER) and contract.holder is None:
        remedy = "Name the contract's holder; only price and residency go without"
        yield Problem(path, "nobody holds it", remedy, "no_holder")
    exempts = ((f"{path}.exempt[{at}].id", exempt.id) for at, exempt in enumerate(clause.exempt))
    yield from _twice(exempts, "exemption")
    if isinstance(clause, FirstRightDocument):
        yield from _first_right(clause, path)
    if isinstance(clause, PriceDocument) and document.spec.providers:
        for at, name in enumerate(clause.mfc_comparators):
            if name not in document.spec.providers:
                where = f"{path}.mfcComparators[{at}]"
                yield Problem(where, f"{name} is no known provider", "Describe it first", "unknown_provider")


def _first_right(clause: FirstRightDocument, path: str) -> Iterator[Problem]:
    if clause.basis == "best_quote" and clause.stage == "before_market":
        remedy = "Set stage: after_quotes, or basis: requirement"
        yield Problem(f"{path}.basis", "before the market there is no quote", remedy, "best_quote_before_market")
    if clause.window < clause.min_window:
        reason = f"the window of {clause.window} ms is shorter than minWindow, {clause.min_window} ms"
        yield Problem(f"{path}.window", reason, "Lengthen window or shorten minWindow", "window_too_short")
    if clause.rounds is not None and clause.stage != "after_final":
        remedy = "Set stage: after_final, or remove rounds"
        yield Problem(f"{path}.rounds", "only final quotes have rounds", remedy, "rounds_without_after_final")
    if clause.on_outage == "bridge" and clause.bridge_max is None:
        remedy = "Add bridgeMax, as in 6h"
        yield Problem(f"{path}.onOutage", "a bridge must end some time", remedy, "bridge_without_bridge_max")


def _rivals(document: ContractSet) -> Iterator[Problem]:
    """Pairs of clauses of different holders that would both be first for some job at some moment."""
    rights = [
        (f"spec.contracts[{at}].clauses[{number}]", contract, clause)
        for at, contract in enumerate(document.spec.contracts)
        for number, clause in enumerate(contract.clauses)
        if contract.status != "draft" and isinstance(clause, ExclusiveDocument | FirstRightDocument)
    ]
    for (_, one_of, one), (path, other_of, other) in combinations(rights, 2):
        apart = one_of.term.to < other_of.term.from_ or other_of.term.to < one_of.term.from_
        if one_of.holder == other_of.holder or type(one) is not type(other) or apart:
            continue
        equal = not isinstance(one, FirstRightDocument) or one.rank == getattr(other, "rank", None)
        if equal and selects_overlap(one.select, other.select):
            yield _clash(path, f"{one_of.id}/{one.id} of {one_of.holder}", one)


def _clash(path: str, rival: str, clause: ExclusiveDocument | FirstRightDocument) -> Problem:
    if isinstance(clause, ExclusiveDocument):
        remedy = "Narrow a select or a term until no job is in both"
        return Problem(path, f"it overlaps the exclusive {rival}", remedy, "overlapping_exclusives")
    remedy = "Give them different ranks, or narrow a select or a term"
    return Problem(path, f"it has the rank of {rival}, for the same jobs", remedy, "equal_rank_first_rights")


def selects_overlap(one: SelectDocument, other: SelectDocument) -> bool:
    """Whether some job could be selected by both."""
    shared = one.labels.keys() & other.labels.keys()
    return (
        _meet(one.job_class, other.job_class)
        and _meet(one.trigger, other.trigger)
        and _meet(one.residency, other.residency)
        and _cross(one.gpus, other.gpus)
        and _cross(one.gpu_hours, other.gpu_hours)
        and all(_meet(one.labels[key], other.labels[key]) for key in shared)
    )


def _meet(one: Iterable[object] | None, other: Iterable[object] | None) -> bool:
    return one is None or other is None or bool(set(one) & set(other))


def _cross(one: object, other: object) -> bool:
    """Whether two ranges share a number; None is any."""
    low = max(getattr(one, "gte", None) or 0, getattr(other, "gte", None) or 0)
    highs = [high for high in (getattr(one, "lt", None), getattr(other, "lt", None)) if high is not None]
    return not highs or bool(low < min(highs))
