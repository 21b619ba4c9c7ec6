"""How much of a job does a block of owned capacity take, and on what terms? A divisible one may be divided for it."""

from __future__ import annotations

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from orchestrator.core.capacity import agreed, fits, in_part, least_of, most_in, narrowed, placed_in
from orchestrator.core.eligibility import compile_rules
from orchestrator.model.capacity import Block
from orchestrator.model.contract import Trigger
from orchestrator.model.placement import Rules, Shape, Terms, terms_hash
from tests.core.contract_worlds import HOUR, NOON, contract, shape, world

EIGHT = shape(gpus_per_worker=2, workers=8, min_workers=1, pieces=8)
ELASTIC = shape(gpus_per_worker=2, workers=8, min_workers=1)
BLOCK = Block(name="b", provider="azure", accelerator="H100", gpus=12, region="eastus", from_us=NOON,
              until_us=NOON + 1000 * HOUR, price=2_000_000)  # fmt: skip


def in_block(of: Shape, clause: str = "type: first_right, window: 15m") -> Rules:
    """What holds in the block, under one clause of azure's."""
    contracts, providers = world(contract(clause))
    return agreed(compile_rules(contracts, narrowed(providers, BLOCK), placed_in(of, BLOCK), NOON), BLOCK)


def terms_at(rules: Rules, provider: str) -> Terms:
    (found,) = (c.terms for c in rules.candidates if c.provider == provider)
    return found


@pytest.mark.parametrize(
    ("of", "gpus", "most"),
    [
        (EIGHT, 17, 8), (EIGHT, 16, 8), (EIGHT, 15, 7), (EIGHT, 2, 1), (EIGHT, 1, 0), (EIGHT, 0, 0), (EIGHT, -4, 0),
        (ELASTIC, 16, 8), (ELASTIC, 15, 0),
        (EIGHT.sized(6), 12, 6), (EIGHT.sized(6), 11, 0),
        (EIGHT.left_by(6), 2, 1), (EIGHT.left_by(7), 2, 1), (EIGHT.left_by(7), 1, 0),
        (EIGHT.triggered(Trigger.REPLACE), 15, 0),
    ],
)  # fmt: skip
def test_whole_workers_of_what_may_be_divided_and_all_or_nothing_of_anything_else(of, gpus, most) -> None:
    assert most_in(of, gpus) == most


@pytest.mark.parametrize(
    ("of", "yes"),
    [(EIGHT, True), (ELASTIC, False), (EIGHT.sized(6), True), (EIGHT.sized(7), False),
     (EIGHT.triggered(Trigger.REPLACE), False), (replace(EIGHT, gpus_per_worker=13), False),
     (replace(EIGHT, gpus_per_worker=0), False), (replace(EIGHT, accelerators=("B200",)), False)],
)  # fmt: skip
def test_a_block_that_is_smaller_than_the_job_fits_only_what_may_be_divided(of, yes) -> None:
    assert fits(BLOCK, of, HOUR // 1000, NOON) is yes


@pytest.mark.parametrize(
    ("most", "least", "says"),
    [
        (6, 1, (1, 6, True)), (6, 4, (4, 6, True)), (6, 6, (6, 6, True)), (1, 1, (1, 1, True)),
        (8, 1, (1, 8, True)), (8, 4, (4, 8, True)), (8, 8, (8, 8, False)),
    ],
)  # fmt: skip
def test_the_block_s_provider_alone_is_offered_what_fits_and_no_less_than_the_least(most, least, says) -> None:
    made = in_part(in_block(EIGHT), BLOCK, most, least)
    terms = terms_at(made, "azure")
    assert (terms.fewest, terms.workers, terms.divisible) == says
    assert (terms.min_workers is UNSET) is not terms.divisible
    assert terms.ceiling_microusd == 2_000_000 and terms_hash(terms) == made.candidates[0].terms_hash
    assert terms_at(made, "oracle") == terms_at(in_block(EIGHT), "oracle")


def test_a_first_right_to_what_is_owned_says_the_least_too_and_its_own_block_is_offered_in_part() -> None:
    owned = in_block(EIGHT, "type: first_right, window: 15m, select: {trigger: [owned]}, partial: {minGpus: 9}")
    assert (least_of(owned, in_block(EIGHT)), least_of(in_block(EIGHT)), least_of()) == (5, 1, 1)
    made = in_part(owned, BLOCK, 6, 5)
    assert [(g.terms.fewest, g.terms.workers) for g in made.gates] == [(5, 6)]


def test_a_clause_is_about_the_part_if_it_is_about_the_whole() -> None:
    owned = in_block(EIGHT, "type: exclusive, select: {gpus: {gte: 16}}")
    made = in_part(owned, BLOCK, 6, 1)
    assert made.only == "azure" and made.shape.workers == 8
