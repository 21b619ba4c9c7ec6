"""What was left half made, or half deleted, is made whole, or deleted. A real API server; pods are bound by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.adapters.providers.kubernetes.completing import EVERY_US
from orchestrator.adapters.providers.kubernetes.launching import PATIENCE_US
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.provider import FORGOTTEN_US
from orchestrator.adapters.providers.kubernetes.records import CLOSED_AT
from orchestrator.adapters.providers.kubernetes.resources import LEDGER
from orchestrator.model.offer import LaunchOrder, SightingState
from orchestrator.ports.provider import Unreachable
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.bare.site import Site, a_site
from tests.kubernetes.bare.sitting import Sitting, new_order, until
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.front import Front

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


# ---- half made -------------------------------------------------------------------------------------------------------


async def whole(s: Sitting, order: LaunchOrder) -> None:
    """Its Job's Secret and Service are there, and go with it."""

    async def there() -> bool | None:
        await s.provider.observe(None, 0)
        names = ("secret", order.offer.lower()), ("service", name_of(order.key))
        owners = [await s.kubectl("get", *name, "-o", "jsonpath={.metadata.ownerReferences[0].uid}") for name in names]
        uid = await s.kubectl("get", "job", name_of(order.key), "-o", "jsonpath={.metadata.uid}")
        return owners == [uid, uid] or None

    await until(there, f"Secret and Service of {order.key}")


@pytest.mark.parametrize("restarted", [False, True], ids=["the same server", "a server after it"])
@pytest.mark.parametrize("part", ["/secrets", "/services"])
async def test_a_launch_that_was_cut_off_is_completed_though_nobody_orders_it_again(
    s: Sitting, front: Front, part: str, restarted: bool
) -> None:
    order = new_order()
    front.once("POST", part, 503)
    with pytest.raises(Unreachable):
        await s.provider.launch([order])
    if restarted:
        await s.restart()
    await s.told(order.key, SightingState.PROVISIONING)
    await whole(s, order)


async def test_a_launch_whose_reply_was_lost_is_completed(s: Sitting, front: Front) -> None:
    order = new_order()
    front.lose_reply("POST", "/jobs")
    with pytest.raises(Unreachable):
        await s.provider.launch([order])
    await whole(s, order)


async def test_why_a_launch_is_not_complete_is_told_and_it_is_tried_again(s: Sitting, front: Front) -> None:
    order, quota = new_order(), '{"message":"exceeded quota: team, limited: secrets=0"}'
    front.mishaps.append(lambda r: web.Response(status=403, text=quota) if "/secrets" in r.path else None)
    await s.provider.launch([order])
    await until(lambda: says(s, order.key, "exceeded quota: team"), "why")
    front.mishaps.clear()
    s.later(EVERY_US)
    await whole(s, order)
    await until(lambda: says(s, order.key, ""), "nothing any more")


async def says(s: Sitting, key: str, word: str) -> bool | None:
    """Whether the last sighting has this word; empty: whether it has none."""
    [*_, last] = [seen for seen in (await s.provider.observe(None, 0)).sightings if seen.key == key] or [None]
    return (last is not None and (word in last.detail if word else not last.detail)) or None


async def test_a_launch_that_was_made_whole_is_not_looked_at_again(s: Sitting, front: Front) -> None:
    order = await s.launched()
    front.asked.clear()
    await s.binds(order)
    await s.told(order.key, SightingState.PROVISIONING)
    assert not [asked for asked in front.asked if "/secrets" in asked or "/services" in asked]


async def test_kueue_is_told_to_start_a_launch_once_it_is_whole(
    cluster: Cluster, kubelet: Kubelet, tmp_path: Path, queue: str
) -> None:
    async with a_site(cluster, kubelet, tmp_path, queue=queue) as site:
        order = site.session.order(*await site.reserved())
        site.front.mishaps.append(lambda r: web.Response(status=503) if "/secrets" in r.path else None)
        with pytest.raises(Unreachable):
            await site.session.provider.launch([order])
        adopted(cluster, kubelet.namespace, order)
        await until(lambda: starts(site, "Pending"), "Kueue's word on it")
        await site.session.provider.observe(None, 0)
        workload = cluster.get("workload", order.offer.lower(), "-n", kubelet.namespace)
        assert workload["status"]["admissionChecks"][0]["state"] == "Pending"
        site.front.mishaps.clear()
        await until(lambda: starts(site, "Ready"), "its start")
        assert cluster.kubectl("get", "secret", order.offer.lower(), "-n", kubelet.namespace, "-o", "name")


def adopted(cluster: Cluster, namespace: str, order: LaunchOrder) -> None:
    """Kueue makes the Workload the Job's, and waits for our check."""
    uid = cluster.get("job", name_of(order.key), "-n", namespace)["metadata"]["uid"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name_of(order.key), "uid": uid}
    at = "2026-03-01T10:00:00Z"
    check = {"name": f"check-{namespace}", "state": "Pending", "message": "", "lastTransitionTime": at}
    patch = ("patch", "workload", order.offer.lower(), "-n", namespace, "--type=merge", "-p")
    cluster.kubectl(*patch, json.dumps({"metadata": {"ownerReferences": [owner]}}))
    cluster.kubectl(*patch, json.dumps({"status": {"admissionChecks": [check]}}), "--subresource=status")


async def starts(site: Site, state: str) -> bool | None:
    """Whether our check says so, after a look by a server that has been told of it."""
    await site.session.provider.observe(None, 0)
    told = [check for w in site.session.provider.cluster.workloads for check in w.status.admission_checks]
    return (bool(told) and {check.state for check in told} == {state}) or None


# ---- half deleted ----------------------------------------------------------------------------------------------------


async def test_pods_whose_object_was_deleted_without_them_are_deleted_by_a_stop(s: Sitting) -> None:
    order = await s.launched()
    mine, theirs = await s.bound(order), await s.binds(order, "theirs", managed_by="them")
    await s.kubectl("delete", "job", name_of(order.key))  # and nobody collects garbage
    await s.told(order.key, SightingState.STOPPING)
    await s.provider.stop([order.key])
    assert not await s.deleted(mine), "whoever takes launches apart has its time"
    s.later(PATIENCE_US)
    [reply] = await s.provider.stop([order.key])
    assert reply.acknowledged and "its pods are being deleted" in reply.detail
    assert await s.deleted(mine) and not await s.deleted(theirs)


# ---- over and forgotten ----------------------------------------------------------------------------------------------


async def test_what_is_over_and_was_never_stopped_is_closed_and_deleted_after_an_hour(s: Sitting) -> None:
    """The server that should have stopped it was ended, and the one after it knows nothing of it."""
    over, deleted = await s.launched(), await s.launched()
    await s.kubectl("delete", "job", name_of(deleted.key))
    await s.told(deleted.key, SightingState.GONE)
    await s.finishes(over)
    await s.restart()
    for order in (over, deleted):
        await s.told(order.key, SightingState.GONE)
    assert await s.exists(over), "whoever wants to stop it has its time"
    s.later(FORGOTTEN_US)
    for order in (over, deleted):
        await s.until(order.key, CLOSED_AT)
    assert not await s.exists(over)


async def test_what_is_over_is_left_to_the_ledger_that_it_belongs_to(s: Sitting) -> None:
    order = await s.launched()
    await s.kubectl("label", "job", name_of(order.key), f"{LEDGER}=another", "--overwrite")
    await s.finishes(order)
    await s.told(order.key, SightingState.GONE)
    s.later(FORGOTTEN_US)
    await s.provider.observe(None, 0)
    assert await s.exists(order)
