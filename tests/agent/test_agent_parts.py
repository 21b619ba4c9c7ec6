"""The agent's parts as tables: what an exit means, packages, environments, deadlines; what loading it costs."""

from __future__ import annotations

import errno
import hashlib
import json
import queue
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from orchestrator.agent import package
from orchestrator.agent.endings import Ended, IsDone, IsReleased, conclude
from orchestrator.agent.environment import user_environment
from orchestrator.agent.processes import is_marked, kill_all
from orchestrator.agent.running import BACKUP_MS, Bounds, Order, overdue, wanted_order
from orchestrator.model.wire import ENV_KEY, AttemptEnv, Isolation, Stop, StoreRef
from orchestrator.runlog.deadlines import Deadlines
from orchestrator.runlog.log import JobLog, Reading
from orchestrator.runlog.rules import Verdict, VerdictWhy
from orchestrator.runlog.watcher import Watcher
from orchestrator.testing.stores import MemoryStore

from .conftest import until

DIED = "Traceback (most recent call last):\n  File\nray.exceptions.ActorDiedError: The actor died unexpectedly"
CREATION = "ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task, ..."
NODE = "ray.exceptions.ActorDiedError: The actor died.\n\tclass_name: W\nThe actor is dead because its node has died."
TASK = "ray.exceptions.RayTaskError(ValueError): ray::f()\n  File\nValueError: mine"
RAISED_LATER = f"{DIED}\n\nDuring handling of the above exception, another exception occurred:\n\nValueError: mine"


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (Ended(0), IsDone(0)),
        (Ended(3, "a\nlast words\n"), IsDone(3, "last words")),
        (Ended(1), IsDone(1)),
        (Ended(0, ours="stopped"), IsReleased("stopped")),
        (Ended(-15, ours="max_runtime"), IsReleased("max_runtime")),
        (Ended(-9), IsReleased("killed")),
        (Ended(137), IsReleased("killed")),
        (Ended(None), IsReleased("killed")),
        (Ended(-15, past_limit=True), IsReleased("limit")),
        (Ended(1, watchdog=True), IsReleased("limit")),
        (Ended(0, past_limit=True), IsDone(0)),
        (Ended(-9, stop_seen=True), IsReleased("stopped")),
        (Ended(1, DIED, stop_seen=True), IsReleased("stopped")),
        (Ended(1, TASK, stop_seen=True), IsDone(1, "ValueError: mine")),
        (Ended(0, stop_seen=True), IsDone(0)),
        (Ended(0, stop_seen=True, told=True), IsReleased("stopped")),
        (Ended(0, told=True), IsReleased("limit")),
        (Ended(1, DIED), IsReleased("lost_worker")),
        (Ended(1, NODE), IsReleased("lost_node")),
        (Ended(1, "ray.exceptions.NodeDiedError: gone"), IsReleased("lost_node")),
        (Ended(1, "ray.exceptions.OutOfMemoryError: Task was killed"), IsReleased("lost_worker")),
        (Ended(1, "ray.exceptions.RayTaskError(ActorDiedError): x"), IsReleased("lost_worker")),
        (Ended(1, "[core] Failed to connect to GCS within 60 seconds."), IsReleased("lost_node")),
        (Ended(1, CREATION), IsDone(1, CREATION)),
        (Ended(1, TASK), IsDone(1, "ValueError: mine")),
        (Ended(1, RAISED_LATER), IsDone(1, "ValueError: mine")),
        (Ended(1, "torch.OutOfMemoryError: CUDA"), IsDone(1, "torch.OutOfMemoryError: CUDA")),
    ],
)
def test_what_an_exit_means(ended: Ended, outcome: IsDone | IsReleased) -> None:
    assert conclude(ended) == outcome


# ---- packages


def packed(tmp_path: Path, *names: str, mode: int = stat.S_IFREG | 0o644, size: int = 1) -> Path:
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            out.writestr(info, b"x" * size)
    return archive


def test_a_package_is_unpacked_with_its_folders_and_modes(tmp_path: Path) -> None:
    package.unpack(packed(tmp_path, "a/run.sh", mode=stat.S_IFREG | 0o755), tmp_path / "code")
    assert (tmp_path / "code/a/run.sh").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../x", 0o100644), ("/x", 0o100644), ("a/../../x", 0o100644), ("a\\b", 0o100644), ("link", stat.S_IFLNK | 0o777)],
)
def test_a_package_cannot_leave_its_folder(tmp_path: Path, name: str, mode: int) -> None:
    with pytest.raises(package.BadPackage):
        package.unpack(packed(tmp_path, name, mode=mode), tmp_path / "code")
    assert not (tmp_path / "code").exists()


