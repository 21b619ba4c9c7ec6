"""What a refusal covers, by the code that decides and by the auditor's own: they never say otherwise (R8)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from orchestrator.core.audit.refusals import better as judged
from orchestrator.core.ranking import better as decided
from orchestrator.model.contract import OnOutage, Tolerance
from orchestrator.model.placement import Gate, Terms, terms_hash

few = st.integers(0, 3)
limit = st.one_of(st.none(), st.integers(1_000_000, 1_000_003))
names = st.lists(st.sampled_from("abc"), max_size=3, unique=True).map(tuple)
terms = st.builds(
    Terms, accelerators=names, gpus_per_worker=few, workers=st.integers(3, 5), cpus=few, memory=few,
    min_workers=st.one_of(st.just(UNSET), st.integers(1, 3)), ceiling_microusd=limit, max_runtime_ms=few,
    start_by_ms=limit, regions=names, residency=st.sampled_from([None, "eu"]), spot=st.booleans(),
)  # fmt: skip
tolerances = st.builds(
    Tolerance, price_up_ppm=few, start_later_ms=few, smaller_gpus=st.integers(0, 9), looser_points=st.integers(0, 6)
)


@given(now=terms, then=terms, tolerance=tolerances)
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
def test_the_auditor_tolerates_what_a_clause_does_and_nothing_else(
    now: Terms, then: Terms, tolerance: Tolerance
) -> None:
    gate = Gate(
        clause="c/k", contract="c", holder="h", rank=1, window_us=1, tail_us=1, inherits=False,
        on_outage=OnOutage.DEEMED_DECLINE, undeliverable_after_us=1, terms=now, terms_hash=terms_hash(now),
        tolerance=tolerance,
    )  # fmt: skip
    assert tuple(judged(now, then, gate)) == decided(now, then, tolerance)
    assert judged(now, then) == list(decided(now, then)), "of a release from an exclusive nothing is tolerated"
    rival = replace(now, regions=("elsewhere",))
    assert judged(rival, then, gate) == judged(now, then, gate), "whose regions are its own, and not the holder's"
