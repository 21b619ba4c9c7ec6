"""What does an event of the whole ledger change? The fold of the ledger's own row, beside that of jobs (`lifecycle`).

Called for every such event, in the engine before its commit and in the audit afterwards; never decides anything.
"""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.core.moves import IllegalMove
from orchestrator.model import event as ev
from orchestrator.model.job import LedgerRow

MAX_ABSENCES = 256
"""Windows last hours and absences are at least 15 s long, so older ones can no longer touch an open window."""
MAX_SWEPT = 1024
"""Only to say a key once; forgetting one says it again."""


def fold_ledger(row: LedgerRow, at: int, event: ev.AnyEvent) -> LedgerRow:
    """The ledger's own row after an event of the whole ledger."""
    match event:
        case ev.Led(term=term):
            if term <= row.term:
                raise IllegalMove(f"term {term} after term {row.term}")
            return replace(row, term=term)
        case ev.ControllerAbsent(since=since, until=until):
            return replace(row, absences=(*row.absences, (since, until))[-MAX_ABSENCES:])
        case ev.ContractInForce() | ev.ProvidersInForce() | ev.CapacityInForce():
            return _in_force(row, event)
        case ev.Swept(key=key):
            return replace(row, swept=(*row.swept, key)[-MAX_SWEPT:])
        case ev.Recorded(record=record):
            kept = {r.id: r for r in row.records if r.until is None or at < r.until}
            return replace(row, records=tuple((kept | {record.id: replace(record, at=at)}).values()))
        case ev.Restored(lost=lost):
            return replace(row, restored=at, lost=(*row.lost, (at, lost)) if lost else row.lost)
        case ev.LogsRead() if row.restored is not None:
            return replace(row, restored=None)
        case ev.HolderUnreachable(holder=holder):
            return replace(row, unreachable=(*_without(row, holder), (holder, at)))
        case ev.HolderReachable(holder=holder):
            return replace(row, unreachable=_without(row, holder))
        case _:
            raise IllegalMove(f"{ev.kind_of(event)} is not a move of the whole ledger here")


def _in_force(row: LedgerRow, event: ev.ContractInForce | ev.ProvidersInForce | ev.CapacityInForce) -> LedgerRow:
    """What was applied at a running server stays until its file says something else than it did then."""
    match event:
        case ev.ContractInForce(n=n, digest=digest, by=by):
            before = row.contract_digest if row.contract_file is None else row.contract_file
            return replace(row, contract=n, contract_digest=digest, contract_file=before if by else None)
        case ev.ProvidersInForce(n=n, digest=digest):
            return replace(row, providers=n, providers_digest=digest)
        case ev.CapacityInForce(blocks=blocks, by=by):
            said = row.blocks if row.blocks_file is None else row.blocks_file
            return replace(row, blocks=blocks, blocks_file=said if by else None)


def _without(row: LedgerRow, holder: str) -> tuple[tuple[str, int], ...]:
    return tuple(known for known in row.unreachable if known[0] != holder)