def test_a_package_that_grows_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(package.BadPackage, match="unpacks to more than"):
        package.unpack(packed(tmp_path, "a", "b", size=600), tmp_path / "code", cap_bytes=1000)


@pytest.mark.parametrize(
    "names",
    [("a", "a/b"), ("a/b", "a"), ("a", "a/b/"), ("a/", "a"), ("x" * 256,), ("abc/" * 1500,), ("",)],
    ids=lambda names: " ".join(names)[:10],
)
def test_names_that_no_folder_can_hold_are_the_packages_fault(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(package.BadPackage):
        package.unpack(packed(tmp_path, *names), tmp_path / "code")


def test_a_damaged_package_is_the_packages_fault(tmp_path: Path) -> None:
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a", "print(1)\n" * 100)
    data = archive.read_bytes()
    archive.write_bytes(data[:31] + b"\xff" * 8 + data[39:])
    with pytest.raises(package.BadPackage, match="not a readable zip"):
        package.unpack(archive, tmp_path / "code")


def test_a_package_is_what_its_name_says(tmp_path: Path) -> None:
    store, archive = MemoryStore(), tmp_path / "got.zip"
    digest = hashlib.sha256(b"good").hexdigest()
    with pytest.raises(package.BadPackage, match="is not in the store"):
        package.fetch(store, "p", digest, archive)
    store.put(f"p/packages/{digest}.zip", b"bad")
    with pytest.raises(package.BadPackage, match="has other bytes"):
        package.fetch(store, "p", digest, archive)
    store.put(f"p/packages/{digest}.zip", b"good")
    package.fetch(store, "p", digest, archive)
    assert archive.read_bytes() == b"good"


# ---- the user's environment

ENV = AttemptEnv(
    job="01ARYZ6S410000000000000000",
    project="p",
    epoch=2,
    provider="oracle",
    region="us-1",
    store=StoreRef(name="m", url="file:///s", secrets={"secret_access_key": "env:KEY"}),
    isolation=Isolation(),
    command=("python",),
    environment={"LR": "0.1"},
)


def environment(**base: str) -> dict[str, str]:
    return user_environment(ENV, base, "n", Path("/w"), Path("/venv/bin/python"))


def test_user_code_is_told_where_it_runs() -> None:
    told = environment(PATH="/bin")
    assert told["PATH"] == "/venv/bin:/bin"
    assert told["LR"] == "0.1"
    assert told["ORCHESTRATOR_JOB_ID"] == told["WANDB_RUN_ID"] == ENV.job
    assert (told["ORCHESTRATOR_EPOCH"], told["ORCHESTRATOR_PROVIDER"], told["ORCHESTRATOR_REGION"]) == (
        "2",
        "oracle",
        "us-1",
    )


def test_a_run_id_that_somebody_set_is_kept() -> None:
    assert environment(WANDB_RUN_ID="mine")["WANDB_RUN_ID"] == "mine"


def test_ray_workers_inherit_the_watchdog_and_what_the_submitter_gave() -> None:
    given = json.dumps({"runtime_env": {"env_vars": {"A": "1"}, "pip": []}, "metadata": {"m": "2"}})
    config = json.loads(environment(KEY="secret", RAY_JOB_CONFIG_JSON_ENV_VAR=given)["RAY_JOB_CONFIG_JSON_ENV_VAR"])
    assert config["metadata"] == {"m": "2"}
    assert config["runtime_env"]["worker_process_setup_hook"] == "orchestrator.training.worker_setup"
    variables = config["runtime_env"]["env_vars"]
    assert (variables["A"], variables["LR"], variables["KEY"]) == ("1", "0.1", "secret")
    assert variables["ORCHESTRATOR_ATTEMPT_KEY"] == "01aryz6s410000000000000000-e2"


# ---- deadlines


def test_without_good_reads_the_end_comes_at_limit_and_the_kill_at_grace() -> None:
    deadlines = Deadlines(good_ms=0, limit_ms=100, grace_ms=20)
    assert not deadlines.term_due(99)
    deadlines.good(50)
    assert not deadlines.term_due(149) and deadlines.term_due(150)
    deadlines.good(140)
    assert deadlines.kill_ms() == 170, "a late read does not undo the end"


def test_a_read_made_after_the_limit_had_passed_is_too_late() -> None:
    deadlines = Deadlines(good_ms=0, limit_ms=100, grace_ms=20)
    deadlines.good(99)
    deadlines.good(199)
    assert deadlines.term_due(200) and deadlines.why == "limit" and deadlines.kill_ms() == 219


def test_a_stops_own_grace_holds_only_inside_the_limit() -> None:
    deadlines = Deadlines(good_ms=0, limit_ms=100, grace_ms=20)
    deadlines.end(10, 1000, "told")
    assert deadlines.kill_ms() == 120
    deadlines.end(30, 20, "told")
    assert deadlines.kill_ms() == 50


def test_without_a_limit_only_a_word_ends_it() -> None:
    deadlines = Deadlines(good_ms=0, limit_ms=None, grace_ms=20)
    assert not deadlines.term_due(10**9) and deadlines.kill_ms() is None
    deadlines.end(10, 5, "told")
    assert deadlines.term_due(10) and deadlines.kill_ms() == 15


def order(verdict: Verdict | None = None, before: Order | None = None, **said: bool) -> Order | None:
    bounds = Bounds(
        isolation=Isolation(),
        verdict=lambda: verdict,
        good=lambda reading: None,
        terminated=lambda: said.get("terminated", False),
        runtime_over=lambda: said.get("runtime_over", False),
        events=queue.Queue(),
    )
    return wanted_order(bounds, before, 5)


STOP = Verdict(VerdictWhy.STOPPED, 1, Stop(epoch=1, reason="cancel", grace_ms=7, id="x", term=1))
FENCED = Verdict(VerdictWhy.FENCED, 2)
LIMIT = Order("limit", 0, 30_000)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (order(), None),
        (order(STOP), Order("stopped", 5, 7)),
        (order(FENCED), Order(None, 5, 30_000)),
        (order(FENCED, LIMIT), Order(None, 5, 30_000)),
        (order(STOP, LIMIT), LIMIT),
        (order(runtime_over=True), Order("max_runtime", 5, 30_000)),
        (order(terminated=True), Order("stopped", 5, 30_000)),
    ],
)
def test_why_user_code_is_ended(wanted: Order | None, expected: Order | None) -> None:
    assert wanted == expected


