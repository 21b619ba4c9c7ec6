"""What becomes of launches when the cluster, the way to it or people misbehave? In real pods, a stand-in for Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.objects import name_of
from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.offer import Confirmed, Reason, Rejected, Sighting, SightingState
from orchestrator.ports.provider import Misconfigured, Unreachable
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import some_terms
from orchestrator.testing.kit import Subject
from orchestrator.testing.kit.subject import Session
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.difficulties import difficulty
from tests.kubernetes.front import Front, a_front, write_kubeconfig
from tests.kubernetes.standin import connection

pytestmark = [pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.timeout(400)]
SMALL = some_terms(workers=1, gpus_per_worker=1, cpus=1)


@pytest.fixture
async def front(cluster: Cluster) -> AsyncIterator[Front]:
    async with a_front(cluster.kubeconfig) as made:
        yield made


@pytest.fixture
async def session(cluster: Cluster, namespace: str, front: Front, tmp_path: Path) -> AsyncIterator[Lasting]:
    """A provider that reaches its cluster through the front."""
    config = write_kubeconfig(tmp_path / "config", front.url, {"token": "one"})
    told = connection(cluster, namespace) | {"kubeconfig": str(config)}
    tools = Tools(runtime=RayJobs(), clock=SystemClock(), ledger="kit-ledger")
    s = Lasting(lambda: KubernetesProvider("k", told, tools))
    await s.wait(lambda: jobs_can_be_made(cluster, namespace), "a cluster in which a Job can be made")
    yield s
    await s.clean()
    await s.provider.aclose()


class Lasting(Session):
    """A session whose server may be started again."""

    def __init__(self, connect: Callable[[], KubernetesProvider]) -> None:
        super().__init__(Subject(provider=connect(), terms=SMALL, patience_s=150, poll_s=0.3))
        self._connect = connect

    async def restart(self) -> None:
        """As after a crash: nothing is remembered."""
        await self.provider.aclose()
        self.provider = self._connect()


class Ops:
    """What people do by hand in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def pod(self, key: str) -> str:
        [item] = self.cluster.get("pods", "-n", self.namespace, "-l", f"orchestrator.dev/key={key}")["items"]
        return str(item["metadata"]["name"])


@pytest.fixture
def ops(cluster: Cluster, namespace: str) -> Ops:
    return Ops(cluster, namespace)


async def told(session: Lasting, key: str, *states: SightingState) -> Sighting:
    """Wait until the feed says so."""

    async def said() -> Sighting | None:
        sightings = (await session.provider.observe(None, 0)).sightings
        return next((s for s in sightings if s.key == key and s.state in states), None)

    return await session.wait(said, f"{key} {states}")


# ---- people ----------------------------------------------------------------------------------------------------------


async def test_an_object_deleted_by_hand_is_told_and_not_made_again(session: Lasting, ops: Ops) -> None:
    order = await session.running()
    ops("delete", "job", name_of(order.key))
    seen = await told(session, order.key, SightingState.GONE)
    assert "not by us" in seen.detail
    assert isinstance((await session.launch([order]))[0], Confirmed)
    assert await session.seen(order.key) is None


async def test_a_container_that_is_killed_ends_the_launch(session: Lasting, ops: Ops) -> None:
    order = await session.running()
    ops("exec", ops.pod(order.key), "-c", "ray", "--", "python3", "-c", "import os; os.kill(1, 10)")
    seen = await told(session, order.key, SightingState.ENDED, SightingState.GONE)
    assert "exit 137" in seen.detail or "BackoffLimitExceeded" in seen.detail


