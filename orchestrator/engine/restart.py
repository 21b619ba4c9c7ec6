"""Where do we stand? The book as the ledger's live rows give it, and the first turn of a new leader.

Called once at start-up. Whatever was decided and not done is found again from the rows' effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from orchestrator.core.book import Book
from orchestrator.core.counters import offered
from orchestrator.core.failover import on_provider_down
from orchestrator.core.moves import FOR_A_PERSON, JOB_MOVES
from orchestrator.core.owning import on_owned
from orchestrator.core.recording import Labels, relabel
from orchestrator.core.rulebook import RuleBook
from orchestrator.core.scaling import to_be
from orchestrator.core.standing import active, open_offer
from orchestrator.core.totals import exempting
from orchestrator.core.turn import Turn
from orchestrator.engine.core import log
from orchestrator.engine.renewing import refuse_unrenewed
from orchestrator.engine.stranger import calling
from orchestrator.engine.wiring import Agreed, Wiring
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.contract import Contracts
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.job import TERMINAL, JobRow, JobState, LedgerRow, job_row, ledger_row
from orchestrator.model.offer import Capabilities
from orchestrator.model.placement import Shape, Terms, parse_shape, parse_terms
from orchestrator.ports.provider import Provider, ProviderError

PATIENCE_S = 5.0
"""How long a provider may take to state its capabilities before it counts as unreachable for now."""

ROWS = 1000
"""Rows in one read."""
RESHAPED = frozenset(state for state, moves in JOB_MOVES.items() if "Reshaped" in moves)


class Inconsistent(Exception):
    """The ledger lacks something that its own rows cite: restore it from a backup."""


async def in_force(wiring: Wiring) -> Agreed:
    """What decides from this start on: the server's own file, unless another set was applied since it took effect."""
    own = await _own_row(wiring)
    file = wiring.contracts.digest if wiring.contracts else ""
    if own.contract and own.contract_file == file:
        return wiring.agreed(await _document(wiring, own.contract_digest) if own.contract_digest else b"")
    return Agreed(wiring.contracts, wiring.contract_document, wiring.intake)


async def may_lead(wiring: Wiring) -> None:
    """Raises `DocumentError` where the server's file of owned capacity would be refused, were it to lead now."""
    own = await _own_row(wiring) if wiring.blocks else LedgerRow()
    if wiring.blocks != _said(own):
        rules = RuleBook((await in_force(wiring)).contracts, wiring.provider_set)
        _refuse_file(wiring, rules, own, wiring.clock.now_us())


def _refuse_file(wiring: Wiring, rules: RuleBook, own: LedgerRow, now: int) -> None:
    """As above: whoever is refused at a start has no server yet that takes in what the remedy puts on record."""
    how = "with the document of before" if _said(own) else "without --capacity"
    refuse_unrenewed(rules, own, wiring.blocks, now, f"; until then start the server {how}: what is in force stays so")


def _said(own: LedgerRow) -> tuple[Block, ...]:
    """What the file of the last server that led said is owned."""
    return own.blocks if own.blocks_file is None else own.blocks_file


async def _own_row(wiring: Wiring) -> LedgerRow:
    stored = await wiring.ledger.row("")
    return ledger_row(stored.body) if stored is not None else LedgerRow()


async def load_book(wiring: Wiring, contracts: Contracts | None, counters: Mapping[str, int]) -> Book:
    """The book as of the last commit, under the contracts that decide now; `counters` are the ledger's own of then.

    Raises `DocumentError` where a job that is not over has its run log in a store that is not there any more."""
    rows = await wiring.ledger.live_rows()
    own = next((ledger_row(r.body) for r in rows if r.job == ""), LedgerRow())
    book = Book(contracts, wiring.provider_set, own)
    book.head = (await wiring.ledger.head())[1]
    windows = {p.name: p.market_window_us for p in wiring.provider_set.providers}
    stated = await asyncio.gather(*(_capabilities(p) for p in wiring.providers.values()))
    for (name, _), capabilities in zip(wiring.providers.items(), stated, strict=True):
        book.add_provider(name, capabilities, windows.get(name, 60_000_000))
    jobs = [job_row(r.body) for r in rows if r.job]
    if problems := [_store_gone(name, jobs) for name in sorted({row.store for row in jobs} - {"", *wiring.stores})]:
        raise DocumentError(problems, "the providers file")
    for name in sorted({n for row in jobs for n in _in_touch_with(row)} - wiring.providers.keys()):
        book.add_provider(name, None, 0)
        book.mark(name, up=False, now=wiring.clock.now_us())
    for state in book.providers.values():
        state.offered = offered(counters, state.name)
    for holder, _ in own.unreachable:
        if holder in book.providers:  # until it answers, it has been away all the time
            book.mark(holder, up=False, now=wiring.clock.now_us())
    book.load(jobs, await _shapes(wiring, jobs), await _terms(wiring, jobs))
    if book.ledger.contract > 1 or exempting(book.rulebook.contracts):
        await _recount(wiring, book, jobs)
    return book


def _store_gone(name: str, jobs: list[JobRow]) -> Problem:
    those = [row.job for row in jobs if row.store == name]
    what = f"store {name!r} holds the run logs of jobs that are not over: {those[0]} and {len(those) - 1} more"
    return Problem("spec.stores", what, "Name it there, with the url that it had, until they are over", "store_gone")


