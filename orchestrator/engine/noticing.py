"""What should somebody who looks at a job know that its row does not say? Sentences, for a desk's readers.

Called by `ReadingDesk`, and by `EngineDesk` with what only who leads knows. Looks only where something may be wrong: a
residency that limits nothing, a run log that cannot be read, a size for which what runs is about to stop, or one that
nobody knows any more for which it did; machines that are not there yet, a provider that does not answer. Decides
nothing and writes nothing down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.core.eligibility import limits_nothing
from orchestrator.core.foreseeing import to_come
from orchestrator.core.numbers import clock
from orchestrator.core.reasons import why
from orchestrator.core.rulebook import RuleBook
from orchestrator.core.sentences import WARNED
from orchestrator.core.shapebook import ProviderBook
from orchestrator.core.sizes import stops
from orchestrator.core.standing import active
from orchestrator.engine.orders import store_of
from orchestrator.engine.storewatch import StoreWatch
from orchestrator.engine.wiring import Wiring
from orchestrator.model.contract import Contracts
from orchestrator.model.ids import launch_key
from orchestrator.model.job import TERMINAL, JobRow, LedgerRow
from orchestrator.model.placement import Warned, parse_shape, parse_terms


async def notices(wiring: Wiring, stores: StoreWatch | None, own: LedgerRow, row: JobRow) -> list[str]:
    """Of one job that is not over; `own`: what is in force."""
    if row.state in TERMINAL:
        return []
    found = [await _residency(wiring, own, row), *await _size_to_come(wiring, own, row), _size_lost(row)]
    if stores is not None and row.attempts:
        found.append(_unread(wiring, stores, row))
    return [notice for notice in found if notice]


def not_started(row: JobRow, waits: Mapping[str, str]) -> Iterable[str]:
    """Why its machines are not there yet. `waits`: what providers say of launches, by launch key."""
    attempt = active(row)
    if attempt is None or attempt.started_at is not None:
        return
    if said := waits.get(launch_key(row.job, attempt.epoch)):
        yield f"{attempt.provider} says of its machines: {said}"


def out_of_reach(names: Iterable[str], providers: Mapping[str, ProviderBook]) -> Iterable[str]:
    """Of those who may still have machines of a job that is over: who does not answer, or is not asked any more."""
    for name in names:
        state = providers.get(name)
        if state is None or not state.up:
            why = "does not answer" if state is not None else "is not in the providers file any more"
            yield f"{name} {why}: whether machines of it are left there is not known"


async def _residency(wiring: Wiring, own: LedgerRow, row: JobRow) -> str:
    document = await wiring.ledger.spec(row.shape)
    tag = parse_shape(document).residency if document is not None else None
    if tag is None:
        return ""
    if not limits_nothing(await _in_force(wiring, own), tag, wiring.clock.now_us()):
        return ""
    return f"spec.residency `{tag}`: {WARNED[Warned.UNKNOWN_RESIDENCY]}; the job may run anywhere"


async def _in_force(wiring: Wiring, own: LedgerRow) -> Contracts | None:
    agreed = await wiring.ledger.spec(own.contract_digest) if own.contract_digest else None
    return wiring.agreed(agreed or b"").contracts


async def _size_to_come(wiring: Wiring, own: LedgerRow, row: JobRow) -> list[str]:
    document = await wiring.ledger.spec(row.next.shape) if row.next is not None and stops(row) else None
    if document is None:
        return []
    rules = RuleBook(await _in_force(wiring, own), wiring.provider_set)
    for digest in {no.terms for no in row.refusals}:
        if (refused := await wiring.ledger.spec(digest)) is not None:
            rules.terms[digest] = parse_terms(refused)
    return to_come(rules, row, parse_shape(document), wiring.clock.now_us(), own)


def _size_lost(row: JobRow) -> str:
    """Where what ran was stopped for a size that this ledger has never heard of."""
    heard = row.size or row.next or all(attempt.why != "scaled" for attempt in row.attempts)
    return "" if heard else why("scale_lost")


def _unread(wiring: Wiring, stores: StoreWatch, row: JobRow) -> str:
    name = store_of(wiring, row).ref.name
    away = stores.away.get(name)
    if away is None:
        return ""
    said = f"its run log is out of reach since {clock(away.since)}: {away.why}"
    if not row.limit_ms:
        return said
    return f"{said}; if the job cannot read it either, it stops itself by {clock(away.since + row.limit_ms * 1000)}"
