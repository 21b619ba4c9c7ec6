"""A block of owned capacity took a part of a divisible job: who is asked for the rest is judged as if nobody had."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.cli.audit import StoredDocuments
from orchestrator.core.audit.export import Export
from orchestrator.core.audit.forger import rehash
from orchestrator.core.audit.verify import verify
from orchestrator.model.capacity import Block
from orchestrator.simulate.world import World, first_right
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Work
from orchestrator.testing.clock import STORY_BEGINS_US
from orchestrator.testing.scripts import Script
from tests.audit.forged import edited, export_of, place, without
from tests.audit.test_audit_sentences import of_other_terms, violated
from tests.audit.test_verify import as_file, verified
from tests.audit.told import YES, divide

OWNED = {"name": "b", "provider": "yves", "accelerator": "H100", "gpus": 6, "region": "eu-1",
         "from_us": STORY_BEGINS_US, "until_us": STORY_BEGINS_US + 86_400_000_000}  # fmt: skip


async def in_part() -> World:
    """Six of eight are offered in a block to yves, who takes four and holds the first right over what is left: its no
    to all of that lets the market have it."""
    yves = Script(offers=[do.Accepts(workers=4), do.Declines(for_s=300)])
    blocks = (Block(**OWNED),)  # type: ignore[arg-type]
    world = World({"oracle": YES, "yves": yves}, first_right("yves"), Work(steps=20), blocks=blocks)
    await divide(world)
    return world


HONEST = export_of(in_part)


def rest(**changes: Any) -> dict[str, Any]:
    """Where what is left comes from, told otherwise."""
    return {**json.loads(HONEST.events[place(HONEST, "Submitted", 1)].body or "")["rest"], **changes}


def part_taken() -> dict[str, Any]:
    """The part that yves took in the block, as a no of its to the rest."""
    opened = json.loads(HONEST.events[place(HONEST, "OfferOpened", 1)].body or "")
    split = HONEST.events[place(HONEST, "Split")]
    return {"n": 1, "provider": "yves", "clause": "agreement/rofr", "terms": opened["terms"], "how": "split",
            "at": split.at, "episode": 1, "reason": "capacity", "job": split.job}  # fmt: skip


def counted_as_refused() -> Export:
    return edited(HONEST, "Submitted", 1, rest=rest(refused=[part_taken()]))


def passed_by_the_part(export: Export) -> Export:
    """The holder is not asked about the rest."""
    return without(without(export, "OfferAnswered", 1), "OfferOpened", 1)


def without_the_rest() -> Export:
    """What yves left is nobody's: the job was never split."""
    split = HONEST.events[place(HONEST, "Split")]
    gone = json.loads(split.body or "")["rest"]
    return rehash(HONEST, [e for e in HONEST.events if e.job != gone and e is not split])


def owned(gpus: int) -> Export:
    return edited(HONEST, "CapacityInForce", blocks=[{**OWNED, "gpus": gpus}])


def offered(nth: int = 0, **changes: Any) -> Export:
    return edited(HONEST, "OfferOpened", nth, **changes)


FORGED: list[tuple[int, str, Callable[[], Export]]] = [
    (42, "the rest counts as refused by the block's provider", counted_as_refused),
    (1, "who took a part is passed by for that", lambda: passed_by_the_part(HONEST)),
    (1, "who took a part is said to have refused the rest", lambda: passed_by_the_part(counted_as_refused())),
    (40, "a part larger than its block was offered", lambda: owned(5)),
    (40, "a part larger than its block runs", lambda: owned(3)),
    (42, "what was not taken is dropped", without_the_rest),
    (42, "all was offered, and more is left", lambda: offered(most=None)),
    (43, "a part was offered of what is offered whole", lambda: offered(most=None)),
    (43, "room for more than was offered", lambda: offered(most=7)),
    (43, "room for all", lambda: offered(most=8)),
    (43, "room where no block is", lambda: offered(1, most=3)),
    (43, "fewer must be taken than clauses say", lambda: of_other_terms(HONEST, min_workers=2)),
]  # fmt: skip


def test_an_honest_ledger_is_clean_to_both_who_read_it() -> None:
    assert verify(HONEST, StoredDocuments()).findings == () and verified(as_file(HONEST)).findings == []
    told = [json.loads(e.body or "") for e in HONEST.events if e.kind == "OfferOpened"]
    assert [(e["provider"], e.get("block"), e.get("most")) for e in told] == [
        ("yves", "yves/b", 6), ("yves", None, None), ("oracle", None, None)
    ]  # fmt: skip


@pytest.mark.parametrize(("sentence", "forge"), [(s, f) for s, _, f in FORGED], ids=[f"{s} {w}" for s, w, _ in FORGED])
def test_a_forged_ledger_breaks_the_sentence(sentence: int, forge: Callable[[], Export]) -> None:
    forged = forge()
    assert sentence in violated(forged) and 17 not in violated(forged)


@pytest.mark.parametrize("most", [None, 5])
def test_a_reader_without_our_code_sees_that_the_parts_are_none_of_what_was_offered(most: int | None) -> None:
    findings = verified(as_file(edited(HONEST, "OfferOpened", most=most))).findings
    assert any("no parts of this yes" in words for _, _, words in findings)
