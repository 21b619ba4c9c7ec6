"""How is a launch an indexed `Job` with a headless Service, where there is no KubeRay?

Called by `objects`. Pure. Every pod runs `orchestrator.rayhead.gang`: the one with index 0 is the Ray head and runs our
agent, the others join it. The Job never tries again: no retries, and no new pod for one that is being deleted.
"""

from __future__ import annotations

from typing import Any

from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.pods import RAY_BYTES, RAY_MODE, RAY_TOKEN, Need, template, told

Doc = dict[str, Any]

TTL_S = 3600
"""How long a finished Job of ours stays when nobody deletes it."""
TOKEN_KEY = "auth_token"
"""Of the Secret that holds Ray's token."""
PODS = "main"
"""The pod set's name at Kueue."""
_JOB, _INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"


def spec(need: Need, connection: Connection, name: str) -> Doc:
    """The Job's spec, but for its deadline. `name`: the Job's and the Service's."""
    pod = workers(need, connection)
    return {
        "completionMode": "Indexed",
        "completions": need.workers,
        "parallelism": need.workers,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
        "ttlSecondsAfterFinished": TTL_S,
        "template": pod | {"spec": pod["spec"] | {"subdomain": name}},
    }


def secret_name(need: Need) -> str:
    """The name of the Secret that holds Ray's token: known before the launch is."""
    return need.offer.lower()


def secret_of(job: Doc) -> str:
    """The same, as the pods of a Job of ours name it."""
    containers = job["spec"]["template"]["spec"]["containers"]
    variables = (variable for one in containers for variable in one.get("env", ()))
    token: str = next(one["valueFrom"]["secretKeyRef"]["name"] for one in variables if one["name"] == RAY_TOKEN)
    return token


def workers(need: Need, connection: Connection) -> Doc:
    """The pod template of all of them."""
    token = {"secretKeyRef": {"name": secret_name(need), "key": TOKEN_KEY}}
    variables: list[Doc] = [
        {"name": RAY_MODE, "value": "token"},
        {"name": RAY_TOKEN, "valueFrom": token},
        told("GANG_JOB", f"metadata.labels['{_JOB}']"),
        told("GANG_INDEX", f"metadata.labels['{_INDEX}']"),
        told("GANG_ADDRESS", "status.podIP"),
        {"name": "GANG_SIZE", "value": str(need.workers)},
        {"name": "GANG_CPUS", "value": str(need.cpus)},
        {"name": "GANG_GPUS", "value": str(need.gpus)},
    ]
    command = ["python3", "-m", "orchestrator.rayhead.gang"]
    return template(need, connection, container={"command": command}, variables=variables, extra_bytes=RAY_BYTES)


def service_spec(name: str) -> Doc:
    """The headless Service by which the pods know the head, ready or not."""
    return {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {_JOB: name}}
