"""Could an outsider find a rewrite of this ledger? Sentence 39, and the bytes of an offer as they left us.

Every offer takes the ledger's head and its ordinal at its provider along, and the provider's receipt echoes both. What
the provider itself has kept is laid beside this by `orchestrator-verify`; here we judge that it will find no gap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import Seen
from orchestrator.core.audit.registry import Judge, of_ledger
from orchestrator.core.chain import genesis
from orchestrator.model import event as ev
from orchestrator.model.ids import offer_id
from orchestrator.model.offer import OfferOut


def bytes_out(job: str, job_class: str, terms: bytes, opened: ev.OfferOpened) -> bytes:
    """An offer as it left us, made anew from what the ledger holds of it."""
    out = OfferOut(
        offer=offer_id(job, opened.n), clause=opened.clause or None, contract_version=opened.contract,
        version=opened.version, workload=job_class, trigger=opened.trigger, terms=terms, terms_hash=opened.terms,
        window_us=opened.window, ledger_head=opened.head, ordinal=opened.ordinal,
    )  # fmt: skip
    return msgspec.json.encode(out)


@of_ledger(39, "A holder's receipts have no gap.")
def receipts_have_no_gap(history: History, judge: Judge) -> None:
    """Ordinals of a provider's offers are dense, numbers of a job's left out only after a restore; the head of each is
    where the chain ended before its commit, and receipts echo both. Offers of before there were any are numbered by
    their place, and not judged."""
    places = {genesis(history.export.ledger).hex(): 0, **{line.chain: line.seq for line in history.export.events}}
    unseen = [e.seq for e in history.export.events if e.kind == "OfferOpened" and e.body is None]
    last: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    proven = False
    for job, seen, opened in _opened(history):
        lost = _lost(history, job, seen)
        words = f"offer {opened.n} leaves {opened.unused} numbers out, and {lost} may have been lost"
        judge(opened.unused == lost, job, seen.seq, words, sure=not history.hides("", 0, seen.seq, "Restored"))
        before, since = last[opened.provider]
        proven = proven or bool(opened.head)
        if not proven:
            last[opened.provider] = (before + 1, seen.seq)
            continue
        missing = sum(since < seq < seen.seq for seq in unseen)  # redacted: to whom they went is not known here
        dense = before < opened.ordinal <= before + 1 + missing
        words = f"offer {opened.n} is number {opened.ordinal} to {opened.provider}, after number {before}"
        judge(dense, job, seen.seq, words, sure=True)
        head = places.get(opened.head, seen.seq)
        judge(
            head < seen.seq, job, seen.seq, f"offer {opened.n} took a head along that this ledger never had", sure=True
        )
        newest = all(line.at == seen.at for line in history.export.events[head : seen.seq - 1])
        judge(newest, job, seen.seq, f"offer {opened.n} took an old head along, of event {head}", sure=True)
        last[opened.provider] = (opened.ordinal, seen.seq)
    for life in history.lives.values():
        for seen, delivered in life.of(ev.OfferDelivered):
            words = f"the receipt of offer {delivered.n} echoes {delivered.echo}, which is not what left us"
            judge(delivered.echo is None, life.job, seen.seq, words, sure=True)


def _lost(history: History, job: str, offer: Seen) -> int:
    """How many offers of a job restores may have lost since its last one, or since it was taken in; what is left of a
    split job may have been that before."""
    life = history.lives[job]
    submitted = life.submitted
    begun = submitted.rest.since if submitted and submitted.rest else life.seen[0].at
    since = max([s.at for s, _ in life.of(ev.OfferOpened) if s.seq < offer.seq], default=begun)
    restored = ((s, s.event) for s in history.ledger if s.seq < offer.seq)
    return sum(e.lost for s, e in restored if isinstance(e, ev.Restored) and since < s.at)


def _opened(history: History) -> Iterator[tuple[str, Seen, ev.OfferOpened]]:
    """Every offer, in the ledger's order."""
    found = [(life.job, seen, e) for life in history.lives.values() for seen, e in life.of(ev.OfferOpened)]
    return iter(sorted(found, key=lambda one: one[1].seq))
