"""This machine as a provider: answers by itself, runs jobs on heads that outlive the server, ends them by marker."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.providers.local import factory, files, launches
from orchestrator.adapters.providers.local.provider import LocalProvider
from orchestrator.model.offer import Charge, Confirmed, LaunchOrder, Reason, Rejected, SightingState
from orchestrator.model.wire import AttemptEnv
from orchestrator.ports.provider import Misconfigured
from orchestrator.rayhead.processes import members
from orchestrator.runlog.log import JobLog, read
from orchestrator.runlog.store import open_store
from orchestrator.testing.builders import an_offer, an_order, fresh_job, some_terms
from tests.local.conftest import until

Make = Callable[..., LocalProvider]
SMALL = some_terms(workers=1, gpus_per_worker=1, cpus=1, regions=("here",))


def small_order(attempt: AttemptEnv, **changes: Any) -> LaunchOrder:
    return an_order(attempt.job, attempt.epoch, workers=1, gpus=1, cpus=1, attempt=attempt.to_json(), **changes)


async def state(local: LocalProvider, key: str, want: SightingState) -> None:
    """Follow the feed until the launch is seen so."""
    cursor = None
    for _ in range(100):
        seen = await local.observe(cursor, 500_000)
        if any(s.key == key and s.state is want for s in seen.sightings):
            return
        cursor = seen.cursor
    raise AssertionError(f"{key} never became {want}")


def marked(folder: Path, key: str) -> set[int]:
    return members(f"ORCHESTRATOR_LOCAL_LAUNCH={folder / 'state' / key}")


async def test_it_answers_in_the_receipt_while_there_is_room(local: Make) -> None:
    p = local()
    terms = some_terms(workers=1, gpus_per_worker=6, cpus=1)
    [first, second] = await p.place_offers([an_offer(n=1, terms=terms), an_offer(n=2, terms=terms)])
    assert (
        first.answer.accepted
        and first.answer.terms_hash == an_offer(terms=terms).terms_hash
        and first.answer.price == 0
    )
    assert (second.answer.accepted, second.answer.reason) == (False, Reason.CAPACITY)
    await p.withdraw([first.offer])
    assert [n.kind for n in (await p.observe(None, 0)).notices] == ["capacity"]
    [third] = await p.place_offers([an_offer(n=3, terms=terms)])
    assert third.answer.accepted


async def test_of_an_elastic_job_it_takes_what_there_is_room_for(local: Make) -> None:
    p = local(gpus=6)
    terms = some_terms(min_workers=1, workers=4, gpus_per_worker=2, cpus=1)
    [first, second] = await p.place_offers([an_offer(n=n, terms=terms) for n in (1, 2)])
    assert (first.answer.accepted, first.answer.workers) == (True, 3)
    assert (second.answer.accepted, second.answer.reason) == (False, Reason.CAPACITY)


async def test_a_job_gets_the_gpus_that_the_server_is_shown_and_no_others(
    local: Make, attempt: Callable[..., AttemptEnv], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    p, orders = local(gpus=2), [small_order(attempt(fresh_job())) for _ in range(3)]
    assert [type(reply) for reply in await p.launch(orders)] == [Confirmed, Confirmed, Rejected]
    made = [files.read(folder / "state" / order.key / files.LAUNCH) for order in orders[:2]]
    assert [launch["environment"]["CUDA_VISIBLE_DEVICES"] for launch in made] == ["4", "5"]


async def test_what_the_machine_has_not_is_declined_as_spec(local: Make) -> None:
    [receipt] = await local(gpus=0).place_offers([an_offer()])
    assert receipt.answer.reason is Reason.SPEC and "has 8 CPUs and 0 GPUs" in receipt.answer.detail


async def test_a_job_runs_to_its_end_and_its_head_is_ended_by_a_stop(
    local: Make, attempt: Callable[..., AttemptEnv], folder: Path
) -> None:
    p, env = local(), attempt(fresh_job(), command=("sh", "-c", "echo hello"))
    order = small_order(env)
    assert isinstance((await p.launch([order]))[0], Confirmed)
    await state(p, order.key, SightingState.ENDED)
    log = read(JobLog(open_store(env.store), "default", env.job)).state
    assert log.done is not None and log.done.exit == 0
    await p.stop([order.key])
    await state(p, order.key, SightingState.GONE)
    assert not marked(folder, order.key) and not (await p.list_ours()).sightings
    [bill] = (await p.observe(None, 0)).charges
    assert isinstance(bill, Charge) and bill.final and bill.microdollars == 0


async def test_a_server_started_again_finds_the_job_where_it_was(
    local: Make, attempt: Callable[..., AttemptEnv], folder: Path
) -> None:
    order = small_order(attempt(fresh_job()))
    before = local()
    await before.launch([order])
    await state(before, order.key, SightingState.RUNNING)
    agents = marked(folder, order.key)
    await before.aclose()
    after = local()
    assert [s.state for s in (await after.list_ours()).sightings] == [SightingState.RUNNING]
    assert await after.launch([order]) == await before.launch([order])
    assert agents <= marked(folder, order.key) and (await after.list_ours()).sightings[0].ledger == "ledger-1"


async def test_a_launch_cut_off_before_its_keeper_started_is_made_good(
    local: Make, attempt: Callable[..., AttemptEnv], folder: Path
) -> None:
    order, before = small_order(attempt(fresh_job())), local()
    (folder / "state" / order.key).mkdir(parents=True)
    files.write(folder / "state" / order.key / files.LAUNCH, before._document(order))
    after = local()
    assert [s.state for s in (await after.list_ours()).sightings] == [SightingState.PROVISIONING]
    await state(after, order.key, SightingState.RUNNING)


async def test_when_the_keeper_is_killed_nothing_of_the_launch_stays(
    local: Make, attempt: Callable[..., AttemptEnv], folder: Path
) -> None:
    order, p = small_order(attempt(fresh_job())), local()
    await p.launch([order])
    await state(p, order.key, SightingState.RUNNING)
    keeper = p._launches._keepers[0]
    os.kill(keeper.pid, signal.SIGKILL)
    keeper.wait()
    await state(p, order.key, SightingState.GONE)
    assert not marked(folder, order.key)
    assert not Path(files.read(folder / "state" / order.key / files.SCRATCH)).exists()


async def test_what_a_killed_agent_leaves_goes_with_its_launch_and_not_before(
    local: Make, attempt: Callable[..., AttemptEnv], folder: Path
) -> None:
    saved = 'touch "$ORCHESTRATOR_WORK_DIR/checkpoint"; exec sleep 600'
    env, p = attempt(fresh_job(), command=("sh", "-c", saved)), local()
    order = small_order(env)
    await p.launch([order])
    await state(p, order.key, SightingState.RUNNING)
    scratch = Path(files.read(folder / "state" / order.key / files.SCRATCH))
    await until(lambda: [*scratch.glob(f"{order.key}-*/checkpoint")])
    [agent] = [pid for pid in marked(folder, order.key) if named(pid, "-m orchestrator.agent\0")]
    os.kill(agent, signal.SIGKILL)
    await state(p, order.key, SightingState.ENDED)
    assert [*scratch.glob(f"{order.key}-*/checkpoint")]
    await p.stop([order.key])
    await state(p, order.key, SightingState.GONE)
    assert not scratch.exists() and not [*Path(tempfile.gettempdir()).glob(f"{order.key}-*")]


def named(pid: int, pattern: str) -> bool:
    """Whether a process's command line holds this; arguments end with a NUL."""
    return pattern.replace(" ", "\0") in Path(f"/proc/{pid}/cmdline").read_text()


