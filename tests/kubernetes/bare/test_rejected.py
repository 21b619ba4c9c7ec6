"""A launch that the cluster refuses keeps nothing: no room on nodes, no quota of Kueue's, which a test plays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.bare.site import a_site
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


async def test_room_that_was_kept_for_a_launch_that_is_rejected_is_offered_again(
    cluster: Cluster, kubelet: Kubelet, tmp_path: Path
) -> None:
    async with a_site(cluster, kubelet, tmp_path) as site:
        await site.rejected(*await site.session.accepted())
        await site.session.accepted()


async def test_quota_that_was_reserved_for_a_launch_that_is_rejected_is_given_back(
    cluster: Cluster, kubelet: Kubelet, tmp_path: Path, queue: str
) -> None:
    async with a_site(cluster, kubelet, tmp_path, queue=queue) as site:
        await site.rejected(*await site.reserved())
        assert site.workloads() == []
