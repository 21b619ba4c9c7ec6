"""Ray's jobs over REST, against a small server that answers as Ray does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.adapters.runtime.ray import RayJobs
from orchestrator.ports.runtime import OVER, Head, Run, RunState, RunStatus, RuntimeFailure
from orchestrator.testing.fake_ray import FakeRay


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[FakeRay]:
    with FakeRay(tmp_path, stop_wait=0.3) as ray:
        yield ray


def head(ray: FakeRay) -> Head:
    return Head(ray.address, ray.token)


def a_run(code: str, **environment: str) -> Run:
    return Run(key="j-e1", entrypoint=(sys.executable, "-c", code), environment=environment)


async def ended(jobs: RayJobs, ray: FakeRay) -> RunStatus:
    for _ in range(200):
        status = await jobs.status(head(ray), "j-e1")
        if status is not None and status.state in OVER:
            return status
        await asyncio.sleep(0.05)
    raise AssertionError("the job did not end in 10 s")


async def test_an_entrypoint_runs_once_with_its_environment(ray: FakeRay) -> None:
    jobs = RayJobs()
    run = a_run("import os; print('it''s', os.environ['LR'], \"a 'b' $HOME\")", LR="0.1")
    await jobs.submit(head(ray), run)
    await jobs.submit(head(ray), run)
    assert await ended(jobs, ray) == RunStatus(RunState.SUCCEEDED, 0, "entrypoint ended with 0")
    assert ray.submissions == 2
    assert [chunk async for chunk in jobs.logs(head(ray), "j-e1")] == [b"its 0.1 a 'b' $HOME\n"]


async def test_an_exit_code_is_told(ray: FakeRay) -> None:
    jobs = RayJobs()
    await jobs.submit(head(ray), a_run("raise SystemExit(3)"))
    status = await ended(jobs, ray)
    assert (status.state, status.exit) == (RunState.FAILED, 3)


async def test_a_stop_reaches_the_entrypoint_itself(ray: FakeRay) -> None:
    jobs = RayJobs()
    code = "import signal,sys,time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(60)"
    await jobs.submit(head(ray), a_run(code))
    for _ in range(200):
        if [chunk async for chunk in jobs.logs(head(ray), "j-e1") if chunk]:
            break
        await asyncio.sleep(0.05)
    assert await jobs.stop(head(ray), "j-e1")
    status = await ended(jobs, ray)
    assert (status.state, status.exit) == (RunState.STOPPED, 7)
    assert not await jobs.stop(head(ray), "j-e1")


async def test_what_never_was(ray: FakeRay) -> None:
    jobs = RayJobs()
    assert await jobs.status(head(ray), "x-e1") is None
    assert not await jobs.stop(head(ray), "x-e1")
    assert [chunk async for chunk in jobs.logs(head(ray), "x-e1")] == []


async def test_a_wrong_token_and_a_dead_head_are_failures_not_ends(ray: FakeRay) -> None:
    jobs = RayJobs()
    with pytest.raises(RuntimeFailure, match="401"):
        await jobs.status(Head(ray.address, "wrong"), "j-e1")
    with pytest.raises(RuntimeFailure, match="no reply from Ray at http"):
        await jobs.submit(Head("http://127.0.0.1:1", "t"), a_run("pass"))


async def test_one_call_is_repeated_when_its_reply_is_lost() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        if len(seen) == 1:
            raise httpx.ReadError("reset")
        known = request.method == "GET"
        return httpx.Response(200, json={"status": "RUNNING"}) if known else httpx.Response(500, text="already exists")

    jobs = RayJobs(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    await jobs.submit(Head("http://head", "t"), a_run("pass"))
    assert seen == ["POST", "POST", "GET"]


async def test_a_refused_submission_is_told_with_its_reason() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404 if request.method == "GET" else 500, text="Traceback\nValueError: no agent")

    jobs = RayJobs(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    with pytest.raises(RuntimeFailure, match="500 to submitting j-e1: ValueError: no agent"):
        await jobs.submit(Head("http://head", "t"), a_run("pass"))
