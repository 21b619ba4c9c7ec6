"""What the mock adapter makes of a cloud's replies, and how jobs get onto clusters."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from orchestrator.adapters.providers.mock.errors import TABLE, Kind, meaning
from orchestrator.adapters.providers.mock.translate import through
from orchestrator.mockcloud.profiles import names, price_list, profile
from orchestrator.model.offer import (
    Confirmed,
    LaunchOrder,
    Observation,
    OutcomeUnknown,
    Reason,
    Receipt,
    Rejected,
    Scope,
    SightingState,
    Undelivered,
)
from orchestrator.model.wire import AttemptEnv, StoreRef
from orchestrator.ports.provider import Misconfigured, Throttled, Unreachable
from orchestrator.testing.builders import an_attempt, an_offer, an_order, some_terms
from tests.adapters.conftest import OpenSite, Site

EXPECTED = {
    "capacity": (Kind.REFUSED, Reason.CAPACITY),
    "allocation": (Kind.REFUSED, Reason.CAPACITY),
    "quota": (Kind.REFUSED, Reason.CAPACITY),
    "no_such_sku": (Kind.REFUSED, Reason.SPEC),
    "no_such_region": (Kind.REFUSED, Reason.REGION),
    "too_large": (Kind.REFUSED, Reason.SPEC),
    "price": (Kind.REFUSED, Reason.PRICE),
    "requirement": (Kind.REFUSED, Reason.SPEC),
    "policy": (Kind.REFUSED, Reason.POLICY),
    "throttled": (Kind.THROTTLED, Reason.ERROR),
    "not_found": (Kind.ABSENT, Reason.ERROR),
    "mismatch": (Kind.REFUSED, Reason.ERROR),
    "unauthorized": (Kind.UNAUTHORIZED, Reason.ERROR),
    "internal": (Kind.NOTHING, Reason.ERROR),
}


@pytest.mark.parametrize("cloud", names())
def test_every_word_of_every_cloud_is_understood(cloud: str) -> None:
    understood = {
        situation: meaning(cloud, words.code, words.message, words.status)[:2]
        for situation, words in profile(cloud).errors.items()
    }
    assert understood == EXPECTED


def test_no_row_is_there_twice_and_prices_name_their_source() -> None:
    assert len({row[:3] for row in TABLE}) == len(TABLE)
    assert all(row.source and row.date and row.cloud in names() for row in price_list())


def test_an_unknown_code_means_as_little_as_possible() -> None:
    assert meaning("azure", "Whatever", "", 409)[:3] == (Kind.REFUSED, Reason.ERROR, Scope.PROVIDER)
    assert meaning("azure", "Whatever", "", 500).kind is Kind.NOTHING
    assert meaning("oracle", "InternalError", "a disk broke", 500).kind is Kind.NOTHING


def order(**changes: Any) -> LaunchOrder:
    return msgspec.structs.replace(an_order(), **{"region": "eu-1", "ledger": "kit-ledger", **changes})


async def only(site: Site, cursor: str | None = None, wait_us: int = 0) -> Observation:
    return await site.provider.observe(cursor, wait_us)


async def test_a_no_has_reason_scope_and_an_end_on_our_clock(open_site: OpenSite) -> None:
    site = await open_site("gcp", policies=[{"bid": "decline", "situation": "capacity", "holdOff": 90_000}])
    [receipt] = await site.provider.place_offers([an_offer()])
    assert isinstance(receipt, Receipt) and receipt.answer
    assert (receipt.answer.reason, receipt.answer.scope) == (Reason.CAPACITY, Scope.ZONE)
    assert receipt.answer.detail.startswith("ZONE_RESOURCE_POOL_EXHAUSTED: ")
    seen = await only(site)
    assert seen.answers[0].until and 80e6 < seen.answers[0].until - seen.as_of < 100e6


async def test_what_a_clouds_environment_lacks_is_rejected_as_spec(open_site: OpenSite) -> None:
    site = await open_site("aws")
    [no] = await site.provider.launch([order(requirements=("no-such-thing==1", "pytest"))])
    assert isinstance(no, Rejected) and no.reason is Reason.SPEC and "no-such-thing==1" in no.detail
    assert isinstance((await site.provider.launch([order(requirements=("pytest>=1",))]))[0], Confirmed)


@pytest.mark.fault("partial gang")
async def test_a_part_of_a_gang_is_undone_before_the_no_counts(open_site: OpenSite) -> None:
    site = await open_site(capacity={"eu-1": {"H100": 4}})
    await site.switch("PUT", "/faults", {"partialGang": True})
    [no] = await site.provider.launch([order()])
    assert isinstance(no, Rejected) and no.reason is Reason.CAPACITY
    [left] = await site.switch("GET", "/clusters")
    assert left["state"] == "terminated"


async def test_a_part_that_will_not_go_leaves_the_outcome_unknown(open_site: OpenSite) -> None:
    site = await open_site(capacity={"eu-1": {"H100": 4}})
    await site.switch("PUT", "/faults", {"partialGang": True, "terminate": "silent"})
    assert isinstance((await site.provider.launch([order()]))[0], OutcomeUnknown)


@pytest.mark.fault("launch reply lost")
async def test_a_lost_reply_is_found_again_under_the_same_key(open_site: OpenSite) -> None:
    site = await open_site()
    lose = {"on": "api", "method": "POST", "path": "/clusters", "do": "lose_reply", "times": 2}
    await site.switch("PUT", "/faults", {"mishaps": [lose]})
    with pytest.raises(Unreachable):
        await site.provider.launch([order()])
    assert isinstance((await site.provider.launch([order()]))[0], Confirmed)
    assert len(await site.switch("GET", "/clusters")) == 1


async def test_throttling_and_wrong_tokens_have_their_own_names(open_site: OpenSite) -> None:
    site = await open_site("aws")
    await site.provider.capabilities()
    await site.switch("PUT", "/faults", {"throttle": 7})
    with pytest.raises(Throttled) as later:
        await site.provider.launch([order()])
    assert later.value.retry_after_us == 7_000_000
    await site.switch("DELETE", "/faults")
    stranger = site.connect(url=site.here.url, token="wrong")
    with pytest.raises(Misconfigured, match=r"providers\.yaml"):
        await stranger.list_ours()
    assert "check the provider's token" in (await stranger.check())[0]
    await stranger.aclose()


async def test_one_offer_of_a_batch_may_be_undelivered(open_site: OpenSite) -> None:
    site = await open_site()
    fail = {"on": "api", "path": "/offers", "do": "fail", "status": 429}
    await site.provider.capabilities()
    await site.switch("PUT", "/faults", {"mishaps": [fail]})
    offers = [an_offer(n=1), an_offer(n=2)]
    replies = await site.provider.place_offers(offers)
    assert {type(reply) for reply in replies} == {Receipt, Undelivered}
    assert [reply.offer for reply in replies] == [offer.offer for offer in offers]


async def test_charges_prices_and_notices_are_in_the_feed(open_site: OpenSite) -> None:
    site = await open_site("oracle", chargeEvery=50)
    await site.provider.launch([order()])
    await asyncio.sleep(0.2)
    seen = await only(site)
    assert seen.prices[0].price == 10_000_000 and seen.charges[-1].key == order().key
    assert not (await only(site, seen.cursor)).prices


async def test_a_quota_is_a_decline_for_capacity_of_the_accelerator_for_as_long_as_it_says(open_site: OpenSite) -> None:
    quota = {"eu-1": {"H100": {"gpus": 4, "holdOff": 900_000}}}
    site = await open_site(quotas=quota)
    await site.provider.place_offers([an_offer()])
    [no] = (await only(site)).answers
    assert (no.accepted, no.reason, no.scope) == (False, Reason.CAPACITY, Scope.ACCELERATOR)
    [rejected] = await site.provider.launch([order()])
    assert isinstance(rejected, Rejected) and (rejected.reason, rejected.scope) == (no.reason, no.scope)
    for until in (no.until, rejected.until):
        assert until is not None and abs(until - time.time_ns() // 1000 - 900_000_000) < 30_000_000


async def test_a_notice_of_spot_machines_names_their_key_and_their_end_on_our_clock(open_site: OpenSite) -> None:
    """The cloud's own clock is an hour ahead."""
    spot = {"gpus": {"eu-1": {"H100": 64}}, "percent": 40, "notice": 60_000}
    site = await open_site("oracle", spot=spot, faults={"clockOffset": 3_600_000})
    offer = an_offer(terms=some_terms(spot=True))
    await site.provider.place_offers([offer])
    seen = await only(site)
    assert [(yes.accepted, yes.spot, yes.price) for yes in seen.answers] == [(True, True, 4_000_000)]
    one = msgspec.structs.replace(order(), offer=offer.offer)
    await site.provider.launch([one])
    await site.switch("POST", f"/clusters/{one.key}/reclaim")
    [notice] = [n for n in (await only(site, seen.cursor)).notices if n.kind == "reclaim"]
    assert notice.key == one.key and notice.until is not None
    assert abs(notice.until - time.time_ns() // 1000 - 60_000_000) < 5_000_000


def test_jobs_reach_an_addressed_store_only_through_the_cloud() -> None:
    s3 = StoreRef(name="main", url="s3://b/p", options={"endpoint": "http://store", "region": "x"})
    env = AttemptEnv.from_json(through(an_attempt(store=s3).to_json(), "http://forwarder"))
    assert env.store.options == {"endpoint": "http://forwarder", "allow_http": "true", "region": "x"}
    local = an_attempt(store=StoreRef(name="main", url="file:///s")).to_json()
    assert through(local, "http://forwarder") == local
    assert through(an_attempt(store=s3).to_json(), None) == an_attempt(store=s3).to_json()


def training(folder: Any, code: str) -> str:
    store = StoreRef(name="main", url=f"file://{folder}")
    return an_attempt(store=store, command=("python", "-c", code)).to_json()


async def until(site: Site, state: SightingState) -> Observation:
    cursor = None
    for _ in range(60):
        seen = await only(site, cursor, 500_000)
        cursor = seen.cursor
        if any(sighting.state is state for sighting in seen.sightings):
            return seen
    raise AssertionError(f"nothing was {state} in 30 s")


async def test_a_cluster_that_comes_up_gets_its_agent_and_its_end_is_news(open_site: OpenSite, tmp_path: Any) -> None:
    site = await open_site(machines="process")
    (tmp_path / "s").mkdir()
    await site.provider.launch([order(attempt=training(tmp_path / "s", "print('trained')"))])
    ended = await until(site, SightingState.ENDED)
    assert ended.sightings[-1].detail == "job succeeded, exit 0"
    assert "trained" in b"".join([chunk async for chunk in site.provider.logs(order().key)]).decode()
    log = sorted(path.read_text() for path in (tmp_path / "s").rglob("log/*"))
    assert any('"kind":"done"' in entry for entry in log)
    kinds = [line["kind"] for line in await site.switch("GET", "/journal")]
    assert kinds[:3] == ["created", "started", "job_submitted"]


async def test_the_end_of_a_job_hides_no_answer(open_site: OpenSite, tmp_path: Any) -> None:
    site = await open_site(machines="process")
    (tmp_path / "s").mkdir()
    await site.provider.launch([order(attempt=training(tmp_path / "s", "pass"))])
    cursor = (await until(site, SightingState.RUNNING)).cursor
    async with asyncio.timeout(20):
        await site.provider._tending.arrived.wait()
    await site.provider.place_offers([an_offer()])
    seen = await only(site, cursor)
    assert [answer.offer for answer in seen.answers] == [an_offer().offer]
    assert seen.sightings[-1].state is SightingState.ENDED


async def test_a_restart_of_ours_submits_what_was_left_and_nothing_twice(open_site: OpenSite, tmp_path: Any) -> None:
    site = await open_site(machines="process")
    (tmp_path / "s").mkdir()
    await site.provider.launch([order(attempt=training(tmp_path / "s", "import time; time.sleep(3)"))])
    await site.provider.aclose()
    for _ in range(2):
        site.provider = site.connect()
        await until(site, SightingState.RUNNING)
        await asyncio.sleep(0.5)
        await site.provider.aclose()
    site.provider = site.connect()
    assert (await until(site, SightingState.ENDED)).sightings[-1].detail == "job succeeded, exit 0"
    claims = [path for path in (tmp_path / "s").rglob("log/*") if '"kind":"claim"' in path.read_text()]
    assert len(claims) == 1


async def test_machines_that_die_are_gone_and_billed_once(open_site: OpenSite, tmp_path: Any) -> None:
    site = await open_site(machines="process")
    (tmp_path / "s").mkdir()
    await site.provider.launch([order(attempt=training(tmp_path / "s", "import time; time.sleep(60)"))])
    await until(site, SightingState.RUNNING)
    assert (await site.switch("POST", f"/clusters/{order().key}/kill"))["killed"] >= 2
    gone = await until(site, SightingState.GONE)
    assert [charge.final for charge in gone.charges] == [True]
    assert (await site.provider.list_ours()).sightings[0].state is SightingState.GONE


async def test_an_agent_is_frozen_and_thawed(open_site: OpenSite, tmp_path: Any) -> None:
    site = await open_site(machines="process")
    (tmp_path / "s").mkdir()
    await site.provider.launch([order(attempt=training(tmp_path / "s", "import time; time.sleep(60)"))])
    await until(site, SightingState.RUNNING)
    for _ in range(50):
        hit = await site.switch("POST", f"/clusters/{order().key}/freeze", {"match": r"orchestrator\.agent"})
        if hit["pids"]:
            break
        await asyncio.sleep(0.1)
    thawed = await site.switch("POST", f"/clusters/{order().key}/thaw", {"match": r"orchestrator\.agent"})
    assert hit["pids"] and set(hit["pids"]) <= set(thawed["pids"])


def test_the_builders_terms_are_what_the_cloud_reads() -> None:
    from orchestrator.mockcloud.records import Terms

    read = Terms.model_validate_json(an_offer().terms)
    assert (read.gpus, read.accelerators, read.regions) == (8, some_terms().accelerators, ("eu-1",))
