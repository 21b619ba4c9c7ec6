"""How is a subject made? The one of `ScriptedProvider`, with every lever; the pattern for others.

`python -m orchestrator.testing.kit orchestrator.testing.kit.example:scripted` examines it from a shell.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from orchestrator.model.offer import Capabilities, LaunchOrder, OfferOut
from orchestrator.model.placement import parse_terms
from orchestrator.ports.provider import Provider
from orchestrator.testing import scripts as do
from orchestrator.testing.agents import Site, Work
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit.subject import Subject
from orchestrator.testing.pretend.stage import Stock
from orchestrator.testing.scripted import ScriptedProvider

GPUS = 64


def _policy(offer: OfferOut, number: int) -> do.Say:
    """Takes everything but B200s."""
    unknown = "B200" in parse_terms(offer.terms).accelerators
    return do.Declines(for_s=60) if unknown else do.Accepts(after_s=0.1)


def scripted(kind: type[ScriptedProvider] = ScriptedProvider) -> Subject:
    """A scripted provider with 64 GPUs, and how to bring it into difficulties."""
    faults: list[do.Fault] = []
    provider = kind(
        "scripted",
        do.Script(offers=_policy, faults=faults, stop_s=0.5),
        crew=Site(work=Work(steps=1_000_000)),
        stock=Stock(gpus=GPUS, foreign=("their-machine",)),
        capabilities=Capabilities(delete_after=True, list_lag_us=200_000),
        latency_s=0.01,
        timeout_s=0.1,
    )

    async def away(gone: bool) -> None:
        provider.go_unreachable(gone)

    async def lock_out(out: bool) -> None:
        provider.locked_out = out

    async def throttle() -> None:
        faults.append(do.Throttles(verb="launch", nth=provider.calls.get("launch", 0) + 1, for_s=0.3))

    async def end(key: str) -> None:
        provider.machines.over(key, "ended by itself")

    async def foreign() -> Collection[str]:
        return frozenset(provider.machines.foreign)

    async def reconnect() -> Provider:
        return provider

    return Subject(
        provider=provider,
        poll_s=0.25,
        all_gpus=some_terms(workers=GPUS // 4),
        declined=some_terms(accelerators=("B200",)),
        rejected=_too_large,
        away=away,
        lock_out=lock_out,
        throttle=throttle,
        end=end,
        foreign=foreign,
        reconnect=reconnect,
    )


def _too_large(order: LaunchOrder) -> LaunchOrder:
    return msgspec.structs.replace(order, workers=GPUS)
