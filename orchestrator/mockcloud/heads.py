"""How is a Ray head (or its small stand-in) started so that several live on one machine, and when is it ready?

Called by the hosts. Every port is the head's own and on loopback, its token fresh, its folder short (socket paths
end at 107 characters), nothing of an outer Ray is inherited. Whoever ends a head does so by the marker of its
processes; Ray's own command for it would end every Ray of the machine.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import orchestrator
from orchestrator.mockcloud.config import CloudConfig, Machines
from orchestrator.mockcloud.records import Cluster

OBJECT_STORE = 100_000_000
"""Bytes of shared memory per head: what passes between workers of a small job."""
DRAIN_S = 3
"""A terminated node drains for so long; a cloud's machine just ends."""


@dataclass(frozen=True, slots=True)
class Head:
    """Everything needed to start one head and to ask whether it is ready."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    token: str
    address: str
    """Of the Jobs REST API."""
    health: tuple[str, ...]
    """URLs that all answer 200 once it is ready."""


def head_for(cluster: Cluster, config: CloudConfig) -> Head:
    """A new head for this cluster: other ports, token and folder each time."""
    folder = Path(tempfile.mkdtemp(prefix="oc-", dir="/tmp"))
    python = config.python or sys.executable
    token = secrets.token_hex(16)
    ports = free_ports(6)
    address = f"http://127.0.0.1:{ports[0]}"
    if config.machines is Machines.RAY:
        argv = _ray(python, cluster, folder, ports)
        agent = f"http://127.0.0.1:{ports[1]}/api/local_raylet_healthz"
    else:
        argv = (python, "-m", "orchestrator.testing.fake_ray", "--port", str(ports[0]), "--folder", str(folder))
        agent = f"{address}/api/local_raylet_healthz"
    environment = _environment(python, token, config.job_stop_wait) | {
        "AUTOSCALER_METRIC_PORT": str(ports[3]),
        "DASHBOARD_METRIC_PORT": str(ports[4]),
    }
    return Head(argv, environment, folder, token, address, (f"{address}/api/version", agent))


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(int(one.getsockname()[1]))
        return found


def _ray(python: str, cluster: Cluster, folder: Path, ports: list[int]) -> tuple[str, ...]:
    order = cluster.order
    resources = {f"accelerator_type:{order.accelerator}": order.workers} if order.accelerator else {}
    options = {
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": ports[0],
        "dashboard-agent-listen-port": ports[1],
        "port": ports[2],
        "ray-client-server-port": ports[5],
        "num-cpus": max(4, order.workers * (order.cpus or 1)),
        "num-gpus": order.all_gpus,
        "resources": json.dumps(resources),
        "object-store-memory": OBJECT_STORE,
        "temp-dir": folder,
    }
    start = "from ray.scripts.scripts import main; main()"
    flags = [f"--{name}={value}" for name, value in options.items()]
    return (python, "-c", start, "start", "--head", "--block", "--disable-usage-stats", "--no-monitor", *flags)


def _environment(python: str, token: str, job_stop_wait: int) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    root = str(Path(orchestrator.__file__).parents[1])
    path = [part for part in own.get("PYTHONPATH", "").split(os.pathsep) if part]
    return own | {
        "PATH": os.pathsep.join([str(Path(python).parent), own.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(path if root in path else [*path, root]),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_JOB_STOP_WAIT_TIME_S": str(job_stop_wait),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_S),
        "RAY_prestart_worker_first_driver": "0",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        "SPT_NOENV": "1",
    }
