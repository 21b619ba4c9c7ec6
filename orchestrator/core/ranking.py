"""In which order do we ask now: which gates are still to be passed, who is next in the market, is the job held?

The cheap half of a placement: called by the planner at each turn in which a shape (or a job with
refusals) is decided, and by explain, `contracts test` and the auditor. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.model.placement import Gate, Placement, Refused, Rules, Terms


def order(
    rules: Rules,
    prices: Mapping[str, int],
    refusals: Sequence[Refused],
    now_us: int,
    episode: int = 1,
) -> Placement:
    """Whom to ask at `now_us`. `prices`: micro-dollars per GPU-hour by provider, firm before the price
    book's. `refusals`: this job's own; `episode`: the job's present one."""
    raise NotImplementedError


def covers(refusal: Refused, gate: Gate, now_us: int, episode: int) -> bool:
    """Whether a past no passes this gate now: in its tail, in this episode (or inherited), on no better terms."""
    raise NotImplementedError


def better(now: Terms, then: Terms) -> tuple[str, ...]:
    """The dimensions in which `now` is better for a supplier than `then`: price, start, quantity, duration, spec."""
    raise NotImplementedError