async def _recount(wiring: Wiring, book: Book, live: list[JobRow]) -> None:
    """What was placed under exemptions, by jobs that are over too."""
    used = [row for row in [*live, *[row async for row in _over(wiring)]] if any(a.freed for a in row.attempts)]
    shapes = {**await _shapes(wiring, used), **book.known_shapes}
    book.rulebook.totals.recount(
        (row, attempt, shapes[row.shape]) for row in used for attempt in row.attempts if attempt.freed
    )


async def _over(wiring: Wiring) -> AsyncIterator[JobRow]:
    """Every job that is over, newest first."""
    before: str | None = None
    while page := await wiring.ledger.rows(None, TERMINAL, ROWS, before):
        for row in page:
            if row.job:
                yield job_row(row.body)
        before = page[-1].job


def _in_touch_with(row: JobRow) -> list[str]:
    """Providers at which something of the job is open or may run."""
    attempt, offer = active(row), open_offer(row)
    return [x.provider for x in (attempt, offer) if x is not None]


async def _capabilities(provider: Provider) -> Capabilities | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            with calling(provider):
                return await provider.capabilities()
    except (ProviderError, TimeoutError):
        return None


async def _shapes(wiring: Wiring, rows: Iterable[JobRow]) -> Mapping[str, Shape]:
    found = {}
    for digest in {digest for row in rows for digest in (row.shape, to_be(row))}:
        found[digest] = parse_shape(await _document(wiring, digest))
    return found


async def _terms(wiring: Wiring, rows: Iterable[JobRow]) -> Mapping[str, Terms]:
    cited: set[str] = set()
    for row in rows:
        cited.update(r.terms for r in row.refusals)
        if row.offer is not None:
            cited.add(row.offer.terms)
    return {digest: parse_terms(await _document(wiring, digest)) for digest in cited}


async def _document(wiring: Wiring, digest: str) -> bytes:
    body = await wiring.ledger.spec(digest)
    if body is None:
        raise Inconsistent(f"the ledger cites document {digest} and does not hold it")
    return body


async def relabelled(wiring: Wiring, book: Book, contracts: Contracts | None) -> Mapping[str, Labels]:
    """job → the labels that decisions see, where this contract set selects on other ones of it than its shape has.

    The one walk over all live jobs, and only when a set selects on labels that the one before it did not.
    """
    selected = contracts.labels if contracts else frozenset[str]()
    before = book.rulebook.contracts
    if before is contracts:  # a start: what was in force before it is not known, only whether it was the same
        same = (contracts.digest if contracts else "") == book.ledger.contract_digest
    else:
        same = selected == (before.labels if before else frozenset[str]())
    found: dict[str, Labels] = {}
    rows = [] if same else [row for row in book.jobs.values() if row.state in RESHAPED]
    for at in range(0, len(rows), ROWS):
        some = rows[at : at + ROWS]
        documents = await wiring.ledger.specs({row.spec for row in some})
        for row in some:
            if row.spec not in documents:
                raise Inconsistent(f"the ledger cites document {row.spec} and does not hold it")
            shape = book.known_shapes[row.shape]
            labels = shape.labelled(documents[row.spec], selected).labels
            if labels != shape.labels:
                found[row.job] = labels
    return found


def first_turn(
    turn: Turn, wiring: Wiring, agreed: Agreed, *, term: int, presence: int | None, labels: Mapping[str, Labels]
) -> None:
    """Say who leads, how long nobody did, what is in force (but for `own_file`) and who is seen otherwise."""
    own = turn.book.ledger
    if presence is not None and turn.now - presence > wiring.pace.absent_after:
        turn.emit_ledger(ev.ControllerAbsent(presence, turn.now))
    turn.emit_ledger(ev.Led(term))
    digest = agreed.contracts.digest if agreed.contracts else ""
    changed = False
    if digest != own.contract_digest or own.contract == 0:
        turn.emit_ledger(ev.ContractInForce(own.contract + 1, digest))
        if digest:
            turn.documents[digest] = agreed.document
        changed = True
    if wiring.provider_set.digest != own.providers_digest:
        turn.emit_ledger(ev.ProvidersInForce(own.providers + 1, wiring.provider_set.digest))
        turn.documents[wiring.provider_set.digest] = wiring.provider_document
        changed = True
    relabel(turn, labels)
    for name in sorted(turn.book.providers.keys() - wiring.providers.keys()):
        _let_go(turn, name)
    if changed:
        for row in [r for r in turn.book.jobs.values() if r.state is JobState.HELD and r.reason not in FOR_A_PERSON]:
            turn.emit(row.job, ev.Resumed("change"))


def own_file(turn: Turn, wiring: Wiring, *, takes_over: bool) -> None:
    """The capacity that is owned by the server's file, where it says something else than the last leader's did.

    Raises `DocumentError` where it prolongs a block to which somebody else has a right; a server that takes the place
    of another leads without it, for else nobody would."""
    if wiring.blocks == _said(turn.book.ledger):
        return
    try:
        _refuse_file(wiring, turn.book.rulebook, turn.book.ledger, turn.now)
    except DocumentError as refused:
        if not takes_over:
            raise
        log.error(
            "the capacity file of this server is not applied: it leads with the capacity that is in force already",
            why=str(refused),
            remedy="apply it by `orchestrator capacity apply` once it may be; no server starts with it before",
        )
    else:
        on_owned(turn, wiring.blocks, "")


def _let_go(turn: Turn, provider: str) -> None:
    """The operator removed this provider: its offers are taken back; what runs there is unknown, and left alone."""
    for row in list(turn.book.jobs.values()):
        offer = open_offer(row)
        if offer is not None and offer.provider == provider:
            turn.emit(row.job, ev.OfferWithdrawn(offer.n, "provider_removed"))
    on_provider_down(turn, provider)
