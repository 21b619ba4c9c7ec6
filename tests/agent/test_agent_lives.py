"""Whole lives of real agents on a folder: what they write, and that user code ends when it must and not before."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import time
import zipfile

import pytest

from orchestrator.agent.processes import snapshot
from orchestrator.model.wire import Done, Isolation, Release
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.log import read_beat
from orchestrator.runlog.paths import out, package, progress
from orchestrator.runlog.shipping import read_chunks

from .conftest import FAST, JOB, LOOP, SLACK_MS, Agent, World, until

DEAF = f"signal.signal(signal.SIGTERM, lambda *_: None)\n{LOOP}"  # only SIGKILL ends it


def guard_of(agent: Agent) -> int:
    (guard,) = [p.pid for p in snapshot().values() if p.parent == agent.process.pid]
    return guard


def lives(pid: int) -> bool:
    process = snapshot().get(pid)
    return process is not None and process.state not in "ZX"


def test_done(world: World) -> None:
    agent = world.launch("print('hello'); witness(1); training.report(step=1, loss=0.5)")
    assert agent.wait() == 0
    assert world.kinds == ["Claim", "Start", "Done"]
    assert isinstance(world.last, Done) and world.last.exit == 0 and world.last.ran_ms > 0
    assert read_chunks(world.log.store, out("default", JOB, 1))[0] == b"hello\n"
    assert b'"loss": 0.5' in read_chunks(world.log.store, progress("default", JOB, 1))[0]
    assert read_beat(world.log, 1).n > 0


def test_the_users_own_failure_completes_the_job(world: World) -> None:
    assert world.launch("raise ValueError('a bug')").wait() == 1
    assert isinstance(world.last, Done)
    assert (world.last.exit, world.last.result) == (1, "ValueError: a bug")


def test_a_command_that_cannot_start_is_the_users_failure(world: World) -> None:
    assert world.launch(command=("no-such-program",)).wait() == 127
    assert isinstance(world.last, Done) and "no-such-program" in (world.last.result or "")
    said = read_chunks(world.log.store, out("default", JOB, 1))[0]
    assert b"cannot be started" in said and b"no-such-program" in said


def test_an_agent_whose_disk_is_full_loses_what_it_prints_and_nothing_else(world: World) -> None:
    seconds = 1.5 * FAST.limit_ms / 1000
    code = f"end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: print('x'); witness(1); time.sleep(0.02)"
    with open("/dev/full", "wb") as full:
        agent = world.launch(code, printed=full)
    assert agent.wait() == 0
    assert isinstance(world.last, Done) and world.last.ran_ms >= 1000 * seconds
    assert read_chunks(world.log.store, out("default", JOB, 1))[0] == b"x\n" * len(world.witness())


def test_an_agent_that_cannot_say_what_is_wrong_writes_it_into_the_log(world: World) -> None:
    with open("/dev/full", "wb") as full:
        assert world.launch(package="0" * 64, printed=full).wait() == 78
    assert isinstance(world.last, Done) and "is not in the store" in (world.last.result or "")


def packed(world: World, *names: str, size: int = 1) -> str:
    """A package at the store, deflated; its digest."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "x" * size)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    world.log.store.put(package("default", digest), buffer.getvalue())
    return digest


def test_a_package_that_cannot_be_unpacked_ends_the_job_and_says_why_in_its_output(world: World) -> None:
    assert world.launch(package=packed(world, "a", "a/b")).wait() == 78
    assert world.kinds == ["Claim", "Done"]
    assert b"cannot be unpacked" in read_chunks(world.log.store, out("default", JOB, 1))[0]


def test_a_machine_without_room_for_the_package_is_given_up_and_the_job_is_not(world: World) -> None:
    small = ("sh", "-c", 'ulimit -f 32; exec "$@"', "sh")  # 16 KiB a file
    assert world.launch(package=packed(world, "a", size=1 << 20), by=small).wait() == 75
    assert isinstance(world.last, Release) and (world.last.why, world.last.gone) == ("lost_node", True)
    assert b"File too large" in read_chunks(world.log.store, out("default", JOB, 1))[0]


def test_killed_by_somebody_else_is_a_release(world: World) -> None:
    agent = world.launch("os.kill(os.getpid(), signal.SIGKILL)")
    assert agent.wait() == 75
    assert isinstance(world.last, Release) and (world.last.why, world.last.gone) == ("killed", True)


def test_a_stop_ends_user_code_within_its_grace(world: World) -> None:
    agent = world.launch(DEAF)
    world.running()
    world.stop(1, grace_ms=300)
    stopped_ms = boottime_ms()
    assert agent.wait() == 75
    assert isinstance(world.last, Release) and (world.last.why, world.last.gone) == ("stopped", True)
    assert world.last_step_ms() < stopped_ms + 300 + SLACK_MS


def test_user_code_that_asked_learns_how_long_it_has(world: World) -> None:
    code = "while (left := training.stopping()) is None: witness(1); time.sleep(0.02)\nprint('left', left > 0)"
    agent = world.launch(code)
    world.running()
    world.stop(1, grace_ms=2000)
    assert agent.wait() == 75
    assert b"left True" in read_chunks(world.log.store, out("default", JOB, 1))[0]


