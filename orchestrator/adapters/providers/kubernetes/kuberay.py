"""How is a launch a `RayJob` of KubeRay's?

Called by `objects`. Pure. KubeRay makes the pods and hands our agent to the head as a Ray job, over HTTP and under our
own submission id: no pod more, and a submission that is repeated is recognised. It draws Ray's token too, and keeps it
in a Secret that goes with the cluster. It never tries again: no retries, no new head for one that is lost. What its
status says is a hint; the run log decides.
"""

from __future__ import annotations

from typing import Any

from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.pods import RAY_BYTES, Need, template

Doc = dict[str, Any]

ENTRYPOINT = "exec python3 -m orchestrator.agent"
WORKERS = "workers"
"""The worker group, and its pod set's name at Kueue; the head's is `head`."""
ANNOTATIONS = {"ray.io/disable-provisioned-head-restart": "true"}
"""A head that is lost stays lost: its attempt is over."""
UNSCALED = {"no-monitor": "true"}
"""Ray's own autoscaler has nothing to do in a gang of fixed size: some 80 MB that the head need not hold."""


def spec(need: Need, connection: Connection, key: str) -> Doc:
    """The RayJob's spec, but for its deadlines. `key`: the launch key."""
    return {
        "submissionMode": "HTTPMode",
        "jobId": key,
        "entrypoint": ENTRYPOINT,
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 0,
        "rayClusterSpec": {
            "rayVersion": connection.ray_version,
            "authOptions": {"mode": "token"},
            "headGroupSpec": {"rayStartParams": _params(need) | UNSCALED, "template": head(need, connection)},
            "workerGroupSpecs": _workers(need, connection),
        },
    }


def head(need: Need, connection: Connection) -> Doc:
    """The head's pod template: the first of the workers, and room for Ray's own."""
    return template(need, connection, extra_bytes=RAY_BYTES)


def worker(need: Need, connection: Connection) -> Doc:
    """The other workers' pod template."""
    return template(need, connection, extra_bytes=RAY_BYTES // 2)


def _workers(need: Need, connection: Connection) -> list[Doc]:
    others = need.workers - 1
    if not others:
        return []
    group = {"groupName": WORKERS, "replicas": others, "minReplicas": others, "maxReplicas": others}
    return [group | {"rayStartParams": _params(need), "template": worker(need, connection)}]


def _params(need: Need) -> dict[str, str]:
    return {"num-cpus": str(need.cpus), "num-gpus": str(need.gpus), "disable-usage-stats": "true"}
