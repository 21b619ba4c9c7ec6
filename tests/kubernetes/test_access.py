"""Getting at a job's pods on a real cluster: beside which rank, with what exit, and gone with whoever asked.

In the pods runs a stand-in for Ray that starts user code: what the access port does with pods needs no more.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.bootstrap import SystemClock
from orchestrator.model.ids import new_job_id
from orchestrator.model.offer import SightingState
from orchestrator.ports.access import Access, Command, NotThere, NoWayIn
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_attempt, an_order
from tests.kubernetes.cluster import Cluster, Doc
from tests.kubernetes.standin import connection

pytestmark = [pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.heavy, pytest.mark.timeout(400)]

TRAIN = """
import http.server, os, sys, threading, time
server = http.server.HTTPServer(("127.0.0.1", 6006), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("training at", os.environ["GANG_INDEX"], flush=True)
while True:
    time.sleep(0.1)
"""
GANG = """
import os, subprocess, sys
os.makedirs("/tmp/code", exist_ok=True)
own = {"ORCHESTRATOR_ATTEMPT_KEY": os.environ["KEY"], "ORCHESTRATOR_ATTEMPT_NONCE": "n", "MINE": "yes"}
sys.exit(subprocess.call([sys.executable, "-c", os.environ["TRAIN"]], cwd="/tmp/code", env={**os.environ, **own}))
"""
Running = tuple[KubernetesProvider, str]


@pytest.fixture
async def running(cluster: Cluster, namespace: str) -> AsyncIterator[Running]:
    """Two pods with user code in them."""
    job = new_job_id(time.time_ns() // 1000, secrets.token_bytes(10))
    told = connection(cluster, namespace, image=os.environ["KUBERNETES_TEST_IMAGE"])
    cluster.kubectl("delete", "configmap", "stand-in", "-n", namespace)
    meta = {"name": "stand-in", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"gang.py": GANG}})
    [user] = told["podTemplate"]["spec"]["containers"]
    user["env"] = [{"name": "TRAIN", "value": TRAIN}, {"name": "KEY", "value": f"{job.lower()}-e1"}]
    provider = KubernetesProvider("k", told, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="ledger-1"))
    order = an_order(job, workers=2, gpus=0, cpus=1, memory=0, attempt=an_attempt(job).to_json())
    await provider.launch([order])
    await until_up(provider, order.key)
    yield provider, order.key
    await provider.aclose()


async def until_up(provider: KubernetesProvider, key: str) -> None:
    """Both pods run, and user code in them."""
    cursor, seen = None, ""
    async with asyncio.timeout(120):
        while seen != SightingState.RUNNING:
            news = await provider.observe(cursor, 5_000_000)
            cursor = news.cursor
            seen = next((s.state for s in reversed(news.sightings) if s.key == key), seen)
    for _ in range(60):
        seen = [told.pid for rank in (0, 1) for told in await provider.stacks(key, rank)]
        if all(seen):
            return
        await asyncio.sleep(0.5)
    raise AssertionError("no user code runs in the pods")


async def heard(session: Any) -> tuple[int, str, str]:
    said = {1: b"", 2: b""}
    async with asyncio.timeout(30):
        while (one := await session.read()) is not None:
            said[one[0]] += one[1]
    return session.code, said[1].decode(), said[2].decode()


async def test_people_get_in_beside_a_rank(running: Running) -> None:
    """One launch, many ways in: pods take their time."""
    provider, key = running
    assert isinstance(provider, Access) and list(await provider.ranks(key)) == [0, 1]
    await a_command_in_its_environment_and_folder(provider, key)
    await input_of_any_size(provider, key)
    await a_terminal(provider, key)
    await an_end(provider, key)
    await stacks_or_why_not(provider, key)
    await its_own_output(provider, key)
    await ports(provider, key)
    with pytest.raises(NotThere, match="no rank 2; the ranks are: 0, 1"):
        await provider.run_in(key, 2, Command(argv=("true",)))
    with pytest.raises(NotThere, match="no pod of it runs now"):
        await provider.connect(key.replace("-e1", "-e2"), 0, 80)


async def a_command_in_its_environment_and_folder(provider: KubernetesProvider, key: str) -> None:
    script = "echo $MINE $GANG_INDEX $PWD; echo oops >&2; exit 3"
    for rank in (0, 1):
        session = await provider.run_in(key, rank, Command(argv=("sh", "-c", script)))
        assert await heard(session) == (3, f"yes {rank} /tmp/code\n", "oops\n")
        await session.aclose()
    session = await provider.run_in(key, 0, Command(argv=("no-such-command",)))
    assert (await heard(session))[0] == 127


async def input_of_any_size(provider: KubernetesProvider, key: str) -> None:
    session = await provider.run_in(key, 0, Command(argv=("wc", "-c")))
    for _ in range(32):
        await session.write(b"x" * 65536)
    await session.eof()
    code, out, _ = await heard(session)
    assert (code, out.strip()) == (0, str(32 * 65536))


async def a_terminal(provider: KubernetesProvider, key: str) -> None:
    session = await provider.run_in(key, 1, Command(argv=("sh",), terminal=(31, 97), term="dumb"))
    await session.write(b"stty size; exit 5\n")
    code, out, _ = await heard(session)
    assert code == 5 and "31 97" in out


async def an_end(provider: KubernetesProvider, key: str) -> None:
    """Told to, or because whoever asked has gone without a word."""
    session = await provider.run_in(key, 0, Command(argv=("sh", "-c", "echo up; exec sleep 621")))
    assert await session.read() == (1, b"up\n")
    await session.end()
    assert (await heard(session))[0] == 143
    session = await provider.run_in(key, 0, Command(argv=("sh", "-c", "echo up; exec sleep 622")))
    assert await session.read() == (1, b"up\n")
    await session._socket.close()
    for _ in range(60):
        look = await provider.run_in(key, 0, Command(argv=("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")))
        if "sleep 62" not in (await heard(look))[1]:
            return
        await asyncio.sleep(0.5)
    raise AssertionError("the command outlived who asked for it")


async def stacks_or_why_not(provider: KubernetesProvider, key: str) -> None:
    for rank in (0, 1):
        [told] = await provider.stacks(key, rank)
        print(f"rank {rank}: {told.stacks or told.why}")
        assert told.rank == rank and ("<module>" in told.stacks or "remedy" in told.why)


async def its_own_output(provider: KubernetesProvider, key: str) -> None:
    for rank in (0, 1):
        said = b"".join([chunk async for chunk in provider.output(key, rank, False)])
        assert said == f"training at {rank}\n".encode()


async def ports(provider: KubernetesProvider, key: str) -> None:
    channel = await provider.connect(key, 1, 6006)
    await channel.write(b"GET / HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(20):
        assert b"200 OK" in await channel.read()
    await channel.aclose()
    channel = await provider.connect(key, 1, 6007)
    with pytest.raises(NotThere, match="port 6007"):
        async with asyncio.timeout(20):
            await channel.read()
    await channel.aclose()


async def test_without_the_right_there_is_no_way_in(
    cluster: Cluster, namespace: str, running: Running, tmp_path: Path
) -> None:
    provider, key = running
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    cluster.apply(account(namespace), role(namespace, rules), binding(namespace))
    token = cluster.kubectl("create", "token", "guest", "-n", namespace).strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    guest = KubernetesProvider("k", {"kubeconfig": str(kubeconfig), "namespace": namespace, "image": "i",
        "agentImage": "a"}, Tools(runtime=RayJobs(), clock=SystemClock(), ledger="l"))  # fmt: skip
    guest.cluster = provider.cluster
    with pytest.raises(NoWayIn, match="grant create and get on pods/exec"):
        await guest.run_in(key, 0, Command(argv=("true",)))
    with pytest.raises(NoWayIn):
        await guest.connect(key, 0, 6006)
    await guest.client.aclose()


def account(namespace: str) -> Doc:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "guest", "namespace": namespace}}


def role(namespace: str, rules: list[Doc]) -> Doc:
    meta = {"name": "guest", "namespace": namespace}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": rules}


def binding(namespace: str) -> Doc:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "guest", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "guest"},
        "subjects": [{"kind": "ServiceAccount", "name": "guest", "namespace": namespace}],
    }  # fmt: skip
