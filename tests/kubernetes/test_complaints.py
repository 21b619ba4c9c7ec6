"""What is heard of launches without pods where a long listing of events is cut off, and what is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.complaints import EVERY_US, Complaints
from orchestrator.adapters.providers.kubernetes.errors import Expired
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.model.offer import Sighting, SightingState

pytestmark = pytest.mark.asyncio
KEYS = [f"01kdvdna009m3jsp5ydyfp42e{n}-e1" for n in range(2)]


class Namespace:
    """A cluster whose lists of events end in a 410 after their first page. `heard`: what came of it."""

    def __init__(self, cluster_name: str) -> None:
        self.client, self.connection = self, SimpleNamespace(namespace="n")
        status = SimpleNamespace(ray_cluster_name=cluster_name)
        self._main = SimpleNamespace(spec=SimpleNamespace(suspend=False, completions=1), status=status)
        self.asked: list[str] = []
        self.heard: dict[str, str] = {}

    def main(self, key: str) -> Any:
        return self._main

    def complains(self, heard: dict[str, str]) -> None:
        self.heard = heard

    async def pages(self, path: str, kind: type, **params: str) -> AsyncIterator[Any]:
        self.asked.append(params["fieldSelector"])
        about = SimpleNamespace(name=name_of(KEYS[0]))
        yield SimpleNamespace(items=[SimpleNamespace(involved_object=about, at=1, reason="Failed", message="quota")])
        raise Expired("410: the provided continue parameter is too old")


async def listened(keys: list[str], cluster_name: str = "") -> Namespace:
    moments = iter((0, EVERY_US, EVERY_US))
    namespace = Namespace(cluster_name)
    complaints = Complaints(namespace, lambda: next(moments))  # type: ignore[arg-type]
    await complaints.hear([Sighting(key, SightingState.PROVISIONING, 0, "ours") for key in keys])
    return namespace


async def test_what_was_read_before_the_listing_expired_is_told() -> None:
    namespace = await listened(KEYS)
    assert namespace.heard == {KEYS[0]: "Failed: quota"} and namespace.asked == ["type=Warning"]


async def test_of_one_launch_the_events_of_its_own_objects_are_asked_for() -> None:
    namespace = await listened(KEYS[:1], "its-cluster")
    names = [name_of(KEYS[0]), "its-cluster"]
    assert namespace.asked == [f"type=Warning,involvedObject.name={name}" for name in names]
