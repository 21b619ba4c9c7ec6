"""`orchestrator-verify --receipts`: what a provider answered, by what it has kept and by what the ledger says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.verify import Verifier
from tests.audit import told
from tests.audit.forged import edited, export_of, without
from tests.audit.test_verify import as_file, exported, receipts, verified

Line = dict[str, Any]
IN_TIME = "it was answered inside its window by the provider's clock, and the ledger holds no answer in time"
OPPOSITE = "one side holds a yes, and the other a no"


def kept(story: Callable[..., Any], answered: Callable[[Line], Line | None]) -> bytes:
    """What azure has, with its answers told otherwise, or not at all."""
    lines = map(json.loads, receipts(story, "azure").splitlines())
    told_so = (answered(line) if line["line"] == "answer" else line for line in lines)
    return b"".join(json.dumps(line).encode() + b"\n" for line in told_so if line is not None)


def in_time(line: Line) -> Line:
    return {**line, "at": line["at"] - 600_000_000}


def said(v: Verifier) -> list[str]:
    return [words for check, _, words in v.findings if check == "receipts"]


def test_an_answer_that_the_provider_has_not_kept_is_not_checked() -> None:
    """The ledger says azure declined, twice; whoever answers by hand may keep the offers alone."""
    v = verified(exported(told.lost), kept(told.lost, lambda line: None))
    assert (v.findings, v.unchecked["receipts"]) == ([], 2)


def test_an_answer_in_time_that_is_called_late_is_found() -> None:
    v = verified(exported(told.silence), kept(told.silence, in_time))
    assert said(v) == [IN_TIME]


def test_one_that_was_given_by_hand_is_not_checked_for_its_time() -> None:
    """People keep an offer when they first look at it, and its window began before."""
    by_hand = as_file(edited(export_of(told.silence), "LateAnswer", by="azure-sales"))
    v = verified(by_hand, kept(told.silence, in_time))
    assert (v.findings, v.unchecked["receipts"]) == ([], 1)


def test_an_answer_in_time_to_an_offer_whose_holder_was_out_of_reach_is_late_all_the_same() -> None:
    assert verified(exported(told.unheard), receipts(told.unheard, "azure")).findings == []
    dropped = as_file(without(export_of(told.unheard), "LateAnswer"))
    assert said(verified(dropped, receipts(told.unheard, "azure"))) == [IN_TIME]


@pytest.mark.parametrize(("recorded", "kept_is"), [(False, True), (True, False)])
def test_a_yes_to_something_else_is_not_checked_and_a_no_is_none(recorded: bool, kept_is: bool) -> None:
    """To what a yes was is in no receipt. That a no was one to something else is no excuse for a yes."""
    lines = kept(told.lost, lambda line: {**line, "accepted": kept_is and line["offer"].endswith("-o3")})
    v = verified(as_file(edited(export_of(told.lost), "OfferAnswered", 2, accepted=recorded, reason="counter")), lines)
    assert (said(v), v.unchecked["receipts"]) == ([OPPOSITE] * recorded, int(kept_is))