@pytest.fixture
async def over(local: Make, attempt: Callable[..., AttemptEnv], folder: Path) -> tuple[LocalProvider, Path]:
    """A launch that was told to be gone, and its folder."""
    order, p = small_order(attempt(fresh_job())), local()
    launch = folder / "state" / order.key
    launch.mkdir(parents=True)
    files.write(launch / files.LAUNCH, p._document(order))
    files.write(launch / files.GONE, {"at": time.time_ns() // 1000, "why": "stopped"})
    await state(p, order.key, SightingState.GONE)
    return p, launch


async def test_a_launch_that_is_gone_is_not_read_again(over: tuple[LocalProvider, Path]) -> None:
    p, launch = over
    (launch / files.LAUNCH).write_text("nobody reads this")
    assert not (await p.list_ours()).sightings and launch.exists()


async def test_after_a_week_it_is_forgotten_while_the_server_runs(
    over: tuple[LocalProvider, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    p, launch = over
    monkeypatch.setattr(launches, "KEPT_S", 0)
    assert not (await p.list_ours()).sightings and not launch.exists()


async def test_a_launch_that_was_forgotten_halfway_is_not_started_again(
    over: tuple[LocalProvider, Path], local: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    p, launch = over
    monkeypatch.setattr(launches, "KEPT_S", 0)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: (path / files.GONE).unlink())
    await p.list_ours()
    assert not (await local().list_ours()).sightings and not (launch / "keeper.log").exists()


async def test_requirements_that_are_not_installed_reject_the_launch(
    local: Make, attempt: Callable[..., AttemptEnv]
) -> None:
    order = small_order(attempt(fresh_job()), requirements=("msgspec", "no-such-package==1.0"))
    [reply] = await local().launch([order])
    assert reply == Rejected(order.key, Reason.SPEC, detail="not installed here: no-such-package==1.0")


async def test_without_an_interpreter_it_says_so_with_a_remedy(local: Make) -> None:
    p = local(python="/nowhere/python")
    [lacking] = await p.check()
    assert "remedy" in lacking
    with pytest.raises(Misconfigured, match="no interpreter"):
        await p.place_offers([an_offer(terms=SMALL)])


def test_an_unknown_connection_field_is_refused(local: Make) -> None:
    with pytest.raises(Misconfigured, match="unknown connection field colour"):
        local(colour="red")
    assert factory.__doc__


async def test_the_state_of_a_launch_is_for_its_owner_alone(
    local: Make, attempt: Callable[..., AttemptEnv], folder: Path
) -> None:
    order, p = small_order(attempt(fresh_job())), local()
    await p.launch([order])
    await state(p, order.key, SightingState.RUNNING)
    for name in ("launch.json", "head.json"):
        assert (folder / "state" / order.key / name).stat().st_mode & 0o077 == 0
