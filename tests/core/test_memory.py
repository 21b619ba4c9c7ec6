"""What a provider's answers to some jobs delay for others: tables of refusals that cover, and of rests."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.memory import FIRST_REST, LAST_REST, MOST_TERMS, Memory
from orchestrator.testing.builders import some_terms

S = 1_000_000


@pytest.mark.parametrize(("asks", "covered"), [
    ({}, True),
    ({"workers": 4}, True),
    ({"max_runtime_ms": 7_200_000}, True),
    ({"cpus": 16}, True),
    ({"workers": 1}, False),
    ({"gpus_per_worker": 2}, False),
    ({"max_runtime_ms": 60_000}, False),
    ({"accelerators": ("H100", "A100")}, False),
    ({"accelerators": ("A100",)}, False),
    ({"regions": ("eu-1", "eu-2")}, False),
    ({"residency": "eu"}, False),
    ({"memory": 1}, True),
])  # fmt: skip
def test_what_asks_no_less_is_refused_alike(asks: dict[str, Any], covered: bool) -> None:
    memory = Memory()
    memory.refuse(some_terms(), until=100 * S, now=0)
    assert memory.refused_until(some_terms(**asks), 50 * S) == (100 * S if covered else 0)


@pytest.mark.parametrize(("at", "covered"), [(0, True), (99, True), (100, False), (500, False)])
def test_a_refusal_is_good_until_its_end(at: int, covered: bool) -> None:
    memory = Memory()
    memory.refuse(some_terms(), until=100 * S, now=0)
    assert bool(memory.refused_until(some_terms(), at * S)) is covered


def test_of_several_refusals_the_longest_counts_and_the_newest_word_on_the_same_terms() -> None:
    memory = Memory()
    memory.refuse(some_terms(workers=1), until=300 * S, now=0)
    memory.refuse(some_terms(), until=200 * S, now=0)
    memory.refuse(some_terms(), until=100 * S, now=S)
    assert memory.refused_until(some_terms(), 2 * S) == 300 * S
    assert [until for _, until in memory.refused] == [300 * S, 100 * S]


def test_few_refusals_are_remembered_and_room_forgets_all() -> None:
    memory = Memory()
    for workers in range(1, 3 * MOST_TERMS):
        memory.refuse(some_terms(workers=workers), until=100 * S, now=0)
    assert len(memory.refused) == MOST_TERMS
    memory.room()
    assert memory.refused_until(some_terms(workers=99), S) == 0


@pytest.mark.parametrize(("failed", "rests"), [
    ("", False), ("a", False), ("aaaaaa", False), ("ab", False), ("abab", False), ("abc", True), ("aabbc", True),
    ("ab*c", False), ("abc*", False), ("a*b*c*", False), ("*abc", True),
])  # fmt: skip
def test_it_rests_after_several_jobs_in_a_row(failed: str, rests: bool) -> None:
    """A letter is a job whose launch failed, a star is a start."""
    memory = Memory()
    for word in failed:
        memory.start() if word == "*" else memory.fail(word, 7 * S)
    assert memory.rest_until == (7 * S + FIRST_REST if rests else 0)


def test_each_rest_is_twice_the_last_up_to_a_quarter_of_an_hour() -> None:
    memory, now, rests = Memory(), 0, []
    for job in range(2 + 7):
        memory.fail(str(job), now)
        if memory.rest_until > now:
            rests.append(memory.rest_until - now)
            now = memory.rest_until
    assert rests == [FIRST_REST << n for n in range(4)] + [LAST_REST] * 3


def test_what_fails_while_it_rests_was_asked_before_and_prolongs_nothing() -> None:
    memory = Memory()
    for job in "abcdef":
        memory.fail(job, S)
    assert (memory.rest_until, memory.rests) == (S + FIRST_REST, 1)
