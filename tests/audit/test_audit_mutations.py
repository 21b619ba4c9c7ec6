"""Which forgeries are noticed, and by which sentence: the mechanism behind the demo's golden table."""

from __future__ import annotations

from collections import defaultdict

from orchestrator.cli.audit import StoredDocuments, table_lines
from orchestrator.core.audit.forger import rehash
from orchestrator.core.audit.mutate import FORGERIES, mutate
from orchestrator.model.event import KINDS
from tests.audit import told
from tests.audit.forged import export_of
from tests.audit.told import STORIES

UNHEARD = {"ReclaimNoticed", "Reshaped", "Charged", "Swept"}
"""Kinds that none of the stories holds."""


def test_every_kind_is_noticed_by_a_sentence_that_does_not_read_hashes() -> None:
    noticed: dict[str, set[int]] = defaultdict(set)
    for story in STORIES:
        for outcome in mutate(export_of(story), StoredDocuments()):
            noticed[outcome.kind] |= set(outcome.by) - {17}
    assert {kind for kind, by in noticed.items() if not by} == set()
    assert set(KINDS) - set(noticed) <= UNHEARD


def test_what_is_not_noticed_says_why() -> None:
    table = list(mutate(export_of(told.lost), StoredDocuments()))
    assert [o.forgery for o in table if o.kind == "Intended"] == list(FORGERIES)
    assert all(": " in o.words or o.by for o in table)
    assert table_lines(o for o in table if (o.kind, o.forgery) == ("Ended", "duplicate")) == [
        "Ended             duplicate  4, 18, 36"
    ]


def test_hashing_anew_changes_nothing_of_an_honest_ledger() -> None:
    honest = export_of(told.lost)
    assert rehash(honest, honest.events) == honest
