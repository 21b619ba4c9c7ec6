"""What was left half made, or half deleted, is made whole, or deleted. A real API server; pods are bound by hand."""

from __future__ import annotations

import pytest

from orchestrator.adapters.providers.kubernetes.launching import PATIENCE_US
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.model.offer import SightingState
from tests.kubernetes.bare.sitting import Sitting

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


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
