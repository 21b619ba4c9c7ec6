"""Which parts of a contract set does this release treat as absent, and for which jobs would they matter?

Called by `compile`. A part is listed with its path, so that `serve`, `check` and `explain` can refuse
the set, and with its select, so that `contracts test` can say which cases it would have decided. When a
part becomes enforced, its line here goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.model.contract import NotEnforced, Part, Select
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
from orchestrator.model.documents.compiling import select_of, term_of
from orchestrator.model.documents.contracts import ContractDocument, ContractSet

_WHOLE: tuple[tuple[type[ClauseDocument], Part, str], ...] = (
    (Precedence, Part.PRECEDENCE, "precedence of one supplier"),
    (Commit, Part.COMMIT, "a committed spend"),
    (Share, Part.SHARE, "a share of the volume"),
)

_EXEMPTING = (ExclusiveDocument, FirstRightDocument)


class _Found(NamedTuple):
    path: str
    part: Part
    what: str
    narrower: SelectDocument | None = None


def not_enforced(document: ContractSet) -> tuple[NotEnforced, ...]:
    """Every such part of the contracts that are no drafts, in the order of the document."""
    return tuple(
        part
        for at, contract in enumerate(document.spec.contracts)
        if contract.status != "draft"
        for part in _of_contract(contract, f"spec.contracts[{at}]")
    )


def _of_contract(contract: ContractDocument, path: str) -> Iterator[NotEnforced]:
    for number, clause in enumerate(contract.clauses):
        for found in _of_clause(clause, f"{path}.clauses[{number}]"):
            yield _part(contract, clause, found)


def _part(contract: ContractDocument, clause: ClauseDocument, found: _Found) -> NotEnforced:
    from_us, until_us = term_of(contract.term)
    return NotEnforced(
        ref=f"{contract.id}/{clause.id}",
        contract=contract.id,
        from_us=from_us,
        until_us=until_us,
        select=select_of(clause.select),
        path=found.path,
        what=found.what,
        part=found.part,
        holder=contract.holder,
        narrower=select_of(found.narrower) if found.narrower else Select(),
    )


def _of_clause(clause: ClauseDocument, path: str) -> Iterator[_Found]:
    for kind, part, what in _WHOLE:
        if isinstance(clause, kind):
            yield _Found(path, part, what)
    for at, exempt in enumerate(() if isinstance(clause, _EXEMPTING) else clause.exempt):
        what = f"an exemption from a clause that is no right, {exempt.id}"
        yield _Found(f"{path}.exempt[{at}]", Part.EXEMPT, what, exempt.select)
    if isinstance(clause, FirstRightDocument):
        yield from _of_first_right(clause, path)
    if isinstance(clause, PriceDocument) and clause.mfc_max_ratio is not None:
        yield _Found(f"{path}.mfcMaxRatio", Part.MOST_FAVOURED, "a most-favoured-customer ratio")
    elif isinstance(clause, PriceDocument) and (clause.remedy or clause.mfc_comparators):
        where = "remedy" if clause.remedy else "mfcComparators"
        yield _Found(f"{path}.{where}", Part.MOST_FAVOURED, "a most-favoured-customer remedy")


def _of_first_right(clause: FirstRightDocument, path: str) -> Iterator[_Found]:
    right = Part.FIRST_RIGHT
    rows = (
        (clause.stage != "before_market", "stage", right, f"the stage {clause.stage}"),
        (clause.basis != "requirement", "basis", right, f"the basis {clause.basis}"),
        (clause.rounds is not None, "rounds", right, "rounds of final quotes"),
        (clause.match_margin_pct is not None, "matchMarginPct", right, "a matching margin"),
        (bool(clause.disclose), "disclose", right, "disclosure of quotes"),
        (clause.on_outage == "bridge", "onOutage", Part.BRIDGE, "a bridge over an outage"),
    )
    yield from (_Found(f"{path}.{key}", part, what) for given, key, part, what in rows if given)
