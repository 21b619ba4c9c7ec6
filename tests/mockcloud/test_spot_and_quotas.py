"""Quotas of an account, and spot machines that are taken back after a notice: the cloud by itself, and over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.mockcloud.config import Quota
from orchestrator.mockcloud.records import Refusal
from tests.mockcloud.conftest import Played, an_order

SPOT: dict[str, Any] = {"gpus": {"eastus": {"H100": 8}}, "percent": 40, "notice": 30_000}
FOUR: dict[str, Any] = {"eastus": {"H100": {"gpus": 4, "holdOff": 900_000}}}


def test_an_offer_beyond_the_quota_is_declined_for_as_long_as_its_script_says() -> None:
    c = Played(quotas=FOUR)
    no = c.offer()
    assert no and not no["accepted"] and (no["code"], no["holdOffMs"]) == ("QuotaExceeded", 900_000)
    assert c.offer("j-o2", workers=1)["accepted"]  # type: ignore[index]
    assert not c.offer("j-o3", workers=1)["accepted"]  # type: ignore[index]


def test_a_launch_beyond_the_quota_is_refused_and_a_higher_one_lets_it_in_with_a_notice() -> None:
    c = Played(quotas=FOUR)
    with pytest.raises(Refusal, match="quota") as no:
        c.launch()
    assert no.value.hold_off == 900_000
    c.cloud.stock.set_quota("eastus", "H100", Quota(gpus=8))
    assert c.told("notice")[-1]["detail"] == "8 H100 free in eastus"
    assert c.launch().gpus == 8


def test_who_allows_spot_machines_gets_them_cheaper_until_there_are_none() -> None:
    c = Played(spot=SPOT)
    first, second = c.offer(spot=True), c.offer("k-o1", spot=True)
    assert first and second and (first["spot"], second["spot"]) == (True, False)
    assert (first["price"], second["price"]) == (12_290_000 * 40 // 100, 12_290_000)
    plain = Played(spot=SPOT).offer()
    assert plain and not plain["spot"]


def test_spot_machines_keep_their_price_are_given_notice_once_and_are_gone_when_it_has_run_out() -> None:
    c = Played(spot=SPOT)
    c.offer(spot=True)
    cluster = c.launch(offer="j-o1")
    c.wait(2)
    assert (cluster.spot, cluster.price) == (True, 4_916_000)
    c.cloud.reclaim(cluster, c.now)
    c.cloud.reclaim(cluster, c.now)
    [notice] = [n for n in c.told("notice") if n["kind"] == "reclaim"]
    assert (notice["key"], notice["inMs"]) == ("j-e1", 30_000)
    c.wait(29)
    assert c.listed()["j-e1"] == "running"
    c.wait(5)
    assert c.listed()["j-e1"] == "terminated" and c.cloud.spot.free("eastus", "H100") == 8  # type: ignore[union-attr]
    kinds = [line["kind"] for line in c.cloud.journal.lines]
    assert kinds.index("reclaim_noticed") < kinds.index("reclaimed") < kinds.index("ended")


def test_what_is_stopped_within_the_notice_is_not_taken_back_again() -> None:
    c = Played(spot={**SPOT, "lasts": {"low": 10_000, "high": 10_000}})
    c.offer(spot=True)
    c.launch(offer="j-o1")
    c.wait(12)
    c.cloud.delete("j-e1", c.now)
    c.wait(60)
    kinds = [line["kind"] for line in c.cloud.journal.lines]
    assert "reclaim_noticed" in kinds and "reclaimed" not in kinds


async def test_over_http_quota_and_notice_are_moved_by_the_switchboard(open_web: Any) -> None:
    web = await open_web(quotas=FOUR, spot={**SPOT, "notice": 200})
    body = an_order().model_dump(by_alias=True)
    no = await web.client.post("/v1/clusters", json=body)
    assert (no.status_code, no.json()["error"]["holdOffMs"]) == (409, 900_000)
    more = {"eastus": {"H100": {"gpus": 8}}}
    assert (await web.admin.put("/quotas", json=more)).json()["eastus"]["H100"]["gpus"] == 8
    assert (await web.client.post("/v1/clusters", json=body)).status_code == 202
    assert (await web.admin.post("/clusters/j-e1/reclaim")).status_code == 409, "not on spot machines"
