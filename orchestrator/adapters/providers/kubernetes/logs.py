"""What did the containers of a launch print? As the kubelet has it, rank by rank, by stream.

Called by the provider for a launch, and for one rank of it. Reads only; output that is gone with its pod is not here
but beside the run log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestrator.adapters.providers.kubernetes.client import Client
from orchestrator.adapters.providers.kubernetes.connection import RAY_CONTAINER
from orchestrator.adapters.providers.kubernetes.errors import Absent, Refused
from orchestrator.adapters.providers.kubernetes.machines import NODE_TYPE
from orchestrator.adapters.providers.kubernetes.resources import POD, Pod
from orchestrator.adapters.providers.kubernetes.sightings import Launch

INDEX = "batch.kubernetes.io/job-completion-index"


def rank(pod: Pod) -> tuple[int, str]:
    """Sorts pods by rank: a Job's index, or KubeRay's head before its workers."""
    index = pod.metadata.label(INDEX)
    if index.isdigit():
        return int(index), pod.metadata.name
    return (0 if pod.metadata.label(NODE_TYPE) == "head" else 1), pod.metadata.name


def in_order(launch: Launch) -> list[Pod]:
    """The launch's pods, rank 0 first."""
    return sorted(launch.pods, key=rank)


async def lines(client: Client, launch: Launch) -> AsyncIterator[bytes]:
    """The output of every rank so far, one rank after the other, each line as it was printed."""
    for pod in in_order(launch):
        async for line in of_pod(client, pod):
            yield line + b"\n"


async def of_pod(client: Client, pod: Pod, *, follow: bool = False) -> AsyncIterator[bytes]:
    """The output of one pod, line by line; `follow`: until it ends. Empty where it has not begun."""
    path = POD.path(pod.metadata.namespace, pod.metadata.name, "log")
    params: dict[str, str | int] = {"container": RAY_CONTAINER, "follow": "true" if follow else "false"}
    try:
        async for line in client.lines(path, params, silence_s=3600 if follow else 15):
            yield line
    except (Absent, Refused):
        return
