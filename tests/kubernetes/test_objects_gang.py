"""How pods of a gang become a Ray cluster: what each starts, and that none waits for ever."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.rayhead.gang import Children, Gang, NotFormed, follow, lead, ray_command

VARIABLES = {
    "GANG_JOB": "run-1",
    "GANG_INDEX": "1",
    "GANG_SIZE": "2",
    "GANG_CPUS": "8",
    "GANG_GPUS": "4",
    "GANG_ADDRESS": "10.0.0.7",
}


@pytest.fixture
def children() -> Iterator[Children]:
    """With this process's own signal handlers back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Children()
    for number, handler in before.items():
        signal.signal(number, handler)


def a_gang(**changes: str) -> Gang:
    return Gang.read(VARIABLES | changes)


def test_a_follower_joins_the_head_by_its_host_name() -> None:
    command = ray_command(a_gang())
    assert "--address=run-1-0.run-1:6379" in command and "--head" not in command
    assert {"--num-gpus=4", "--num-cpus=8", "--node-ip-address=10.0.0.7", "--block"} <= set(command)


def test_the_head_shows_its_dashboard_to_its_own_pod_alone() -> None:
    command = ray_command(a_gang(GANG_INDEX="0"))
    assert "--head" in command and "--dashboard-host=127.0.0.1" in command


def test_a_follower_without_a_head_gives_up(children: Children) -> None:
    with pytest.raises(NotFormed, match=r"no head at run-1-0\.run-1:6379"):
        follow(a_gang(), children, time.monotonic() + 0.2)


def test_a_head_that_does_not_start_is_tried_again_and_given_up(children: Children, capfd: Any) -> None:
    broken = replace(a_gang(GANG_INDEX="0"), python="false")
    with pytest.raises(NotFormed, match="did not start in 3 attempts"):
        lead(broken, children, time.monotonic() + 30)
    assert capfd.readouterr().err.count("trying again") == 3


def test_the_exit_of_whom_it_waits_for_is_told_and_orphans_do_not_disturb(children: Children) -> None:
    children.start([sys.executable, "-c", ""])
    assert (
        children.wait(children.start([sys.executable, "-c", "import time; time.sleep(0.3); raise SystemExit(7)"])) == 7
    )


def test_a_signal_goes_to_whom_it_waits_for(children: Children) -> None:
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    assert children.wait(children.start([sys.executable, "-c", "import time; time.sleep(30)"])) == -signal.SIGTERM


def test_before_there_is_one_a_signal_ends_it(children: Children) -> None:
    with pytest.raises(SystemExit, match="79"):
        signal.raise_signal(signal.SIGTERM)
