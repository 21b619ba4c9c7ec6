"""How is a Ray head (or its small stand-in) started so that several live on one machine, and when is it ready?

Called by who keeps heads. Every port is the head's own and on loopback, its token fresh, its folder short (socket
paths end at 107 characters), nothing of an outer Ray is inherited. Temporary files of whatever runs there lie in that
folder too: whoever keeps the head removes it, once nothing of it lives. It starts nothing. Standard library only.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

OBJECT_STORE = 100_000_000
"""Bytes of shared memory per head: what passes between workers of a small job."""
DRAIN_S = 3
"""Seconds that a head told to end takes to drain, at most."""
STAND_IN = "orchestrator.testing.fake_ray"
"""Speaks Ray's Jobs REST API and runs entrypoints as plain processes: a head without Ray, for tests."""
ABOVE_WORKERS, FIRST_EPHEMERAL = 20_000, 32_768
"""Ray's workers take ports below the one, Linux gives those from the other on to outgoing connections."""
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES = 1000
ROOT = Path(__file__).resolve().parents[2]
"""Where this package lies, so that jobs find the agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the head should offer. `folder`: short and its own. `stop_wait_s`: from a job's SIGTERM to its SIGKILL."""

    python: str
    folder: Path
    cpus: int
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    stop_wait_s: int = 35
    ray: bool = True
    """False: the stand-in."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything needed to start one head and to ask whether it is ready."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    token: str
    address: str
    """Of the Jobs REST API."""
    health: tuple[str, ...]
    """URLs that all answer 200, with the token as bearer, once it is ready."""


def plan(wish: Wish, outer: Mapping[str, str]) -> Plan:
    """A new head: other ports and token each time. `outer`: the environment it inherits, but for Ray's variables."""
    token, ports = secrets.token_hex(16), free_ports(11)
    address = f"http://127.0.0.1:{ports[0]}"
    agent = ports[1] if wish.ray else ports[0]
    stand_in = (wish.python, "-m", STAND_IN, "--port", str(ports[0]), "--folder", str(wish.folder))
    return Plan(
        _ray(wish, ports) if wish.ray else stand_in,
        _environment(wish, token, outer, ports),
        token,
        address,
        (f"{address}/api/version", f"http://127.0.0.1:{agent}/api/local_raylet_healthz"),
    )


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now.

    None among those that Ray's workers take, and none that the kernel gives to outgoing connections: a head listens on
    some of them seconds after they were chosen, and dies if anybody's connection has taken one meanwhile.
    """
    span = range(ABOVE_WORKERS, _first_ephemeral())
    with ExitStack() as stack:
        found: list[int] = []
        for _ in range(TRIES):
            port = span[secrets.randbelow(len(span))]
            with suppress(OSError):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
        raise OSError(f"of the ports {span.start} to {span.stop - 1} on 127.0.0.1 no {count} are free")


def _first_ephemeral() -> int:
    """Where the kernel's range for outgoing connections begins; its default where that cannot be read or is odd."""
    try:
        first = int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        return FIRST_EPHEMERAL
    return first if first >= ABOVE_WORKERS + TRIES else FIRST_EPHEMERAL


def _ray(wish: Wish, ports: list[int]) -> tuple[str, ...]:
    options = {
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": ports[0],
        "dashboard-agent-listen-port": ports[1],
        "port": ports[2],
        "ray-client-server-port": ports[3],
        "object-manager-port": ports[6],
        "node-manager-port": ports[7],
        "dashboard-agent-grpc-port": ports[8],
        "runtime-env-agent-port": ports[9],
        "metrics-export-port": ports[10],
        "num-cpus": wish.cpus,
        "num-gpus": wish.gpus,
        "resources": json.dumps(dict(wish.resources)),
        "object-store-memory": OBJECT_STORE,
        "temp-dir": wish.folder,
    }
    start = "from ray.scripts.scripts import main; main()"
    flags = [f"--{name}={value}" for name, value in options.items()]
    return (wish.python, "-c", start, "start", "--head", "--block", "--disable-usage-stats", "--no-monitor", *flags)


def _environment(wish: Wish, token: str, outer: Mapping[str, str], ports: list[int]) -> dict[str, str]:
    own = {name: value for name, value in outer.items() if not name.startswith("RAY_")}
    path = [part for part in own.get("PYTHONPATH", "").split(os.pathsep) if part]
    return own | {
        "PATH": os.pathsep.join([str(Path(wish.python).parent), own.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(path if str(ROOT) in path else [*path, str(ROOT)]),
        "TMPDIR": str(wish.folder),  # an agent that is killed cannot clean up after itself
        "AUTOSCALER_METRIC_PORT": str(ports[4]),
        "DASHBOARD_METRIC_PORT": str(ports[5]),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else every port listens on all interfaces
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_JOB_STOP_WAIT_TIME_S": str(wish.stop_wait_s),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_S),
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        "RAY_prestart_worker_first_driver": "0",  # idle workers cost a small machine more than they save
        "SPT_NOENV": "1",  # a process that retitles itself must not overwrite the environment we know it by
    }
