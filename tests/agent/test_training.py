"""The training helper: in a job, beside its agent; in a worker process of its own, without one; and outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from orchestrator import training
from orchestrator.agent.environment import own_variables
from orchestrator.model.wire import AttemptEnv, Claim, Done, Isolation, Start
from orchestrator.runlog.checkpoints import restore
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.log import append_attempt, read

from .conftest import FAST, JOB, LOOP, PRELUDE, SLACK_MS, World

SAVE = """
import tempfile
def save(step):
    with tempfile.TemporaryDirectory() as folder:
        open(folder + "/weights", "w").write(str(step))
        training.report(step=step, loss=1 / step, checkpoint=folder)
"""
FROM = "found = training.resume(); first = 1 if found is None else int((found / 'weights').read_text()) + 1\n"

# ---- beside an agent


def test_the_next_attempt_resumes_behind_the_last_checkpoint(world: World) -> None:
    code = SAVE + FROM + "for step in range(first, first + 3): witness(step); save(step)\n"
    world.launch(code + "os.kill(os.getpid(), signal.SIGKILL)").wait()
    world.fence(2)
    world.clear(2)
    assert world.launch(code, epoch=2).wait() == 0
    assert [line["step"] for line in world.witness(1)] == [1, 2, 3]
    assert [line["step"] for line in world.witness(2)] == [4, 5, 6]
    assert [(c.epoch, c.step) for c in world.state.checkpoints] == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]


@pytest.mark.fault("checkpoint store down")
def test_a_checkpoint_waits_for_a_store_that_is_away(world: World) -> None:
    agent = world.launch(SAVE + "witness(1)\nwhile not os.path.exists(sys.argv[1] + '.go'): time.sleep(0.01)\nsave(1)")
    world.running()
    world.take_store_away()
    Path(f"{world.witness_file}.go").touch()
    time.sleep(FAST.limit_ms / 2000)
    world.give_store_back()
    assert agent.wait() == 0
    assert world.kinds == ["Claim", "Start", "Checkpoint", "Done"]


SHARD = """
from orchestrator import training
import os, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    open(folder + "/" + sys.argv[1], "w").write(os.environ["RANK"])
    training.report(step=5, checkpoint=folder, sharded=True)
"""


def shards(*names: str) -> str:
    """User code whose ranks each save a file of this name."""
    return f"""
        def rank(n, name):
            env = {{**os.environ, "RANK": str(n), "WORLD_SIZE": "{len(names)}"}}
            return subprocess.Popen([sys.executable, "-c", {SHARD!r}, name], env=env, stderr=subprocess.PIPE, text=True)
        ranks = [rank(n, name) for n, name in enumerate({names!r})]
        said = [one.communicate()[1].strip().partition("remedy: ")[2] for one in ranks]
        assert not any(one.returncode for one in ranks), said
    """


def test_shards_of_all_ranks_are_one_checkpoint(world: World) -> None:
    assert world.launch(shards("shard-0", "shard-1", "shard-2")).wait() == 0
    [checkpoint] = world.state.checkpoints
    whole = restore(world.log, world.state, world.root / "into", pytest.fail, store="main")
    assert whole is not None and whole.checkpoint == checkpoint
    assert {path.name: path.read_text() for path in whole.folder.iterdir()} == {f"shard-{n}": str(n) for n in range(3)}


def test_shards_of_one_name_are_refused_to_every_rank(world: World) -> None:
    assert world.launch(shards("model", "model", "other")).wait() == 1
    assert isinstance(world.last, Done) and str(world.last.result).count("put the rank into the name") == 3
    assert world.state.checkpoints == ()


def test_shards_of_ranks_that_nobody_names_are_refused(world: World) -> None:
    one = "import tempfile; training.report(step=1, checkpoint=tempfile.mkdtemp(), sharded=True)"
    assert world.launch(one).wait() == 1
    assert isinstance(world.last, Done) and "set RANK and WORLD_SIZE" in str(world.last.result)


def test_a_rank_without_its_shard_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 0 gave none"):
        training.report(step=1, sharded=True)


def test_steps_of_checkpoints_increase(world: World) -> None:
    assert world.launch(SAVE + "save(2); save(2)").wait() == 1
    assert isinstance(world.last, Done)
    assert world.last.result == "ValueError: checkpoint step 2 is not above 2, the last one"


def test_a_process_that_reads_no_log_cannot_save_behind_a_fence(world: World) -> None:
    agent = world.launch(
        SAVE + "witness(1)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\ntime.sleep(0.3)\nsave(1)"
    )
    world.running()
    world.fence(2)
    assert agent.wait() == 76
    assert world.state.checkpoints == ()


def test_a_worker_that_holds_the_gil_dies_and_takes_only_itself(world: World) -> None:
    worker = "from orchestrator import training; training.worker_setup(); import ctypes; ctypes.PyDLL(None).sleep(60)"
    agent = world.launch(f"witness(1); print('worker', subprocess.run([sys.executable, '-c', {worker!r}]).returncode)")
    begun_ms = world.running()
    assert agent.wait() == 0
    assert boottime_ms() < begun_ms + FAST.limit_ms + FAST.grace_ms + 3000


# ---- in a worker process that no agent ends


class Worker:
    """A process with the attempt's variables, as Ray starts one: claim and start are in the log, no agent is there."""

    def __init__(self, world: World, code: str, isolation: Isolation = FAST, nonce: str = "n") -> None:
        env = AttemptEnv(
            job=JOB,
            project="default",
            epoch=1,
            provider="p",
            region="r",
            store=world.ref,
            isolation=isolation,
            command=("x",),
        )
        state = read(world.log).state
        claim = Claim(epoch=1, provider="p", limit_ms=isolation.limit_ms, grace_ms=400, id="c", nonce="n")
        for entry in (claim, Start(epoch=1, waited=False, id="s", nonce="n")):
            state = append_attempt(world.log, state, 1, entry).state
        script = world.root / "worker.py"
        script.write_text(f"{PRELUDE}\ntraining.worker_setup()\n{code}")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(world.witness_file)],
            env={**os.environ, **own_variables(env, nonce, world.root), "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.DEVNULL,
        )


