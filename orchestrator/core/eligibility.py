"""Who may serve a shape, behind which gates, on what terms, and until when is this answer good?

The static half of a placement: called once per shape, contract version and term boundary by the
planner, and by explain, `contracts test` and the auditor. Pure: no prices, no refusals, no clock.
"""

from __future__ import annotations

from orchestrator.model.contract import Contracts, Providers
from orchestrator.model.placement import Rules, Shape


def compile_rules(contracts: Contracts | None, providers: Providers, shape: Shape, now_us: int) -> Rules:
    """What holds for `shape` at `now_us`, until `Rules.expires_us`. No contracts: no gate, file order."""
    raise NotImplementedError


def store_lawful(rules: Rules, jurisdiction: str) -> bool:
    """Whether the job's checkpoints, logs and package may lie in a store of this jurisdiction."""
    return rules.jurisdictions is None or jurisdiction in rules.jurisdictions
