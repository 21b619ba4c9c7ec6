"""A mock cloud behind its adapter keeps every promise of the provider port."""

from __future__ import annotations

from orchestrator.model.offer import LaunchOrder
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject, check_provider
from tests.adapters.conftest import OpenSite, Site


def too_many(order: LaunchOrder) -> LaunchOrder:
    import msgspec

    return msgspec.structs.replace(order, workers=100)


def subject(site: Site) -> Subject:
    async def away(yes: bool) -> None:
        await site.switch("PUT", "/faults", {"api": "refuse" if yes else "up"})

    async def throttle() -> None:
        mishap = {"on": "api", "path": "/v1/clusters", "do": "fail", "status": 429}
        await site.switch("PUT", "/faults", {"mishaps": [mishap]})

    async def end(key: str) -> None:
        await site.switch("POST", f"/clusters/{key}/kill")

    async def reconnect() -> object:
        site.provider = site.connect()
        return site.provider

    return Subject(
        provider=site.provider,
        terms=some_terms(),
        patience_s=5,
        poll_s=0.05,
        all_gpus=some_terms(workers=16),
        declined=some_terms(workers=100),
        rejected=too_many,
        away=away,
        throttle=throttle,
        end=end,
        reconnect=reconnect,  # type: ignore[arg-type]
    )


async def test_every_promise_is_kept(open_site: OpenSite) -> None:
    site = await open_site(ttl=60_000)
    report = await check_provider(lambda: subject(site))
    assert not report.broken, str(report)
