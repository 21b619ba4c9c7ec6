"""A mock cloud behind its adapter keeps every promise of the provider port."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from orchestrator.model.offer import LaunchOrder
from orchestrator.ports.provider import Provider
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject, Verdict, check_provider
from tests.adapters.conftest import OpenSite, Site


def too_many(order: LaunchOrder) -> LaunchOrder:
    return msgspec.structs.replace(order, workers=100)


def subject(site: Site) -> Subject:
    async def away(yes: bool) -> None:
        await site.switch("PUT", "/faults", {"api": "refuse" if yes else "up"})

    async def lock_out(out: bool) -> None:
        turned_down = {"on": "api", "do": "fail", "status": 401, "times": 1_000_000}
        await site.switch("PUT", "/faults", {"mishaps": [turned_down] if out else []})

    async def throttle() -> None:
        mishap = {"on": "api", "path": "/v1/clusters", "do": "fail", "status": 429}
        await site.switch("PUT", "/faults", {"mishaps": [mishap]})

    async def end(key: str) -> None:
        await site.switch("POST", f"/clusters/{key}/kill")

    async def reconnect() -> Provider:
        site.provider = site.connect()
        return site.provider

    async def foreign() -> list[str]:
        """Somebody else's cluster at the same cloud: no label of ours."""
        stranger = {"key": "stranger-1", "region": "eu-1", "accelerator": "H100", "workers": 1, "gpus": 1}
        headers = {"Authorization": f"Bearer {site.here.token}"}
        async with httpx.AsyncClient(base_url=site.here.url, headers=headers) as client:
            await client.post("/v1/clusters", json={**stranger, "deleteAfterMs": 3_600_000})
        alive = await site.switch("GET", "/clusters")
        return [one["key"] for one in alive if one["key"] == "stranger-1" and one["state"] != "terminated"]

    return Subject(
        provider=site.provider,
        terms=some_terms(),
        patience_s=5,
        poll_s=0.05,
        all_gpus=some_terms(workers=16),
        declined=some_terms(workers=100),
        rejected=too_many,
        away=away,
        lock_out=lock_out,
        throttle=throttle,
        end=end,
        foreign=foreign,
        reconnect=reconnect,
    )


@pytest.mark.parametrize("machines", ["paper", pytest.param("process", marks=pytest.mark.heavy)])
@pytest.mark.timeout(240)
async def test_every_promise_is_kept(open_site: OpenSite, machines: str) -> None:
    examined = subject(await open_site(machines=machines))
    if machines == "process":
        examined.patience_s, examined.poll_s = 30, 0.2
    report = await check_provider(lambda: examined)
    assert not report.broken and not report.names(Verdict.NOT_JUDGED), str(report)
