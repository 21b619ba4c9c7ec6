"""Rules about who is put first to whoever has room, each broken. No sentence of the audit is about that order: nobody
is owed it by contract. So the table says "-" where sentences stand, and whoever noticed is the story of that line."""

from __future__ import annotations

from orchestrator.core.shapebook import urgency
from orchestrator.engine.lanes import ProviderLanes
from tests.mutants.swap import Swap, broken
from tests.mutants.table import Row
from tests.stories.urgency import LINES, order_in
from tests.stories.words import on_virtual_time

IN_LINE = {
    "order: priority is ignored": Swap(urgency, lambda shape: urgency(shape)[1:]),
    "order: age is ignored": Swap(urgency, lambda shape: urgency(shape)[::2]),
    "order: offers leave us as they came to the lane": Swap(ProviderLanes._ordinal, lambda self, effect: 0),
}


def row(rule: str) -> Row:
    """Live through every line with this rule broken."""
    with broken(IN_LINE[rule]):
        wrong = [line.name for line in LINES if on_virtual_time(order_in(line)) != line.order]
    return Row(rule, tuple((name, ()) for name in wrong), len(LINES))