def test_the_agent_kills_where_the_guard_should_long_have() -> None:
    bounds = Isolation(check_ms=1, limit_ms=100, grace_ms=20)
    assert not overdue(bounds, None, 0, 119 + BACKUP_MS) and overdue(bounds, None, 0, 120 + BACKUP_MS)
    assert overdue(bounds, Order("stopped", 0, 5), 10**6, 5 + BACKUP_MS)


# ---- processes


def test_who_has_no_time_to_wait_kills_all_the_same() -> None:
    sleeper = subprocess.Popen(["sleep", "60"], env={ENV_KEY: "no-time-e1"}, start_new_session=True)
    until(lambda: is_marked(sleeper.pid, "no-time-e1"))
    assert not kill_all("no-time-e1", within_s=0.0), "nobody has seen it dead"
    assert sleeper.wait(10) == -signal.SIGKILL


# ---- reading on


def test_a_hook_that_fails_ends_no_reading_and_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    read: list[Reading] = []

    def hook(reading: Reading) -> None:
        read.append(reading)
        raise OSError(errno.EMFILE, "too many open files")

    watcher = Watcher(JobLog(MemoryStore(), "p", ENV.job), check_ms=1)
    watcher.start(hook, print)
    until(lambda: len(read) > 2)
    watcher.stop()
    assert capfd.readouterr().err.count("Errno 24") == 1


# ---- what loading costs


@pytest.mark.parametrize("module", ["orchestrator.agent.__main__", "orchestrator.agent.guard", "orchestrator.training"])
def test_loading_stays_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('pydantic', 'msgspec', 'httpx', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["orchestrator.model.wire", "orchestrator.model.ids", "orchestrator.agent.guard"])
def test_some_need_the_standard_library_only(module: str) -> None:
    code = f"import sys, {module}; print({{m.split('.')[0] for m in sys.modules}} - set(sys.stdlib_module_names))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert "obstore" not in done.stdout and "orchestrator" in done.stdout
