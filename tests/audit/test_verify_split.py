"""`orchestrator-verify` on jobs that were split: whose no a part may name, and what who took another is told."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.core.audit.export import Export
from orchestrator.core.audit.forger import rehash
from orchestrator.core.audit.redact import ForProvider
from tests.audit import told
from tests.audit.forged import edited, export_of, place
from tests.audit.test_verify import as_file, exported, receipts, verified

STRANGERS = export_of(told.strangers)


def body(kind: str, nth: int, export: Export = STRANGERS) -> dict[str, Any]:
    return dict(json.loads(export.events[place(export, kind, nth)].body or ""))


FIRST = body("Split", 0)["rest"]
"""What was left of the first job."""
DECLINED = ["agreement/rofr", "azure", "declined", body("Submitted", 1)["rest"]["refused"][0]["job"] + "-o1"]
"""The gate that azure's no to the whole first job has opened for the first of them."""


def said(export: Export) -> list[str]:
    return [words for _, _, words in verified(as_file(export)).findings]


def test_the_no_to_the_whole_passes_the_gate_of_what_was_left_of_it() -> None:
    assert said(STRANGERS) == [] and body("Intended", 1)["gates"] == [DECLINED]


def test_a_no_to_another_job_passes_none() -> None:
    forged = edited(STRANGERS, "Intended", 3, gates=[DECLINED])
    assert said(forged) == [f"epoch 1 passes agreement/rofr: azure never declined offer {DECLINED[3]}"]


def test_who_is_left_of_an_offer_is_said_by_its_split_and_not_by_itself() -> None:
    claims = {**body("Submitted", 3)["rest"], "offer": body("Submitted", 1)["rest"]["offer"]}
    forged = edited(edited(STRANGERS, "Submitted", 3, rest=claims), "Intended", 3, gates=[DECLINED])
    assert f"epoch 1 passes agreement/rofr: azure never declined offer {DECLINED[3]}" in said(forged)


def test_a_no_that_came_after_the_split_was_to_the_part_and_not_to_the_whole() -> None:
    events = list(STRANGERS.events)
    late = events.pop(place(STRANGERS, "OfferAnswered", 0))
    came = next(n for n, e in enumerate(events) if e.job == FIRST)
    forged = rehash(STRANGERS, [*events[: came + 1], late, *events[came + 1 :]])
    assert f"epoch 1 passes agreement/rofr: azure never declined offer {DECLINED[3]}" in said(forged)


def test_who_took_the_part_is_named_by_the_offer_that_was_split() -> None:
    """Azure took a part of the second job; the first was split by another's yes."""
    for gate in (["agreement/rofr", "azure", "split", DECLINED[3]], ["agreement/rofr", "oracle", "split", 1]):
        assert any("never split" in words for words in said(edited(STRANGERS, "Intended", 1, gates=[gate])))


def test_whoever_took_a_part_is_not_told_of_the_rest() -> None:
    data = exported(told.divided, ForProvider("azure"))
    split = next(e for e in export_of(told.divided).events if e.kind == "Split")
    rest = json.loads(split.body or "")["rest"]
    bodies = [line["body"] for line in map(json.loads, data.splitlines()) if line["line"] == "event" and line["body"]]
    assert any('"workers":3' in body for body in bodies) and not any(rest in body for body in bodies)
    v = verified(data, receipts(told.divided, "azure"))
    assert v.findings == [] and v.hidden[split.job] > 0
