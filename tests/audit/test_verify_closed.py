"""A yes that its giver was told to have come too late: it accuses nobody of a lie, and is not passed over either."""

from __future__ import annotations

import json
from typing import Any

from tests.audit import told
from tests.audit.forged import export_of, without
from tests.audit.test_verify import as_file, exported, receipts, verified


def closed(kept: bytes, **changes: Any) -> bytes:
    """The same receipts, in which each answer was a yes, and was told to be closed."""
    lines = [json.loads(line) for line in kept.splitlines()]
    yes = {"accepted": True, "outcome": "closed", **changes}
    return b"".join(json.dumps(one | yes if one["line"] == "answer" else one).encode() + b"\n" for one in lines)


def test_a_yes_after_a_colleagues_no_is_not_checked_and_no_finding() -> None:
    v = verified(exported(told.lost), closed(receipts(told.lost, "azure")))
    assert (v.findings, v.unchecked["receipts"]) == ([], 2)


def test_what_had_counted_is_a_lie_as_ever() -> None:
    v = verified(exported(told.lost), closed(receipts(told.lost, "azure"), outcome="accepted"))
    assert {words for _, _, words in v.findings} == {"one side holds a yes, and the other a no"}


def test_one_that_came_inside_the_window_is_found_although_it_was_called_closed() -> None:
    forged = as_file(without(export_of(told.silence), "LateAnswer"))
    kept = receipts(told.silence, "azure")
    begun = json.loads(kept.splitlines()[0])["at"]
    assert any("holds no answer" in words for _, _, words in verified(forged, closed(kept, at=begun + 1)).findings)
