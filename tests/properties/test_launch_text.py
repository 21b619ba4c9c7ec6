"""What an agent is told is written twice: for agents by the standard library, for the engine by a faster one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.orders import text_of
from orchestrator.model.wire import AttemptEnv, Isolation, StoreRef

words = st.text(st.characters(exclude_categories=("Cs",)))
named = st.dictionaries(words, words, max_size=3)
numbers = st.integers(0, 1 << 62)
stores = st.builds(StoreRef, name=words, url=words, jurisdiction=words, options=named, secrets=named)
attempts = st.builds(
    AttemptEnv, job=words, project=words, epoch=numbers, provider=words, region=words, store=stores,
    isolation=st.builds(Isolation, check_ms=st.integers(1, 9), limit_ms=st.none() | st.integers(9, 99)),
    command=st.lists(words, max_size=3).map(tuple), package=st.none() | words, environment=named,
    requirements=st.lists(words, max_size=2).map(tuple), max_runtime_left_ms=st.none() | numbers,
    workers=st.none() | numbers,
)  # fmt: skip


@given(attempts)
def test_both_write_the_same_letters(attempt: AttemptEnv) -> None:
    assert text_of(attempt) == attempt.to_json()