async def test_a_pod_that_is_evicted_ends_the_launch(session: Lasting, ops: Ops) -> None:
    order = await session.running()
    pod = ops.pod(order.key)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": ops.namespace}}
    path = f"/api/v1/namespaces/{ops.namespace}/pods/{pod}/eviction"
    ops("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    await told(session, order.key, SightingState.ENDED, SightingState.GONE)
    await asyncio.sleep(2)
    assert not [p for p in ops("get", "pods", "-o", "name").split() if not p.endswith(pod)]


async def test_a_foreign_object_of_the_same_name_is_reported_and_left_alone(session: Lasting, ops: Ops) -> None:
    offer, answer = await session.accepted()
    order = session.order(offer, answer)
    ops("create", "job", name_of(order.key), "--image=none")
    [reply] = await session.launch([order])
    assert isinstance(reply, Rejected) and reply.reason is Reason.ERROR and "not ours" in reply.detail
    [stopped] = await session.provider.stop([order.key])
    assert stopped.acknowledged and "left alone" in stopped.detail
    assert ops("get", "job", name_of(order.key), "-o", "name")


async def test_quota_taken_between_answer_and_launch_is_a_rejection_with_the_number(session: Lasting, ops: Ops) -> None:
    offer, answer = await session.accepted()
    ops("create", "quota", "small", "--hard=requests.nvidia.com/gpu=0")
    await asyncio.sleep(1)
    [reply] = await session.launch([session.order(offer, answer)])
    assert isinstance(reply, Rejected)
    assert "quota small: requests.nvidia.com/gpu" in reply.detail and "1 missing" in reply.detail


# ---- the way to the API ----------------------------------------------------------------------------------------------


async def test_watches_that_are_cut_go_on_from_where_they_were(session: Lasting, front: Front) -> None:
    await session.provider.observe(None, 0)
    front.asked.clear()
    front.cut()
    order = await session.running()
    await told(session, order.key, SightingState.RUNNING)
    listed = [asked for asked in front.asked if "/pods?limit=500" in asked and "labelSelector" not in asked]
    assert not listed
    assert any("watch=true" in asked and "resourceVersion=" in asked for asked in front.asked)


async def test_a_name_taken_by_our_own_lost_call_is_the_same_launch(session: Lasting, front: Front) -> None:
    offer, answer = await session.accepted()
    order = session.order(offer, answer)
    front.lose_reply("POST", "/jobs")
    with pytest.raises(Unreachable):
        await session.launch([order])
    assert isinstance((await session.launch([order]))[0], Confirmed)
    await session.runs(order.key)


@pytest.mark.parametrize("by", ["token", "tokenFile", "exec"])
async def test_a_token_that_was_rotated_is_read_again(session: Lasting, front: Front, tmp_path: Path, by: str) -> None:
    given = write_user(tmp_path, by, "one")
    write_kubeconfig(tmp_path / "config", front.url, given)
    await session.provider.list_ours()
    front.tokens = {"two"}
    front.cut()
    with pytest.raises(Misconfigured, match="renew"):
        await session.provider.list_ours()
    write_kubeconfig(tmp_path / "config", front.url, write_user(tmp_path, by, "two"))
    assert (await session.provider.list_ours()).sightings == ()
    await session.running()


def write_user(folder: Path, by: str, token: str) -> dict[str, Any]:
    if by == "token":
        return {"token": token}
    (folder / "token").write_text(token)
    if by == "tokenFile":
        return {"tokenFile": str(folder / "token")}
    version = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}
    (folder / "credential").write_text(json.dumps(credential))
    return {"exec": {"apiVersion": version, "command": "cat", "args": [str(folder / "credential")]}}


async def test_the_api_server_stopped_and_back(session: Lasting) -> None:
    order = await session.running()
    with difficulty("API"):
        with pytest.raises(Unreachable):
            await session.provider.list_ours()
        with pytest.raises(Unreachable):
            await session.provider.observe(None, 0)
    await session.runs(order.key)


# ---- the node --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["CABLE", "KUBELET"])
async def test_a_node_that_does_not_answer_confirms_nothing(session: Lasting, ops: Ops, what: str) -> None:
    order = await session.running()
    pod = ops.pod(order.key)
    with difficulty(what):
        await nodes_are(ops, "Ready=Unknown")
        seen = await session.seen(order.key)
        assert seen is not None and seen.state is SightingState.RUNNING and "not Ready" in seen.detail
        await session.provider.stop([order.key])
        ops("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
        await asyncio.sleep(3)
        seen = await session.seen(order.key)
        assert seen is not None and seen.state is SightingState.STOPPING and "nothing is known" in seen.detail
        await session.restart()
        seen = await session.seen(order.key)
        assert seen is not None and seen.state is SightingState.STOPPING and "nothing is known" in seen.detail
    await nodes_are(ops, "Ready")
    await told(session, order.key, SightingState.GONE)
    assert await session.seen(order.key) is None


async def nodes_are(ops: Ops, condition: str) -> None:
    wait = ("wait", "node", "--all", f"--for=condition={condition}", "--timeout=90s")
    await asyncio.to_thread(ops.cluster.kubectl, *wait)


async def jobs_can_be_made(cluster: Cluster, namespace: str) -> bool | None:
    """Webhooks whose pods were cut off with their node take their time to come back."""
    make = ("create", "job", "trial", "--image=none", "-n", namespace, "--dry-run=server", "-o", "name")
    return bool(await asyncio.to_thread(cluster.kubectl, *make, check=False)) or None
