"""`orchestrator-verify`: nothing counts as checked that could not fail; `--strict` says what was not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import orchestrator.verify as verifier
from orchestrator.core.audit.export import Export
from orchestrator.core.audit.redact import ForProvider
from tests.audit import told
from tests.audit.forged import again, edited, export_of, without
from tests.audit.test_audit_redacted import shown
from tests.audit.test_verify import as_file, exported, receipts, verified

LOST = shown(export_of(told.lost), ForProvider("azure"))
"""Offers 1 and 3 are azure's, 2 is coreweave's and 4 is oracle's: hidden from azure, that they were made is not."""

VISIBLE: list[tuple[str, Callable[[], Export]]] = [
    ("offer 3 ends, and was not open or not delivered", lambda: again(LOST, "OfferAnswered", 2)),
    ("offer 5 follows offer 1, and none is open", lambda: edited(LOST, "OfferOpened", 2, n=5)),
    ("offer 2 follows offer 1, and none is open", lambda: edited(LOST, "OfferOpened", 2, n=2)),
    ("offer 3 follows offer 1, and one is open", lambda: without(LOST, "OfferAnswered", 1)),
    ("offer 7 was never opened", lambda: edited(LOST, "OfferDelivered", 2, n=7)),
    ("offer 3 ends, and was not open or not delivered", lambda: without(LOST, "OfferOpened", 2)),
]


@pytest.mark.parametrize(("words", "forge"), VISIBLE, ids=[words for words, _ in VISIBLE])
def test_the_order_of_what_a_provider_is_shown_is_judged(words: str, forge: Callable[[], Export]) -> None:
    v = verified(as_file(forge()))
    assert words in [said for check, _, said in v.findings if check == "order"]


class But(ForProvider):
    """Somebody hides from azure that an offer was opened to it, and shows the rest."""

    def shows(self, job: str, body: Mapping[str, Any]) -> bool:
        return super().shows(job, body) and body["kind"] != "OfferOpened"


def test_what_hangs_on_a_hidden_offer_is_not_checked() -> None:
    v = verified(as_file(shown(export_of(told.lost), But("azure"))))
    assert not [words for check, _, words in v.findings if check == "order"]
    assert (v.checked["order"], v.unchecked["order"]) == (0, 4 + 2 * 2 + 2 * 2 + 2)


NOTHING, MINE = b"", receipts(told.lost, "azure")


@pytest.mark.parametrize(
    ("kept", "options", "code"),
    [
        (None, [], 3),
        (NOTHING, [], 3),
        (NOTHING, ["--provider", "nobody"], 3),
        (NOTHING, ["--provider", "azure"], 1),
        (MINE, [], 0),
        (MINE, ["--provider", "azure"], 0),
        (MINE, ["--provider", "nobody"], 1),
    ],
)
def test_what_was_not_checked_is_no_success_where_that_is_asked_for(
    tmp_path: Path, kept: bytes | None, options: list[str], code: int
) -> None:
    (export := tmp_path / "ledger.jsonl").write_bytes(exported(told.lost))
    if kept is not None:
        (tmp_path / "mine.jsonl").write_bytes(kept)
        options = [*options, "--receipts", str(tmp_path / "mine.jsonl")]
    assert verifier.main([str(export), *options, "--strict"]) == code
    assert verifier.main([str(export), *options]) == (code if code == 1 else 0)


def test_where_no_silence_was_taken_for_an_answer_nothing_is_left_unchecked(tmp_path: Path) -> None:
    (export := tmp_path / "ledger.jsonl").write_bytes(exported(told.held))
    (kept := tmp_path / "mine.jsonl").write_bytes(receipts(told.held, "azure"))
    assert verified(export.read_bytes()).checked["windows"] == 0
    assert verifier.main([str(export), "--receipts", str(kept), "--strict"]) == 0
