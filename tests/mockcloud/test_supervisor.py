"""A cluster's processes end with their head, on request, and with their cloud, however that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.mockcloud.processes import MARKER, cluster_of, kill_all, members

HEAD = "import subprocess,time; subprocess.Popen(['setsid','sleep','600'],start_new_session=True); time.sleep({})"
CLOUD = (
    "import os,subprocess,sys,time;"
    "subprocess.Popen([sys.executable,'-m','orchestrator.mockcloud.supervisor','{0}',str(os.getpid()),'{1}','--',"
    "sys.executable,'-c',{2!r}],env={{**os.environ,'{3}':'{0}'}},start_new_session=True);time.sleep(600)"
)


def start(name: str, folder: Path, head_lives: float) -> subprocess.Popen[bytes]:
    """A process that plays the cloud, with a supervised head that has a stray child."""
    folder.mkdir()
    code = CLOUD.format(name, folder, HEAD.format(head_lives), MARKER)
    return subprocess.Popen([sys.executable, "-c", code])


def until(name: str, count: int) -> set[int]:
    """The cluster's processes once there are so many, or after 15 s."""
    deadline = time.monotonic() + 15
    while len(found := members(name)) != count and time.monotonic() < deadline:
        os.sched_yield()
        subprocess.run(["sleep", "0.05"], check=True)
    return found


def test_all_end_when_the_cloud_is_killed(tmp_path: Path) -> None:
    cloud = start("t-cloud", tmp_path / "f", 600)
    assert len(until("t-cloud", 3)) == 3
    cloud.kill()
    cloud.wait()
    assert until("t-cloud", 0) == set()
    assert not (tmp_path / "f").exists()


def test_strays_end_with_their_head(tmp_path: Path) -> None:
    cloud = start("t-head", tmp_path / "f", 0.5)
    assert until("t-head", 3)
    assert until("t-head", 0) == set()
    cloud.kill()
    cloud.wait()


def test_one_cluster_is_killed_whole_and_no_other(tmp_path: Path) -> None:
    one, two = f"t-one-{os.getpid()}", f"t-two-{os.getpid()}"
    clouds = [start(name, tmp_path / name, 600) for name in (one, two)]
    try:
        assert len(until(one, 3)) == len(until(two, 3)) == 3
        assert {cluster_of(pid) for pid in members(one)} == {one}
        assert kill_all(one)
        assert (len(members(one)), len(members(two))) == (0, 3)
    finally:
        for cloud in clouds:
            cloud.send_signal(signal.SIGKILL)
            cloud.wait()
    assert until(two, 0) == set()
