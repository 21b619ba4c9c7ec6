"""How do the pods of one gang become a Ray cluster by themselves? `python3 -m orchestrator.rayhead.gang` in each.

Run as the first process of a container, where nothing else forms clusters. Index 0 starts the Ray head, waits until
all the others have joined, and runs our agent, whose exit is its own. The others join the head and stay until Ray ends:
what became of the attempt is never theirs to say. Every wait is bounded. Standard library only: it runs in the user's
image.

Environment: GANG_JOB (also the headless Service's name), GANG_INDEX, GANG_SIZE, GANG_CPUS, GANG_GPUS, GANG_ADDRESS
(this pod's), RAY_AUTH_TOKEN. Exit codes: the agent's at index 0, 0 at the others; 79 the gang did not form.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType

EXIT_NOT_FORMED = 79
FORM_S = 600.0
"""As long as the engine waits for a start: images may still be on their way to other machines."""
TRIES = 3
"""A head fails to start about once in eight under load."""
READY_S = 120.0
"""For a head or node that was started to answer: twenty times what a quiet machine takes."""
POLL_S = 0.5
PORT, DASHBOARD, HEALTH = 6379, 8265, 52365
"""Where a head listens for nodes, for its API (this pod only), and for questions of its health."""


class NotFormed(Exception):
    """The gang is not whole, for this reason; nothing of the user's has run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """This pod's place in it. `head`: the host name of index 0; `cpus`, `gpus`: per pod."""

    index: int
    size: int
    cpus: int
    gpus: int
    address: str
    head: str
    python: str = sys.executable

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Gang:
        """Raises KeyError or ValueError where a variable is missing or no number."""
        job = variables["GANG_JOB"]
        return cls(
            index=int(variables["GANG_INDEX"]),
            size=int(variables["GANG_SIZE"]),
            cpus=int(variables["GANG_CPUS"]),
            gpus=int(variables["GANG_GPUS"]),
            address=variables["GANG_ADDRESS"],
            head=f"{job}-0.{job}",
        )


def ray_command(gang: Gang) -> list[str]:
    """What starts Ray in this pod."""
    place = (
        ["--head", f"--port={PORT}", "--dashboard-host=127.0.0.1", f"--dashboard-port={DASHBOARD}", "--no-monitor"]
        if gang.index == 0
        else [f"--address={gang.head}:{PORT}"]
    )
    return [
        *(gang.python, "-c", "from ray.scripts.scripts import main; main()", "start", *place, "--block"),
        *(f"--node-ip-address={gang.address}", f"--num-cpus={gang.cpus}", f"--num-gpus={gang.gpus}"),
        *(f"--dashboard-agent-listen-port={HEALTH}", "--disable-usage-stats"),
    ]


class Children:
    """The processes that this one, the container's first, has started or been left with."""

    def __init__(self) -> None:
        """A SIGTERM from now on goes to `heir`, or ends us where there is none yet."""
        self.heir: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGTERM, self._told)
        signal.signal(signal.SIGINT, self._told)

    def start(self, command: list[str], **more: str) -> subprocess.Popen[bytes]:
        """One more."""
        return subprocess.Popen(command, env={**os.environ, **more}, stdin=subprocess.DEVNULL)

    def wait(self, child: subprocess.Popen[bytes]) -> int:
        """Until it has ended, its exit code; orphans that ended meanwhile are laid to rest."""
        self.heir = child
        while True:
            pid, status = os.wait()
            if pid == child.pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                return child.returncode

    def _told(self, number: int, _frame: FrameType | None) -> None:
        if self.heir is None:
            raise SystemExit(EXIT_NOT_FORMED)
        self.heir.send_signal(number)


def lead(gang: Gang, children: Children, until: float) -> int:
    """Index 0: the head, then the agent. Its exit code. Raises NotFormed."""
    _start_head(gang, children, until)
    _until(until, lambda: _alive() >= gang.size, lambda: f"{_alive()} of {gang.size} machines have joined")
    _say(f"{gang.size} machines have joined")
    agent = [gang.python, "-m", "orchestrator.agent"]
    return children.wait(children.start(agent, RAY_ADDRESS=f"{gang.address}:{PORT}"))


def _start_head(gang: Gang, children: Children, until: float) -> None:
    for _ in range(TRIES):
        head = children.start(ray_command(gang))
        try:
            _until(min(until, time.monotonic() + READY_S), _ready, lambda: "Ray's head is not ready", head)
            return
        except NotFormed as why:
            _say(f"{why}; trying again")
            head.kill()
            head.wait()
    raise NotFormed(f"Ray's head did not start in {TRIES} attempts")


def follow(gang: Gang, children: Children, until: float) -> int:
    """Any other index: join once the head is there, stay until Ray ends. Raises NotFormed."""
    while True:
        _until(until, lambda: _listens(gang.head), lambda: f"no head at {gang.head}:{PORT}")
        ray = children.start(ray_command(gang))
        try:
            _until(min(until, time.monotonic() + READY_S), _healthy, lambda: "Ray does not start here", ray)
        except NotFormed as why:
            _say(f"{why}; trying again")
            ray.kill()
            ray.wait()
        else:
            children.wait(ray)
            return 0


def _ready() -> bool:
    return _ask(DASHBOARD, "/api/version") is not None and _healthy()


def _healthy() -> bool:
    return _ask(HEALTH, "/api/local_raylet_healthz") is not None


def _alive() -> int:
    """Machines that Ray says are alive; 0 where it does not say."""
    reply = _ask(DASHBOARD, "/nodes?view=summary")
    try:
        machines = json.loads(reply or "{}")["data"]["summary"]
        return sum(1 for one in machines if one["raylet"]["state"] == "ALIVE")
    except (ValueError, KeyError, TypeError):
        return 0


def _ask(port: int, path: str) -> str | None:
    """What this pod's own Ray says there; None: nothing, or no."""
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=2) as reply:
            return str(reply.read().decode())
    except (OSError, urllib.error.URLError):
        return None


def _listens(host: str) -> bool:
    try:
        socket.create_connection((host, PORT), timeout=2).close()
    except OSError:
        return False
    return True


def _until(
    until: float, true: Callable[[], bool], why: Callable[[], str], child: subprocess.Popen[bytes] | None = None
) -> None:
    """Until it is true. Raises NotFormed at `until`, or as soon as `child` has ended."""
    while not true():
        if time.monotonic() >= until or (child is not None and child.poll() is not None):
            raise NotFormed(why())
        time.sleep(POLL_S)


def _say(text: str) -> None:
    print(f"orchestrator gang: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Take this pod's place."""
    gang, children = Gang.read(os.environ), Children()
    role = lead if gang.index == 0 else follow
    try:
        return role(gang, children, time.monotonic() + FORM_S)
    except NotFormed as why:
        _say(f"gave up: {why}")
        return EXIT_NOT_FORMED


if __name__ == "__main__":
    sys.exit(main())
