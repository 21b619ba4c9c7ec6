"""What a person hears who wants into a pod whose container has not started: why it has not, not what a node replied."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from orchestrator.adapters.providers.kubernetes.access import KubernetesAccess
from orchestrator.adapters.providers.kubernetes.errors import shut
from orchestrator.adapters.providers.kubernetes.resources import Pod
from orchestrator.ports.access import Command, NotThere, NoWayIn
from orchestrator.ports.provider import Unreachable

WAITS = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nosuch:1"'}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}


def a_way(status: int, state: dict[str, Any]) -> KubernetesAccess:
    """Into one pod in this state, whose node replies so."""

    async def socket(path: str, query: Any) -> Any:
        raise shut(status, path)

    statuses = [{"name": "ray", "state": state}]
    spec, status_of = {"nodeName": "n1"}, {"phase": "Pending", "containerStatuses": statuses}
    pod = msgspec.convert({"metadata": {"name": "p-0", "namespace": "n"}, "spec": spec, "status": status_of}, Pod)
    way = KubernetesAccess()
    way.client = SimpleNamespace(socket=socket)  # type: ignore[assignment]
    way.cluster = SimpleNamespace(launch=lambda key: SimpleNamespace(pods=(pod,)))  # type: ignore[assignment]
    return way


@pytest.mark.parametrize(
    ("status", "state", "error", "says"),
    [
        (500, WAITS, NotThere, "pod p-0 has not started: p-0/ray: ImagePullBackOff: Back-off pulling"),
        (400, WAITS, NotThere, "pod p-0 has not started: p-0/ray: ImagePullBackOff"),
        (500, CREATING, NotThere, "pod p-0 has not started: its images are being pulled"),
        (500, {"running": {}}, Unreachable, "status 500"),
        (403, WAITS, NoWayIn, "we may not"),
    ],
)
async def test_why_there_is_no_way_in_yet_is_said(
    status: int, state: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await a_way(status, state).run_in("k-e1", 0, Command(argv=("true",)))
    with pytest.raises(error, match=says):
        await a_way(status, state).connect("k-e1", 0, 80)