def test_user_code_that_obeys_before_the_agent_knows_of_the_stop_has_not_completed_the_job(world: World) -> None:
    code = "(Path(os.environ['ORCHESTRATOR_WORK_DIR']) / 'told').touch()"  # as `stopping` does before it says so
    agent = world.launch(f"import os\nfrom pathlib import Path\n{code}")
    assert agent.wait() == 75
    assert isinstance(world.last, Release) and world.last.why == "limit"


DRIVER = """
import types
def init():
    def sigterm_handler(signum, frame): sys.exit(signum)
    signal.signal(signal.SIGTERM, sigterm_handler)
sigterm = types.FunctionType(init.__code__, {**globals(), "__name__": "ray._private.worker"}, "init")
sigterm()
"""
"""What `ray.init` does to SIGTERM in a driver."""


def test_a_ray_driver_that_asked_is_not_ended_by_the_handler_of_ray(world: World) -> None:
    agent = world.launch(f"{DRIVER}while training.stopping() is None: witness(1); time.sleep(0.02)\nprint('asked')")
    world.running()
    world.stop(1, grace_ms=2000)
    assert agent.wait() == 75
    assert b"asked" in read_chunks(world.log.store, out("default", JOB, 1))[0]


def test_sigterm_to_the_agent_is_a_stop(world: World) -> None:
    agent = world.launch()
    world.running()
    agent.process.terminate()
    assert agent.wait() == 75
    assert isinstance(world.last, Release) and world.last.why == "stopped"


def test_max_runtime(world: World) -> None:
    assert world.launch(max_runtime_left_ms=700).wait() == 75
    assert isinstance(world.last, Release) and world.last.why == "max_runtime"
    assert world.last.ran_ms >= 700


def test_a_fence_ends_user_code_within_grace_and_nothing_more_is_written(world: World) -> None:
    agent = world.launch(DEAF)
    world.running()
    world.fence(2)
    fenced_ms = boottime_ms()
    assert agent.wait() == 76
    assert world.last_step_ms() < fenced_ms + FAST.check_ms + FAST.grace_ms + SLACK_MS
    assert world.kinds == ["Claim", "Start", "Fence"]
    assert agent.children() == set()


@pytest.mark.fault("checkpoint store down")
def test_a_store_that_is_away_for_half_of_limit_stops_nothing(world: World) -> None:
    agent = world.launch()
    world.running()
    world.take_store_away()
    time.sleep(FAST.limit_ms / 2000)
    world.give_store_back()
    at_ms = boottime_ms()
    until(lambda: world.last_step_ms() > at_ms + FAST.limit_ms)
    assert agent.process.poll() is None


@pytest.mark.fault("data plane lost while the API is fine", "checkpoint store down")
def test_a_store_that_stays_away_ends_user_code_after_limit_not_before(world: World) -> None:
    agent = world.launch(DEAF)
    world.running()
    world.take_store_away()
    away_ms = boottime_ms()
    until(lambda: world.still())
    assert away_ms + FAST.limit_ms - 2 * FAST.check_ms <= world.last_step_ms()
    assert world.last_step_ms() <= away_ms + FAST.limit_ms + FAST.grace_ms + SLACK_MS
    world.give_store_back()
    assert agent.wait() == 75
    assert isinstance(world.last, Release) and (world.last.why, world.last.gone) == ("limit", True)


def test_without_a_limit_nothing_stops_by_itself(world: World) -> None:
    agent = world.launch(isolation=Isolation(check_ms=50, limit_ms=None, grace_ms=400))
    world.running()
    world.take_store_away()
    time.sleep(2.5)
    assert not world.still()
    world.give_store_back()
    world.stop(1)
    assert agent.wait() == 75


@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_without_its_agent_the_guard_ends_user_code(world: World, sent: signal.Signals) -> None:
    agent = world.launch(DEAF)
    world.running()
    os.kill(agent.process.pid, sent)
    at_ms = boottime_ms()
    until(lambda: world.still())
    bound = FAST.limit_ms + FAST.grace_ms if sent is signal.SIGSTOP else FAST.grace_ms
    assert world.last_step_ms() <= at_ms + bound + SLACK_MS
    os.kill(agent.process.pid, signal.SIGCONT)
    if sent is signal.SIGSTOP:
        assert agent.wait() == 75
        assert isinstance(world.last, Release) and world.last.why == "limit"


@pytest.mark.fault("agent frozen past its limit")
def test_a_frozen_agent_that_wakes_behind_a_fence_writes_nothing(world: World) -> None:
    agent = world.launch()
    world.running()
    os.kill(agent.process.pid, signal.SIGSTOP)
    world.fence(2)
    until(lambda: world.still())
    before = sorted(world.log.store.list("default"))
    os.kill(agent.process.pid, signal.SIGCONT)
    assert agent.wait() == 76
    assert world.kinds == ["Claim", "Start", "Fence"]
    assert sorted(world.log.store.list("default")) == before


