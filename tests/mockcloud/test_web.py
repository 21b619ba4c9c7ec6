"""The cloud over HTTP: tokens, throttling, words, the feed, the switchboard, and a network that can be cut."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from orchestrator.verify import Verifier
from tests.mockcloud.conftest import Web, an_offer, an_order


def body(document: Any) -> Any:
    return document.model_dump(by_alias=True, mode="json")


async def test_everything_wants_its_own_token(open_web: Any) -> None:
    web: Web = await open_web()
    wrong = {"Authorization": f"Bearer {web.here.admin_token}"}
    assert (await web.client.get("/v1", headers=wrong)).json()["error"]["code"] == "InvalidAuthenticationToken"
    assert (await web.admin.get("/faults", headers={"Authorization": f"Bearer {web.here.token}"})).status_code == 401
    assert (await web.client.get("/v1")).json()["regions"] == {"eastus": "US"}


async def test_too_many_requests_are_told_when_to_come_back(open_web: Any) -> None:
    web: Web = await open_web(cloud="aws", throttle={"perSecond": 0.5, "burst": 2})
    replies = [await web.client.get("/v1") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 503]
    assert replies[-1].json()["error"]["code"] == "RequestLimitExceeded" and replies[-1].headers["Retry-After"] == "2"


async def test_an_offer_a_cluster_and_its_end(open_web: Any) -> None:
    web: Web = await open_web()
    receipt = (await web.client.post("/v1/offers", json=body(an_offer()))).json()
    assert receipt["answer"]["accepted"]
    made = await web.client.post("/v1/clusters", json=body(an_order(offer="j-o1")))
    assert made.status_code == 202 and made.json()["state"] == "provisioning"
    assert (await web.client.delete("/v1/clusters/j-e1")).status_code == 202
    await asyncio.sleep(0.1)
    assert (await web.client.get("/v1/clusters/j-e1")).json()["clusters"][0]["state"] == "terminated"
    feed = (await web.client.get("/v1/events")).json()["events"]
    assert next(event["type"] for event in feed if event["type"] != "price") == "answer"


async def test_the_cloud_keeps_receipts_of_its_own_and_gives_them_out(open_web: Any) -> None:
    web: Web = await open_web()
    offer = an_offer().model_copy(update={"ledger_head": "ab" * 32, "ordinal": 3})
    receipt = (await web.client.post("/v1/offers", json=body(offer))).json()
    assert (receipt["ledgerHead"], receipt["ordinal"]) == ("ab" * 32, 3)
    await web.client.delete("/v1/offers/j-o1")
    kept = (await web.client.get("/v1/receipts")).text
    assert kept == (web.here.folder / "receipts.jsonl").read_text()
    taken, answers = Verifier().take(kept.encode())
    assert (taken["j-o1"]["ledgerHead"], taken["j-o1"]["ordinal"]) == ("ab" * 32, 3)
    assert answers["j-o1"]["accepted"] and [line["line"] for line in map(json.loads, kept.splitlines())] == [
        "offer", "answer", "withdrawn",
    ]  # fmt: skip


async def test_the_same_offer_with_another_head_is_another_offer(open_web: Any) -> None:
    web: Web = await open_web()
    await web.client.post("/v1/offers", json=body(an_offer()))
    again = await web.client.post("/v1/offers", json=body(an_offer().model_copy(update={"ledger_head": "ab" * 32})))
    assert again.status_code >= 400


async def test_words_for_what_is_not_there(open_web: Any) -> None:
    web: Web = await open_web(cloud="oracle", regions={"abilene": "US"}, capacity={"abilene": {"H100": 4}})
    short = await web.client.post("/v1/clusters", json=body(an_order(region="abilene")))
    assert (short.status_code, short.json()["error"]["message"]) == (500, "Out of host capacity.")
    assert (await web.client.get("/v1/clusters/x-e1")).json()["error"]["code"] == "NotFound"
    lacking = await web.client.post("/v1/clusters", json=body(an_order(requirements=("no-such-thing>=1",))))
    assert lacking.json()["error"] == {"code": "InvalidImage", "message": "The image lacks: no-such-thing>=1."}
    assert (await web.client.post("/v1/clusters", json={"key": "UPPER"})).status_code == 400


async def test_a_long_poll_wakes_with_the_news(open_web: Any) -> None:
    web: Web = await open_web()
    cursor = (await web.client.get("/v1/events")).json()["cursor"]
    poll = asyncio.ensure_future(web.client.get("/v1/events", params={"cursor": cursor, "wait": 5000}))
    await asyncio.sleep(0.05)
    await web.client.post("/v1/offers", json=body(an_offer()))
    assert (await poll).json()["events"][0]["type"] == "answer"
    again = (await web.client.get("/v1/events", params={"cursor": "another-boot:99"})).json()["events"]
    assert again[0]["n"] == 1


@pytest.mark.fault("provider's control plane down while its job runs on")
@pytest.mark.parametrize(
    ("state", "seen"), [("refuse", httpx.ConnectError), ("hang", httpx.ReadTimeout), ("error", 503)]
)
async def test_the_api_goes_away_and_comes_back(open_web: Any, state: str, seen: Any) -> None:
    web: Web = await open_web()
    await web.break_with(api=state)
    if seen == 503:
        assert (await web.client.get("/v1")).status_code == 503
    else:
        with pytest.raises(seen):
            await web.client.get("/v1", timeout=0.2)
    await web.break_with(api="up")
    assert (await web.client.get("/v1")).status_code == 200


@pytest.mark.fault("launch request lost", "launch reply lost")
@pytest.mark.parametrize(("deed", "made"), [("lose_request", 0), ("lose_reply", 1)])
async def test_a_launch_loses_its_request_or_its_reply(open_web: Any, deed: str, made: int) -> None:
    web: Web = await open_web()
    await web.break_with(mishaps=[{"on": "api", "method": "POST", "path": "/clusters", "do": deed}])
    with pytest.raises(httpx.RemoteProtocolError):
        await web.client.post("/v1/clusters", json=body(an_order()))
    assert len((await web.admin.get("/clusters")).json()) == made
    await web.client.post("/v1/clusters", json=body(an_order()))
    assert len((await web.admin.get("/clusters")).json()) == 1


@pytest.mark.fault("launch stuck and appearing minutes later")
async def test_a_launch_gets_stuck_and_appears_later(open_web: Any) -> None:
    web: Web = await open_web()
    await web.break_with(mishaps=[{"on": "api", "path": "/clusters", "do": "hold", "after": 200}])
    with pytest.raises(httpx.RemoteProtocolError):
        await web.client.post("/v1/clusters", json=body(an_order()))
    assert (await web.client.get("/v1/clusters")).json()["clusters"] == []
    await asyncio.sleep(0.4)
    assert [one["key"] for one in (await web.client.get("/v1/clusters")).json()["clusters"]] == ["j-e1"]


async def test_an_outage_takes_the_machines_too(open_web: Any) -> None:
    web: Web = await open_web()
    await web.client.post("/v1/clusters", json=body(an_order()))
    await asyncio.sleep(0.1)
    assert (await web.admin.post("/outage", json={"kill": True})).status_code == 200
    with pytest.raises(httpx.ConnectError):
        await web.client.get("/v1")
    assert (await web.admin.post("/join")).json()["api"] == "up"
    assert (await web.client.get("/v1/clusters")).json()["clusters"][0]["state"] == "terminated"
    kinds = [line["kind"] for line in (await web.admin.get("/journal")).json()]
    assert kinds == ["created", "started", "killed", "ended"]


async def test_switches_are_checked(open_web: Any) -> None:
    web: Web = await open_web()
    wrong = await web.admin.put("/faults", json={"api": "sideways"})
    assert wrong.status_code == 422 and wrong.json()["detail"][0]["loc"] == ["api"]
    assert (await web.admin.put("/faults", json={"wrong": 1})).status_code == 422
    assert (await web.admin.put("/capacity", json={"eastus": {"H100": 1}})).json() == {"eastus": {"H100": 1}}
    await web.admin.put("/policies", json=[{"bid": "decline", "situation": "quota", "holdOff": 5000}])
    no = (await web.client.post("/v1/offers", json=body(an_offer()))).json()["answer"]
    assert (no["code"], no["holdOffMs"]) == ("QuotaExceeded", 5000)
    assert (await web.admin.delete("/faults")).json()["held"] == 0
