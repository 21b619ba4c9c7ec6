"""A provider on this machine whose heads are stand-ins, and whatever it started is ended with the test."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.providers.local.provider import LocalProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.model.wire import AttemptEnv, Isolation, StoreRef
from orchestrator.ports.runtime import Tools
from orchestrator.rayhead.processes import end_all
from orchestrator.testing.builders import an_attempt
from orchestrator.testing.clock import FakeClock

Make = Callable[..., LocalProvider]


def end_launches(state: Path) -> None:
    """Ask every keeper to end, and wait until each has said that it is gone."""
    launches = [launch for launch in state.glob("*") if (launch / "launch.json").exists()]
    for launch in launches:
        (launch / "stop").touch()
    for _ in range(200):
        if all((launch / "gone.json").exists() for launch in launches):
            return
        time.sleep(0.1)
    for launch in launches:
        end_all(f"ORCHESTRATOR_LOCAL_LAUNCH={launch}")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ol-test-"))
    (made / "store").mkdir()
    yield made
    end_launches(made / "state")
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def local(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Makes providers over the same state: the second one is a server that was started again."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    runtime = RayJobs()
    tools = Tools(runtime=runtime, clock=FakeClock(), ledger="ledger-1")

    def make(**connection: object) -> LocalProvider:
        return LocalProvider(
            "local", {"folder": folder / "state", "cpus": 8, "gpus": 8, "head": "stand_in", **connection}, tools
        )

    yield make
    await runtime.aclose()


@pytest.fixture
def attempt(folder: Path) -> Callable[..., AttemptEnv]:
    """An attempt that sleeps, with its log in a folder."""

    def make(job: str, epoch: int = 1, command: tuple[str, ...] = ("sleep", "600")) -> AttemptEnv:
        return an_attempt(
            job,
            epoch,
            provider="local",
            store=StoreRef(name="main", url=(folder / "store").as_uri()),
            isolation=Isolation(check_ms=500, limit_ms=60_000, grace_ms=1_000),
            command=command,
        )

    return make


async def until(probe: Callable[[], object], within_s: float = 30.0) -> None:
    """Wait for something of another process."""
    for _ in range(round(within_s / 0.1)):
        if probe():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {within_s} s")