DEAF = f"signal.signal(signal.SIGTERM, lambda *_: None)\n{LOOP}"


@pytest.mark.parametrize(("code", "signalled"), [(LOOP, signal.SIGTERM), (DEAF, signal.SIGKILL)])
def test_a_worker_that_meets_a_fence_ends_itself(world: World, code: str, signalled: signal.Signals) -> None:
    worker = Worker(world, code)
    world.running()
    world.fence(2)
    at_ms = boottime_ms()
    assert worker.process.wait(10) == -signalled
    assert world.last_step_ms() < at_ms + FAST.check_ms + FAST.grace_ms + SLACK_MS


def test_a_worker_without_good_reads_ends_after_limit_not_before(world: World) -> None:
    worker = Worker(world, LOOP)
    world.running()
    world.take_store_away()
    away_ms = boottime_ms()
    assert worker.process.wait(10) == -signal.SIGTERM
    assert FAST.limit_ms - 100 <= world.last_step_ms() - away_ms <= FAST.limit_ms + SLACK_MS


@pytest.mark.fault("worker frozen past its limit")
def test_a_worker_that_was_frozen_past_its_limit_ends_when_it_wakes(world: World) -> None:
    worker = Worker(world, LOOP)
    world.running()
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep((FAST.limit_ms + FAST.grace_ms) / 1000 + 0.2)
    woken_ms = boottime_ms()
    worker.process.send_signal(signal.SIGCONT)
    assert worker.process.wait(10) != 0
    assert world.last_step_ms() < woken_ms + SLACK_MS


def test_a_worker_that_holds_the_gil_behind_a_fence_ends(world: World) -> None:
    worker = Worker(world, "witness(1); import ctypes; ctypes.PyDLL(None).sleep(60)")
    world.running()
    assert worker.process.wait(10) == 1
    assert "most recent call first" in (world.root / f"watchdog-{worker.process.pid}").read_text()


def test_a_worker_of_another_agents_attempt_runs_nothing(world: World) -> None:
    assert Worker(world, "witness(1)", nonce="other").process.wait(10) == 1
    assert world.witness() == []


def test_a_stop_bounds_a_worker_that_ignores_it(world: World) -> None:
    worker = Worker(world, "while training.stopping() is None: witness(1); time.sleep(0.02)\ntime.sleep(60)")
    world.running()
    world.stop(1, grace_ms=300)
    assert worker.process.wait(10) == -signal.SIGKILL
    assert (world.root / "told").exists()


# ---- outside a job


def test_outside_a_job_it_does_nothing(tmp_path: Path) -> None:
    assert training.resume() is None
    assert training.stopping() is None
    training.report(step=1, loss=0.5, checkpoint=tmp_path)
    training.worker_setup()


@pytest.mark.parametrize("rank", [0, 3])
def test_in_a_ray_train_loop_its_report_is_called_on_every_rank(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    reported: list[dict[str, float]] = []
    loop = types.ModuleType("ray.train")
    context = types.SimpleNamespace(get_world_rank=lambda: rank, get_world_size=lambda: 4)
    loop.get_context = lambda: context  # type: ignore[attr-defined]
    loop.report = reported.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.train", loop)
    training.report(step=7, loss=0.5)
    assert reported == [{"step": 7, "loss": 0.5}]
