"""How does a cluster look in listings, in the feed and on its own page? Documents, nothing else.

Called by the cloud and its two HTTP faces.
"""

from __future__ import annotations

from typing import Any

from orchestrator.mockcloud.records import Cluster, ClusterState


def view(cluster: Cluster, state: ClusterState) -> dict[str, Any]:
    """A cluster as listings and the feed show it, in the given state."""
    order, alive = cluster.order, state is not ClusterState.TERMINATED
    return {
        "id": cluster.id,
        "key": order.key,
        "state": state.value,
        "region": order.region,
        "accelerator": order.accelerator,
        "gpus": cluster.gpus,
        "machines": [f"{cluster.id}-{n}" for n in range(order.workers)] if alive else [],
        "tags": order.tags,
        "detail": cluster.detail,
    }


def description(cluster: Cluster) -> dict[str, Any]:
    """A cluster as its own page shows it: user data too, address and token while it runs."""
    running = cluster.state is ClusterState.RUNNING
    return {
        **view(cluster, cluster.state),
        "userData": cluster.order.user_data,
        "address": cluster.address if running else "",
        "token": cluster.token if running else "",
    }
