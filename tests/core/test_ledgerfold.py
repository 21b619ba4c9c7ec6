"""The ledger's own row, by tables."""

from __future__ import annotations

import pytest

from orchestrator.core.ledgerfold import fold_ledger
from orchestrator.model import event as ev
from orchestrator.model.job import LedgerRow


@pytest.mark.parametrize(
    ("losses", "lost"), [((0,), ()), ((5,), ((1, 5),)), ((5, 7), ((1, 5), (2, 7))), ((5, 0), ((1, 5),))]
)
def test_what_restores_may_have_lost_is_kept_and_one_of_an_older_server_says_nothing(
    losses: tuple[int, ...], lost: tuple[tuple[int, int], ...]
) -> None:
    row = LedgerRow()
    for at, one in enumerate(losses, 1):
        row = fold_ledger(row, at, ev.Restored(one))
    assert (row.restored, row.lost) == (len(losses), lost)
