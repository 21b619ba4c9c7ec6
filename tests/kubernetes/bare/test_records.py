"""What is remembered of a launch, whoever crashes when? A real API server; pods and nodes are objects made by hand."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from orchestrator.adapters.providers.kubernetes import records
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.scribe import CLEAR_AGAIN_US
from orchestrator.adapters.providers.kubernetes.sightings import EVICTED
from orchestrator.model.offer import Confirmed, Reason, Rejected, SightingState
from orchestrator.ports.provider import Throttled, Unreachable
from tests.kubernetes.bare.sitting import Sitting, new_order, until
from tests.kubernetes.front import Front

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


# ---- launching -------------------------------------------------------------------------------------------------------


async def test_a_launch_has_no_record_until_there_is_something_to_remember(s: Sitting) -> None:
    order = await s.launched()
    assert await s.record(order.key) is None
    await s.bound(order)
    record = await s.record(order.key)
    assert record is not None and record["data"][records.STATE] == "launched"


async def test_the_same_order_again_is_the_same_launch_also_after_a_crash(s: Sitting) -> None:
    order = await s.launched()
    before = await s.kubectl("get", "job", name_of(order.key), "-o", "jsonpath={.metadata.uid}")
    assert isinstance((await s.provider.launch([order, order]))[0], Confirmed)
    await s.restart()
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    assert await s.kubectl("get", "job", name_of(order.key), "-o", "jsonpath={.metadata.uid}") == before


async def test_a_launch_that_was_cut_off_is_completed(s: Sitting, front: Front) -> None:
    order = new_order()
    front.once("POST", "/secrets", 503)
    with pytest.raises(Unreachable):
        await s.provider.launch([order])
    await s.restart()
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    assert await s.kubectl("get", "secret", order.offer.lower(), "-o", "name")


async def test_a_launch_whose_reply_was_lost_is_found(s: Sitting, front: Front) -> None:
    order = new_order()
    front.lose_reply("POST", "/jobs")
    with pytest.raises(Unreachable):
        await s.provider.launch([order])
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    assert (await s.told(order.key, SightingState.PROVISIONING)).ledger == "ledger-1"


async def test_a_conflict_inside_the_api_server_is_not_taken_for_something_that_is_there(
    s: Sitting, front: Front
) -> None:
    """Quota admission passes on the conflict of its own write: 409, and nothing is made."""
    front.once("POST", "/jobs", 409, "Conflict")
    order = new_order()
    with pytest.raises(Throttled):
        await s.provider.launch([order])
    front.once("POST", "/secrets", 409, "Conflict")
    await asyncio.gather(s.provider.launch([order]), return_exceptions=True)
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    assert await s.kubectl("get", "secret", order.offer.lower(), "-o", "name")


@pytest.mark.parametrize("reason", ["Conflict", "AlreadyExists"])
async def test_a_record_that_was_not_made_is_made_at_the_next_look(s: Sitting, front: Front, reason: str) -> None:
    """Also where it was there, and was deleted before it was read."""
    order = await s.launched()
    front.once("POST", "/configmaps", 409, reason)
    await s.bound(order)
    assert not front.mishaps


async def test_a_rejected_key_starts_nothing_any_more(s: Sitting, front: Front) -> None:
    order = new_order()
    front.once("POST", "/jobs", 422)
    assert isinstance((await s.provider.launch([order]))[0], Rejected)
    await s.restart()
    await s.provider.launch([order])
    assert not await s.exists(order)


async def test_a_foreign_record_of_that_name_is_reported_and_left_alone(s: Sitting) -> None:
    """Somebody else's object of the same name is deleted; here what is not ours is not touched (kueue#11849)."""
    order = new_order()
    await s.kubectl("create", "configmap", order.key, "--from-literal=whose=theirs")
    [reply] = await s.provider.launch([order])
    assert isinstance(reply, Rejected) and reply.reason is Reason.ERROR and "not ours" in reply.detail
    assert (await s.provider.stop([order.key]))[0].acknowledged
    record = await s.record(order.key)
    assert not await s.exists(order) and record is not None and record["data"] == {"whose": "theirs"}


# ---- stopping --------------------------------------------------------------------------------------------------------


async def test_a_key_that_was_stopped_starts_nothing_again_whoever_asks(s: Sitting) -> None:
    order = await s.launched()
    await s.provider.stop([order.key])
    await s.told(order.key, SightingState.GONE)
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    await s.restart()
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    assert not await s.exists(order) and not (await s.provider.list_ours()).sightings


async def test_a_stop_says_so_before_it_deletes(s: Sitting, front: Front) -> None:
    order = await s.launched()
    front.once("DELETE", "/jobs", 503)
    with pytest.raises(Unreachable):
        await s.provider.stop([order.key])
    record = await s.record(order.key)
    assert record is not None and record["data"][records.STATE] == "stopped" and await s.exists(order)
    await s.restart()
    assert (await s.provider.list_ours()).sightings[0].state is SightingState.STOPPING
    await s.provider.stop([order.key])
    assert not await s.exists(order)