@pytest.mark.fault("guard frozen or killed")
def test_a_guard_that_is_killed_takes_user_code_with_it(world: World) -> None:
    agent = world.launch(DEAF)
    world.running()
    guard = guard_of(agent)
    os.kill(guard, signal.SIGKILL)
    assert agent.wait() == 75
    assert isinstance(world.last, Release) and (world.last.why, world.last.gone) == ("killed", True)


@pytest.mark.fault("guard frozen or killed")
def test_a_frozen_guard_is_replaced_by_the_agent(world: World) -> None:
    agent = world.launch(DEAF)
    world.running()
    guard = guard_of(agent)
    os.kill(guard, signal.SIGSTOP)
    world.fence(2)
    assert agent.wait() == 76
    assert agent.children() == set()


@pytest.mark.fault("launched twice under one key")
def test_a_duplicate_launch_exits_without_running(world: World) -> None:
    first = world.launch()
    world.running()
    assert world.launch().wait() == 76
    assert len({line["pid"] for line in world.witness()}) == 1
    assert first.process.poll() is None


def test_an_epoch_without_its_fence_runs_nothing(world: World) -> None:
    assert world.launch(epoch=2).wait() == 76
    assert world.kinds == []


def test_a_stop_before_the_claim_runs_nothing(world: World) -> None:
    world.stop(1)
    assert world.launch().wait() == 76
    assert world.witness() == []


def test_a_newcomer_waits_for_clear(world: World) -> None:
    old = world.launch()
    world.running(1)
    world.fence(2)
    new = world.launch(epoch=2)
    assert old.wait() == 76
    assert world.witness(2) == []
    world.clear(2)
    world.running(2)
    assert world.state.starts[2].waited is False
    assert world.last_step_ms(1) < world.witness(2)[0]["boot_ms"]
    assert new.process.poll() is None


def test_a_newcomer_that_nobody_clears_waits_out_the_old_limit(world: World) -> None:
    old = world.launch(DEAF)
    world.running(1)
    world.fence(2)
    claimed_ms = boottime_ms()
    world.launch("witness(1)", epoch=2)
    started_ms = world.running(2)
    assert started_ms >= claimed_ms + FAST.limit_ms + FAST.grace_ms + 5000
    assert world.state.starts[2].waited is True
    assert old.wait() == 76


def test_a_finished_job_is_never_run_again(world: World) -> None:
    world.launch("witness(1)").wait()
    world.fence(2)
    assert world.kinds == ["Claim", "Start", "Done"]
    assert world.launch(epoch=2).wait() == 76


def test_children_of_user_code_are_ended_by_their_marker(world: World) -> None:
    agent = world.launch("subprocess.Popen(['setsid', 'sleep', '300']); witness(1)")
    assert agent.wait() == 0
    assert agent.children() == set()


HIDDEN = """
start = "env -i setsid sleep 60 > /dev/null 2>&1 & echo $!"
hidden = int(subprocess.check_output(["sh", "-c", start]))
witness(hidden)
"""
"""Leaves a process that has no marker, a session of its own and no parent; its pid is the step."""


def test_a_process_that_hides_is_dead_before_the_release(world: World) -> None:
    world.launch(f"{HIDDEN}os.kill(os.getpid(), signal.SIGKILL)")
    until(lambda: world.kinds[-1:] == ["Release"])
    assert isinstance(world.last, Release) and world.last.gone
    assert not lives(world.witness()[0]["step"])


@pytest.mark.fault("guard frozen or killed")
@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_hides_outlives_no_guard(world: World, sent: signal.Signals) -> None:
    agent = world.launch(HIDDEN + DEAF)
    world.running()
    os.kill(guard_of(agent), sent)
    world.fence(2)
    assert agent.wait() == 76
    assert not lives(world.witness()[0]["step"])


def test_a_process_that_hides_is_ended_by_the_guard_where_the_agent_is_dead(world: World) -> None:
    agent = world.launch(HIDDEN + DEAF)
    world.running()
    agent.process.kill()
    until(lambda: not lives(world.witness()[0]["step"]))


def test_what_was_below_the_agent_before_it_began_is_not_the_attempts(world: World) -> None:
    file = world.root / "mount"
    agent = world.launch("witness(1)", by=("sh", "-c", f'sleep 60 & echo $! > {file}; exec "$@"', "sh"))
    assert agent.wait() == 0
    mount = int(file.read_text())
    assert lives(mount)
    os.kill(mount, signal.SIGKILL)


def test_user_code_that_holds_the_gil_is_ended_by_faulthandler(world: World) -> None:
    held = "training.resume(); witness(1)\nimport ctypes; ctypes.PyDLL(None).sleep(60)"
    agent = world.launch(held)
    begun_ms = world.running()
    assert agent.wait() == 75
    assert isinstance(world.last, Release) and world.last.why == "limit"
    assert boottime_ms() < begun_ms + FAST.limit_ms + FAST.grace_ms + 3000
