"""A cloud as a process, with a real Ray head: the job's workers have their GPUs, and a kill -9 leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.adapters.providers.mock import MockProvider, factory
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.mockcloud.processes import members
from orchestrator.model.offer import SightingState
from orchestrator.model.wire import StoreRef
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_attempt, an_order, fresh_job
from tests.adapters.conftest import LEDGER, RealClock
from tests.mockcloud.conftest import QUICK

pytestmark = [pytest.mark.ray, pytest.mark.heavy, pytest.mark.timeout(300)]

DRIVER = """
import os, ray, time
ray.init(log_to_driver=False)
@ray.remote(num_gpus=4, resources={"accelerator_type:H100": 1})
def work():
    return os.environ["ORCHESTRATOR_JOB_ID"], len(ray.get_gpu_ids())
print("workers:", ray.get([work.remote(), work.remote()]))
time.sleep(600)
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = tmp_path / "cloud.json"
    config.write_text(json.dumps({**QUICK, "machines": "ray", "listLag": 0}))
    command = [sys.executable, "-m", "orchestrator.mockcloud", str(config), "--folder", str(tmp_path)]
    process = subprocess.Popen(command)
    yield process
    process.kill()
    process.wait()


async def wait_for(probe: Any, folder: Path) -> Any:
    for _ in range(400):
        if found := await probe():
            return found
        await asyncio.sleep(0.5)
    said = [f"{path.name}:\n{path.read_text()[-3000:]}" for path in (*folder.glob("*.log"), *folder.glob("*.jsonl"))]
    raise AssertionError("nothing in 200 s; what was written meanwhile:\n" + "\n".join(said))


async def test_a_real_head_runs_the_agent_and_dies_with_its_cloud(
    cloud: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    tools = Tools(runtime=RayJobs(), clock=RealClock(), ledger=LEDGER)
    provider: MockProvider = factory("p", {"file": str(tmp_path / "connection.json")}, tools)
    job = fresh_job()
    attempt = an_attempt(job, store=StoreRef(name="main", url=f"file://{tmp_path}/s"), command=("python", "-c", DRIVER))
    order = msgspec.structs.replace(an_order(job), region="eastus", ledger=LEDGER, attempt=attempt.to_json())
    cursor = None

    async def listens() -> bool:
        return not await provider.check()

    async def output() -> str:
        nonlocal cursor
        seen = await provider.observe(cursor, 0)
        cursor = seen.cursor
        text = b"".join([chunk async for chunk in provider.logs(order.key)]).decode()
        return text if "workers:" in text else ""

    await wait_for(listens, tmp_path)
    await provider.launch([order])
    assert f"[('{order.job}', 4), ('{order.job}', 4)]" in await wait_for(output, tmp_path)
    [sighting] = (await provider.list_ours()).sightings
    assert sighting.state is SightingState.RUNNING
    cluster = sighting.machines[0].rpartition("-")[0]
    assert len(members(cluster)) > 10
    os.kill(cloud.pid, signal.SIGKILL)

    async def gone() -> bool:
        return not members(cluster)

    assert await wait_for(gone, tmp_path)
    assert not [*Path(tempfile.gettempdir()).glob(f"{order.key}-*")]
    await provider.aclose()
