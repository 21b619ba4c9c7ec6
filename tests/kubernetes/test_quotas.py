"""Which quotas of a namespace would refuse our pods, so that no yes is given to what never starts?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orchestrator.adapters.providers.kubernetes.connection import parse_connection
from orchestrator.adapters.providers.kubernetes.resources import LimitRange, Node, Quota
from orchestrator.adapters.providers.kubernetes.room import Room, Stock
from orchestrator.model.offer import Answer, Reason
from orchestrator.testing.builders import an_offer, some_terms

LEAST: dict[str, Any] = {"image": "i", "agentImage": "a", "runtime": "job"}
ONE = some_terms(workers=1, gpus_per_worker=1, cpus=2, memory=4 << 30)
"""Its pod: 2 CPUs; 4 GiB and 1 GiB for Ray, as a limit too; one GPU."""


def quota(hard: dict[str, str], **spec: Any) -> Quota:
    doc = {"metadata": {"name": "team"}, "spec": spec, "status": {"hard": hard, "used": {}}}
    return msgspec.convert(doc, Quota)


def gives(default: dict[str, str], kind: str = "Container") -> LimitRange:
    return msgspec.convert(
        {"metadata": {"name": "r"}, "spec": {"limits": [{"type": kind, "default": default}]}}, LimitRange
    )


def answer(quotas: list[Quota], ranges: list[LimitRange] | None, **connection: Any) -> Answer:
    room = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
    status = {"allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}
    node = msgspec.convert({"metadata": {"name": "n1"}, "status": status}, Node)
    stock = Stock([node], [], quotas, ranges)
    found = Room(parse_connection("k", LEAST | connection), "job").receipt(an_offer(terms=ONE), stock, 0).answer
    assert found is not None
    return found


CPU_LIMIT = {"podTemplate": {"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": "3"}}}]}}}
BOTH = {"podTemplate": {"spec": CPU_LIMIT["podTemplate"]["spec"] | {
    "initContainers": [{"name": "agent", "resources": {"limits": {"cpu": "1"}}}]}}}  # fmt: skip
WHOLE = {"podTemplate": {"spec": {"resources": {"limits": {"cpu": "6", "memory": "6Gi"}}}}}
SIDECAR = {"podTemplate": {"spec": {"containers": [{"name": "logs", "image": "l"}]}}}
SILENT = "quota team: limits.cpu: container {} sets no such limit"


@pytest.mark.parametrize(
    ("hard", "ranges", "connection", "says"),
    [
        ({"limits.cpu": "8"}, [], {}, SILENT.format("ray")),
        ({"limits.cpu": "8"}, [], CPU_LIMIT, SILENT.format("agent")),
        ({"limits.cpu": "8"}, [], BOTH, ""),
        ({"limits.cpu": "2"}, [], BOTH, "limits.cpu: 3 and 0 in use would pass 2"),
        ({"limits.cpu": "8"}, [gives({"cpu": "4"})], {}, ""),
        ({"limits.cpu": "2"}, [gives({"cpu": "4"})], {}, "limits.cpu: 4 and 0 in use would pass 2"),
        ({"limits.cpu": "8"}, [gives({"cpu": "4"}, "Pod")], {}, SILENT.format("ray")),
        ({"limits.cpu": "8"}, None, {}, ""),
        ({"limits.cpu": "8"}, [], WHOLE, ""),
        ({"limits.cpu": "4"}, [], WHOLE, "limits.cpu: 6 and 0 in use would pass 4"),
        ({"limits.memory": "8Gi"}, [], {}, ""),
        ({"limits.memory": "4Gi"}, [], {}, "limits.memory: 5Gi and 0Gi in use would pass 4Gi"),
        ({"requests.cpu": "8"}, [], {}, ""),
        ({"requests.cpu": "8"}, [], SIDECAR, "requests.cpu: container logs sets no such request"),
        ({"memory": "8Gi"}, [], SIDECAR, "memory: container logs sets no such request"),
        ({"memory": "8Gi"}, [gives({"memory": "1Gi"})], SIDECAR, ""),
    ],
)  # fmt: skip
def test_a_quota_refuses_what_it_would_refuse(
    hard: dict[str, str], ranges: list[LimitRange] | None, connection: dict[str, Any], says: str
) -> None:
    said = answer([quota(hard)], ranges, **connection)
    assert (said.accepted, says in said.detail) == (not says, True), said.detail
    assert not says or said.reason is Reason.SPEC


def test_a_quota_for_pods_of_certain_classes_is_left_to_admission() -> None:
    assert answer([quota({"limits.cpu": "1"}, scopes=["BestEffort"])], []).accepted
