"""A launch in a real API server is priced by the book, and billed once, by whichever server sees its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.billing import AGREED, ANNOTATION, BILL
from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Charge, LaunchOrder, SightingState
from orchestrator.ports.provider import Unreachable
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.bare.kubelet import Kubelet
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.front import Front, a_front, write_kubeconfig

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]
PRICE = 2_490_000


class Billed(Session):
    """A session whose server may be started again, with another price book."""

    def __init__(self, told: dict[str, Any], front: Front) -> None:
        self._connection, self.front = told, front
        super().__init__(Subject(provider=self.connect(PRICE), terms=some_terms(workers=1, gpus_per_worker=2, cpus=1)))

    def connect(self, price: int) -> KubernetesProvider:
        """A provider by this price."""
        tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger", prices={"H100": price})
        return KubernetesProvider("k", self._connection, tools)

    async def restart(self, price: int = PRICE) -> None:
        """As after a crash: nothing is remembered."""
        await self.provider.aclose()
        self.provider = self.connect(price)

    async def bill(self, key: str) -> Charge:
        """The launch's one charge, as soon as it is told."""

        async def told() -> Charge | None:
            found = [c for c in (await self.provider.observe(None, 0)).charges if c.key == key]
            assert len(found) <= 1
            return found[0] if found else None

        return await self.wait(told, f"a bill of {key}")


@pytest.fixture
async def session(cluster: Cluster, kubelet: Kubelet, tmp_path: Path) -> Any:
    h100 = {"resource": "nvidia.com/gpu", "nodeSelector": kubelet.selector}
    async with a_front(cluster.kubeconfig) as front:
        config = write_kubeconfig(tmp_path / "config", front.url, {"token": "one"})
        told = {"kubeconfig": str(config), "namespace": kubelet.namespace, "image": "i", "agentImage": "a"}
        made = Billed(told | {"runtime": "job", "accelerators": {"H100": h100}}, front)
        yield made
        await made.clean()
        await made.provider.aclose()


async def run(session: Billed, kubelet: Kubelet) -> LaunchOrder:
    """A launch whose one pod was bound at ten."""
    order = await session.launched()
    assert order.price == PRICE
    kubelet.runs("job", name_of(order.key), f"{order.key}-0", "2026-03-01T10:00:00Z")

    async def seen() -> bool | None:
        found = await session.seen(order.key)
        return bool(found and found.machines) or None

    await session.wait(seen, "its pod")
    await session.provider.observe(None, 0)
    return order


def half_an_hour(key: str) -> Charge:
    return Charge(f"{key}-bill", key, 2 * 1800 * PRICE // 3600, 2 * 1800, final=True)


async def test_an_ended_launch_is_billed_by_its_pods_own_times(session: Billed, kubelet: Kubelet) -> None:
    order = await run(session, kubelet)
    assert (await session.provider.observe(None, 0)).charges == ()
    kubelet.ended(f"{order.key}-0", "2026-03-01T10:30:00Z")
    await session.provider.stop([order.key])
    assert await session.bill(order.key) == half_an_hour(order.key)


async def test_a_server_started_later_bills_what_was_accepted_whatever_the_book_says_now(
    session: Billed, kubelet: Kubelet
) -> None:
    order = await run(session, kubelet)
    await session.provider.aclose()
    kubelet.ended(f"{order.key}-0", "2026-03-01T10:30:00Z")
    await session.restart(price=9_000_000)
    await session.provider.stop([order.key])
    assert await session.bill(order.key) == half_an_hour(order.key)


async def test_a_bill_that_was_closed_away_is_told_again_by_the_next_server(
    session: Billed, kubelet: Kubelet, cluster: Cluster
) -> None:
    order = await run(session, kubelet)
    kubelet.ended(f"{order.key}-0", "2026-03-01T10:30:00Z")
    await session.provider.stop([order.key])
    first = await session.bill(order.key)

    async def closed() -> bool | None:
        await session.provider.observe(None, 0)
        return BILL in cluster.get("configmap", order.key, "-n", kubelet.namespace)["data"] or None

    await session.wait(closed, "a closed record")
    kubelet.removed(f"{order.key}-0")
    await session.restart()
    assert await session.bill(order.key) == first


async def finished(session: Billed, kubelet: Kubelet, key: str) -> None:
    """Its pod ended, the Job controller says that it is complete, and our watches have told; nobody has looked."""
    kubelet.ended(f"{key}-0", "2026-03-01T10:30:00Z")
    kubelet.completed(name_of(key), "2026-03-01T10:00:00Z", "2026-03-01T10:30:00Z")

    async def told() -> bool | None:
        seen = session.provider.cluster.sighting(key)
        return (seen is not None and seen.state is SightingState.GONE) or None

    await session.wait(told, "its end")


@pytest.mark.parametrize("looked", [True, False], ids=["told gone first", "stopped first"])
async def test_a_job_that_ended_by_itself_is_billed_and_closed_in_two_requests(
    session: Billed, kubelet: Kubelet, cluster: Cluster, looked: bool
) -> None:
    order = await run(session, kubelet)
    await finished(session, kubelet, order.key)
    if looked:
        assert await session.bill(order.key) == half_an_hour(order.key)
    session.front.asked.clear()
    await session.provider.stop([order.key])
    wrote = [asked.split()[0] for asked in session.front.asked if not asked.startswith("GET")]
    assert wrote == ["PATCH", "DELETE"]
    assert await session.bill(order.key) == half_an_hour(order.key)
    data = cluster.get("configmap", order.key, "-n", kubelet.namespace)["data"]
    assert BILL in data and AGREED in data
    await session.restart()
    assert await session.bill(order.key) == half_an_hour(order.key)
    kubelet.removed(f"{order.key}-0")


async def test_a_close_whose_deletion_was_cut_off_is_billed_once_also_when_its_pods_are_gone(
    session: Billed, kubelet: Kubelet
) -> None:
    order = await run(session, kubelet)
    await finished(session, kubelet, order.key)
    session.front.once("DELETE", "/jobs", 503)
    with pytest.raises(Unreachable):
        await session.provider.stop([order.key])
    await session.provider.aclose()
    kubelet.removed(f"{order.key}-0")
    await session.restart(price=9_000_000)
    assert await session.bill(order.key) == half_an_hour(order.key)
    await session.provider.stop([order.key])
    assert await session.bill(order.key) == half_an_hour(order.key)
    await session.restart()
    assert await session.bill(order.key) == half_an_hour(order.key)


async def test_an_object_deleted_by_hand_before_it_ran_is_billed_for_nothing(
    session: Billed, kubelet: Kubelet, cluster: Cluster
) -> None:
    order, where = await session.launched(), ["-n", kubelet.namespace]
    await session.provider.observe(None, 0)
    assert ANNOTATION in cluster.get("job", name_of(order.key), *where)["metadata"]["annotations"]
    assert not cluster.kubectl("get", "configmap", order.key, *where, "--ignore-not-found")
    cluster.kubectl("delete", "job", name_of(order.key), *where)

    async def recorded() -> bool | None:
        await session.provider.observe(None, 0)
        text = cluster.kubectl("get", "configmap", order.key, *where, "--ignore-not-found", "-o", "json")
        return AGREED in text or None

    await session.wait(recorded, "a record with what was agreed")
    await session.restart()
    await session.provider.stop([order.key])
    assert await session.bill(order.key) == Charge(f"{order.key}-bill", order.key, 0, 0, final=True)
