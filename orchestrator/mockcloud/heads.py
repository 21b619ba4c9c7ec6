"""What head does a cluster get? The plan of `rayhead` for what was ordered, in a short folder of its own.

Called by the hosts. Whoever ends a head does so by the marker of its processes; Ray's own command for it would end
every Ray of the machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.mockcloud.config import CloudConfig, Machines
from orchestrator.mockcloud.records import Cluster
from orchestrator.rayhead.plan import Plan, Wish, plan

FEWEST_CPUS = 4
"""Of a head: the driver and Ray's own actors want some beside the workers."""


@dataclass(frozen=True, slots=True)
class Head:
    """A cluster's head: its plan, and the folder that goes with it."""

    plan: Plan
    folder: Path


def head_for(cluster: Cluster, config: CloudConfig) -> Head:
    """A new head for this cluster: other ports, token and folder each time."""
    order, folder = cluster.order, Path(tempfile.mkdtemp(prefix="oc-", dir="/tmp"))
    wish = Wish(
        python=config.python or sys.executable,
        folder=folder,
        cpus=max(FEWEST_CPUS, order.workers * (order.cpus or 1)),
        gpus=order.all_gpus,
        resources={f"accelerator_type:{order.accelerator}": order.workers} if order.accelerator else {},
        stop_wait_s=config.job_stop_wait,
        ray=config.machines is Machines.RAY,
    )
    return Head(plan(wish, os.environ), folder)