async def test_a_record_is_closed_once_nothing_is_left(s: Sitting) -> None:
    order = await s.launched()
    pod = await s.bound(order)
    await s.provider.stop([order.key])
    assert (await s.told(order.key, SightingState.STOPPING)).machines == (pod,)
    await s.ends(pod)
    record = await s.until(order.key, records.CLOSED_AT)
    assert record["metadata"]["labels"][records.MARK] == records.CLOSED
    await s.told(order.key, SightingState.GONE)


@pytest.mark.parametrize("ended", [True, False], ids=["over when stopped", "stopped first"])
async def test_the_record_of_an_evicted_launch_is_closed_too(s: Sitting, ended: bool) -> None:
    order = await s.launched()
    pod = await s.bound(order)
    evicted = json.dumps(records.with_state(EVICTED, why="evicted by Kueue"))
    await s.kubectl("patch", "configmap", order.key, "--type=merge", "-p", evicted)
    assert "by Kueue" in (await s.told(order.key, SightingState.ENDED)).detail
    if ended:
        await s.ends(pod)
        await s.told(order.key, SightingState.GONE)
    await s.provider.stop([order.key])
    await s.ends(pod)
    await s.until(order.key, records.CLOSED_AT)
    assert not await s.exists(order)


async def test_a_job_that_ended_by_itself_costs_one_record_and_one_deletion(s: Sitting, front: Front) -> None:
    order = await s.launched()
    await s.finishes(order)
    await s.told(order.key, SightingState.GONE)
    front.asked.clear()
    await s.provider.stop([order.key])
    wrote = [asked.split("?")[0].rpartition("/")[0] for asked in front.asked if not asked.startswith("GET")]
    assert [line.split()[0] for line in wrote] == ["POST", "DELETE"]
    record = await s.record(order.key)
    assert record is not None and record["metadata"]["labels"][records.MARK] == records.CLOSED
    assert not await s.exists(order)


async def test_a_pod_lost_with_its_node_is_remembered_by_the_server_after_us(s: Sitting) -> None:
    order = await s.launched()
    pod = await s.bound(order)
    away = {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Away", "message": ""}]}}
    await s.kubectl("patch", "node", "node", "--subresource=status", "--type=merge", "-p", json.dumps(away))
    await s.provider.stop([order.key])
    await s.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
    seen = await s.told(order.key, SightingState.STOPPING)
    await s.restart()
    [seen] = (await s.provider.list_ours()).sightings
    assert seen.state is SightingState.STOPPING and "nothing is known" in seen.detail


async def test_closed_records_are_deleted_after_a_week_page_by_page_and_again_where_that_fails(
    s: Sitting, front: Front
) -> None:
    order = new_order()
    front.once("POST", "/jobs", 422)
    await s.provider.launch([order])
    s.later(records.KEPT_S * 1_000_000 + 1)
    front.once("GET", "configmaps?limit=", 503)
    await s.provider.observe(None, 0)
    assert not front.mishaps and await s.record(order.key)
    s.later(CLEAR_AGAIN_US)
    await s.provider.observe(None, 0)
    assert await s.record(order.key) is None


# ---- people ----------------------------------------------------------------------------------------------------------


async def test_an_object_deleted_by_hand_before_it_ran_is_told_and_not_made_again(s: Sitting) -> None:
    order = await s.launched()
    await s.kubectl("delete", "job", name_of(order.key))
    assert "not by us" in (await s.told(order.key, SightingState.GONE)).detail
    await s.restart()
    assert "not by us" in (await s.told(order.key, SightingState.GONE)).detail
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    await s.provider.stop([order.key])
    await s.until(order.key, records.CLOSED_AT)
    await s.provider.launch([order])
    assert not await s.exists(order)


async def test_an_object_deleted_by_hand_is_not_made_again_before_that_is_written_down(s: Sitting) -> None:
    order = await s.launched()
    await s.kubectl("delete", "job", name_of(order.key))
    await until(lambda: heard_deleted(s, order.key), "its deletion")
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    assert not await s.exists(order)


async def heard_deleted(s: Sitting, key: str) -> bool | None:
    """Our watch has told that it was deleted; nobody has looked."""
    return s.provider.cluster.main(key) is None or None


async def test_pods_that_are_not_told_yet_keep_a_launch_from_being_gone(s: Sitting, front: Front) -> None:
    """A watch of pods that lags behind that of main objects."""
    order = await s.launched()
    front.mishaps.append(lambda asked: web.Response(status=503) if "/pods?watch" in str(asked.rel_url) else None)
    front.cut()
    pod = await s.binds(order)
    await s.kubectl("delete", "job", name_of(order.key))
    await until(lambda: heard_deleted(s, order.key), "its deletion")
    sightings = (await s.provider.observe(None, 0)).sightings
    assert {x.state for x in sightings if x.key == order.key} == {SightingState.PROVISIONING}
    front.mishaps.clear()
    assert (await s.told(order.key, SightingState.STOPPING)).machines == (pod,)


async def test_an_object_deleted_by_hand_while_it_ran_is_told_and_not_made_again(s: Sitting) -> None:
    order = await s.launched()
    pod = await s.bound(order)
    await s.kubectl("delete", "job", name_of(order.key))
    assert "not by us" in (await s.told(order.key, SightingState.STOPPING)).detail
    await s.restart()
    assert isinstance((await s.provider.launch([order]))[0], Confirmed)
    assert not await s.exists(order)
    await s.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
