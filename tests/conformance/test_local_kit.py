"""This machine keeps the promises of the provider port: on stand-in heads always, on real Ray where asked for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.adapters.providers.local.provider import LocalProvider
from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.model.wire import AttemptEnv, Isolation, StoreRef
from orchestrator.ports.provider import Provider
from orchestrator.ports.runtime import Tools
from orchestrator.testing.builders import an_attempt, some_terms
from orchestrator.testing.clock import FakeClock
from orchestrator.testing.kit import Subject, check_provider
from tests.local.conftest import end_launches

SMALL = some_terms(workers=1, gpus_per_worker=1, cpus=1)


@pytest.fixture
async def subject() -> AsyncIterator[Callable[[str], Subject]]:
    folder, runtime = Path(tempfile.mkdtemp(prefix="ol-kit-")), RayJobs()
    (folder / "store").mkdir()
    store = StoreRef(name="main", url=(folder / "store").as_uri())
    tools = Tools(runtime=runtime, clock=FakeClock(), ledger="kit-ledger")

    def attempt(job: str, epoch: int) -> AttemptEnv:
        isolation = Isolation(check_ms=1_000, limit_ms=600_000, grace_ms=500)
        return an_attempt(job, epoch, store=store, isolation=isolation, command=("sleep", "3600"))

    def make(head: str) -> Subject:
        def connect() -> LocalProvider:
            return LocalProvider("local", {"folder": folder / "s", "cpus": 4, "gpus": 4, "head": head}, tools)

        async def reconnect() -> Provider:
            return connect()

        return Subject(
            provider=connect(),
            terms=SMALL,
            attempt=attempt,
            patience_s=150 if head == "ray" else 30,
            poll_s=1 if head == "ray" else 0.1,
            all_gpus=some_terms(workers=1, gpus_per_worker=4, cpus=1),
            declined=some_terms(workers=99),
            rejected=lambda order: replace(order, requirements=("no-such-package==1",)),
            reconnect=reconnect,
        )

    yield make
    await runtime.aclose()
    end_launches(folder / "s")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(180)
async def test_this_machine_keeps_every_promise_with_stand_in_heads(subject: Callable[[str], Subject]) -> None:
    report = await check_provider(lambda: subject("stand_in"))
    assert not report.broken, str(report)


@pytest.mark.ray
@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_this_machine_keeps_every_promise_with_real_ray(subject: Callable[[str], Subject]) -> None:
    report = await check_provider(lambda: subject("ray"))
    assert not report.broken, str(report)
