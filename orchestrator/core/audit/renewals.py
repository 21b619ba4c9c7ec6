"""Was nothing prolonged to which somebody else had a right? Sentence 44, from what was owned before and after.

Rights are weighed anew, by the contracts in force and by what was on record just before.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.audit.history import History, Unreadable, Withheld
from orchestrator.core.audit.lives import Seen
from orchestrator.core.audit.registry import Judge, of_ledger
from orchestrator.core.renewing import Facts, Renewal, bound, over, renewals
from orchestrator.model import event as ev
from orchestrator.model.capacity import Block
from orchestrator.model.placement import Freed


@of_ledger(
    44, "Owned capacity is prolonged only where no right of another is over it, or what is on record has freed that."
)
def prolonged_rightly(history: History, judge: Judge) -> None:
    """Judged for each block that is to last longer than the newest document before said, at the same size or less."""
    for seen, renewal in _prolonged(history):
        try:
            found = bound(_facts(history, seen), renewal)
        except Withheld:
            judge.withhold()
        except Unreadable as missing:
            judge(False, "", seen.seq, f"it cannot be judged: {missing}", sure=True)
        else:
            forbidden = "; ".join(one.reason for one in found)
            judge(not found, "", seen.seq, f"{renewal.block.ref} is prolonged: {forbidden}")


def overridden(history: History) -> Iterator[tuple[Seen, Freed]]:
    """Every right that was passed over so, because somebody answers for it."""
    for seen, renewal in _prolonged(history):
        try:
            rights = over(_facts(history, seen), renewal)
        except Unreadable:  # which the sentence says
            continue
        yield from ((seen, one.freed) for one in rights if one.freed is not None and one.freed.how == "override")


def _prolonged(history: History) -> Iterator[tuple[Seen, Renewal]]:
    owned: tuple[Block, ...] = ()
    for seen in history.ledger:
        if isinstance(seen.event, ev.CapacityInForce):
            yield from ((seen, renewal) for renewal in renewals(owned, seen.event.blocks, seen.at))
            owned = seen.event.blocks


def _facts(history: History, seen: Seen) -> Facts:
    return Facts(
        contracts=history.contracts(history.contract_at(seen.seq)),
        providers=history.providers(history.providers_at(seen.seq)),
        records=tuple(history.records_before(seen.seq)),
        down_us=history.unreachable(seen),
        now_us=seen.at,
    )
