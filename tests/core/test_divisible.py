"""Divisible jobs: what a document says, what is left of shapes and terms, how little anybody may take."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from orchestrator.core.answers import counter, taken
from orchestrator.core.clauses import may_select, selects
from orchestrator.core.eligibility import compile_rules
from orchestrator.model.contract import Range, Select, Trigger
from orchestrator.model.documents import DocumentError, job_bytes, job_from, job_from_bytes, unhonoured
from orchestrator.model.documents.job import shape_of
from orchestrator.model.ids import is_job_id, rest_id
from orchestrator.model.offer import Answer, Reason
from orchestrator.model.placement import Rules, Shape, parse_shape, shape_bytes, terms_bytes, terms_hash
from tests.core.contract_worlds import NOON, contract, shape, world

EIGHT = shape(gpus_per_worker=2, workers=8, min_workers=1, pieces=8)


def ruled(of: Shape, least: int | None = None) -> Rules:
    """Under a first right of azure, whose least part is of so many GPUs."""
    part = f", partial: {{minGpus: {least}}}" if least else ""
    return compile_rules(*world(contract(f"type: first_right, window: 15m{part}")), of, NOON)


def document(**spec: Any) -> Any:
    return job_from({"spec": {"run": {"command": ["a"]}, **spec}})


def test_a_document_says_how_many_pieces_there_are() -> None:
    job = document(divisible=True, workers={"count": 8, "gpus": 2})
    found = shape_of(job)
    assert (found.workers, found.fewest, found.pieces, found.divisible) == (8, 1, 8, True)
    assert unhonoured(job) == [] and job_from_bytes(job_bytes(job)) == job


@pytest.mark.parametrize(
    ("count", "why"), [(1, "one worker is one piece"), ({"min": 2, "max": 4}, "count is a range"), (None, "one worker")]
)
def test_one_piece_or_a_range_is_refused_with_the_reason(count: Any, why: str) -> None:
    with pytest.raises(DocumentError, match=why) as caught:
        document(divisible=True, workers={} if count is None else {"count": count})
    assert [problem.path for problem in caught.value.problems] == ["spec"]


def test_a_shape_that_is_not_divisible_has_the_bytes_that_it_had() -> None:
    assert b"pieces" not in shape_bytes(shape()) and not shape().divisible
    assert parse_shape(shape_bytes(EIGHT)) == EIGHT


@pytest.mark.parametrize(
    ("of", "took", "left"),
    [
        (EIGHT, 3, (5, 1)),
        (EIGHT, 7, (1, UNSET)),
        (replace(EIGHT, min_workers=4), 5, (3, UNSET)),
        (replace(EIGHT, min_workers=2), 5, (3, 2)),
    ],
)
def test_what_is_left_is_as_divisible_as_its_size_lets_it(of: Shape, took: int, left: tuple[Any, Any]) -> None:
    found = of.left_by(took)
    assert (found.workers, found.min_workers, found.pieces) == (*left, 8)


def test_a_job_that_has_run_is_divided_no_more_and_an_elastic_one_keeps_its_range() -> None:
    assert EIGHT.triggered(Trigger.REPLACE).min_workers is UNSET
    assert EIGHT.triggered(Trigger.OWNED).min_workers == 1
    assert shape(workers=4, min_workers=2).triggered(Trigger.REPLACE).min_workers == 2


@pytest.mark.parametrize(
    ("least", "fewest"), [(None, 1), (1, 1), (2, 1), (3, 2), (8, 4), (15, UNSET), (16, UNSET), (99, UNSET)]
)
def test_the_least_part_is_the_same_for_the_holder_and_for_all_others(least: int | None, fewest: Any) -> None:
    rules = ruled(EIGHT, least)
    terms = [one.terms for one in (*rules.candidates, *rules.gates)]
    assert [(t.min_workers, t.divisible) for t in terms] == [(fewest, fewest is not UNSET)] * 3


def test_the_least_of_a_job_without_gpus_is_all_of_it_and_of_an_elastic_one_its_own() -> None:
    for one, fewest in ((replace(EIGHT, gpus_per_worker=0), UNSET), (replace(EIGHT, pieces=UNSET), 1)):
        assert ruled(one, 1).candidates[0].terms.min_workers == fewest


def test_terms_of_one_size_say_nothing_of_parts() -> None:
    terms = ruled(EIGHT).candidates[0].terms
    assert b'"divisible":true' in terms_bytes(terms) and b"divisible" not in terms_bytes(terms.sized(3))
    assert terms_hash(terms.left_by(3)) == ruled(EIGHT.left_by(3)).candidates[0].terms_hash


@pytest.mark.parametrize(
    ("workers", "wrong", "took"),
    [(None, None, 8), (8, None, 8), (3, None, 3), (1, Reason.COUNTER, 1), (9, Reason.COUNTER, 9)],
)
def test_a_yes_takes_a_part_that_is_large_enough(workers: int | None, wrong: Reason | None, took: int) -> None:
    terms = ruled(EIGHT, 4).candidates[0].terms
    yes = Answer(offer="o", accepted=True, terms_hash="h", workers=workers)
    assert (counter(yes, "h", terms), taken(yes, terms)) == (wrong, took)


@pytest.mark.parametrize(
    ("bounds", "some", "every"),
    [
        (Range(gte=16), True, False),
        (Range(lt=16), True, False),
        (Range(lt=17), True, True),
        (Range(gte=17), False, False),
        (Range(gte=6, lt=7), True, False),
    ],
)
@pytest.mark.parametrize("part", [EIGHT, EIGHT.sized(3)])
def test_a_part_is_as_large_as_itself_and_as_the_whole(part: Shape, bounds: Range, some: bool, every: bool) -> None:
    select = Select(gpus=bounds)
    assert (may_select(select, part), selects(select, part)) == (some, every)


def test_what_is_left_is_named_by_the_offer_and_the_moment() -> None:
    offer = "01KDVDNA009M3JSP5YDYFP42E2-o1"
    made = rest_id(offer, 1_767_225_600_000_000)
    assert is_job_id(made) and made == rest_id(offer, 1_767_225_600_000_000)
    assert made != rest_id("01KDVDNA009M3JSP5YDYFP42E2-o2", 1_767_225_600_000_000)
