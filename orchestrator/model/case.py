"""A question to a contract set: at this moment, with these facts, for this job, whom may we ask?

Made by `documents.cases` from case and facts files, answered by `core.cases`. Values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from orchestrator.model.placement import How, Shape


class PastRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """A holder's earlier no; what is not given was as it is now."""

    provider: str
    how: How
    ago_us: int
    ceiling_microusd: int | None = None
    gpus: int | None = None
    accelerators: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    same_episode: bool = True
    reason: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at the moment of the question. The last group bears on parts of contracts that
    are not enforced yet; only its presence is looked at."""

    down_us: Mapping[str, int] = {}
    prices: Mapping[str, int] = {}  # micro-dollars per GPU-hour
    refusals: tuple[PastRefusal, ...] = ()

    events: Mapping[str, tuple[str, ...]] = {}  # event → who attested it
    consents: frozenset[str] = frozenset()  # holders that consented for this job
    exempt_ms: Mapping[str, int] = {}  # exemption → GPU-milliseconds used of its total
    evidence: frozenset[str] = frozenset()  # names of evidence on record for this job

    shares: frozenset[str] = frozenset()
    burned: frozenset[str] = frozenset()


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One question and what its author expects; only the keys given are compared."""

    name: str
    at_us: int
    shape: Shape
    facts: Facts = Facts()
    expect: Mapping[str, Any] = {}
    refused_at_load: tuple[str, str] | None = None  # (path, reason): the set itself does not load
