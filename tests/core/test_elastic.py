"""The sizes of an elastic job: which of them clauses look at, what an offer says, how many a provider takes."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.core.clauses import may_select, selects
from orchestrator.core.ranking import better
from orchestrator.model.contract import Range, Select
from orchestrator.model.documents.job import job_from, shape_of
from orchestrator.model.placement import Shape, largest, parse_shape, shape_bytes, terms_bytes, terms_hash
from orchestrator.testing.builders import some_terms
from tests.core.contract_worlds import shape

ELASTIC = shape(gpus_per_worker=4, workers=8, min_workers=2)
TERMS = some_terms(workers=8, min_workers=2)


def of_document(count: object) -> Shape:
    spec = {"run": {"command": ["a"]}, "workers": {"count": count, "gpus": 4}}
    return shape_of(job_from({"metadata": {}, "spec": spec}))


def test_a_range_of_one_size_is_that_size() -> None:
    assert of_document({"min": 3, "max": 3}) == of_document(3)
    assert (of_document({"min": 2, "max": 8}).fewest, of_document({"min": 2, "max": 8}).workers) == (2, 8)


def test_terms_and_shapes_of_one_size_do_not_mention_a_range() -> None:
    assert b"minWorkers" in terms_bytes(TERMS) and b"minWorkers" not in terms_bytes(some_terms())
    assert b"min_workers" in shape_bytes(ELASTIC) and b"min_workers" not in shape_bytes(shape())
    assert parse_shape(shape_bytes(ELASTIC)) == ELASTIC
    assert terms_hash(TERMS) != terms_hash(some_terms(workers=8))


@pytest.mark.parametrize(
    ("gte", "lt", "some", "every"),
    [(33, None, False, False), (32, None, True, False), (8, None, True, True), (None, 8, False, False),
     (None, 9, True, False), (None, 32, True, False), (None, 33, True, True), (16, 17, True, False)],
)  # fmt: skip
def test_a_clause_is_about_any_size_and_only_what_selects_all_exempts(
    gte: int | None, lt: int | None, some: bool, every: bool
) -> None:
    select = msgspec.structs.replace(Select(), gpus=Range(gte, lt))
    assert (may_select(select, ELASTIC), selects(select, ELASTIC)) == (some, every)


@pytest.mark.parametrize(
    ("now", "then", "smaller"),
    [((2, 8), (2, 8), False), ((2, 4), (2, 8), False), ((4, 8), (2, 4), False), ((1, 8), (2, 8), True),
     ((2, 2), (2, 8), False), ((8, 8), (2, 8), False), ((2, 8), (8, 8), True)],
)  # fmt: skip
def test_a_refusal_covers_every_size_from_its_least(now: tuple[int, int], then: tuple[int, int], smaller: bool) -> None:
    asked, refused = (some_terms(min_workers=least, workers=most) for least, most in (now, then))
    assert better(asked, refused) == (("quantity",) if smaller else ())


@pytest.mark.parametrize(("room", "taken"), [(7, None), (8, 2), (11, 2), (12, 3), (32, 8), (99, 8)])
def test_as_many_as_fit_are_taken(room: int, taken: int | None) -> None:
    found = largest(TERMS, lambda sized: sized.gpus <= room)
    assert (found and found.workers) == taken
    assert found is None or not found.elastic


def test_of_one_size_all_or_nothing_is_taken_and_looked_at_once() -> None:
    asked: list[int] = []
    one = some_terms(workers=4)
    assert largest(one, lambda sized: bool(asked.append(sized.workers)) or True) == one and asked == [4]
