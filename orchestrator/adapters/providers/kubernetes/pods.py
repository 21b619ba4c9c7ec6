"""What does one pod of a gang look like? The user's container, our agent brought along, the operator's template on top.

Called by the renderings of a RayJob and of an indexed Job. Pure. A pod's containers depend on nothing but the terms,
the offer's id and the connection: what Kueue was asked to reserve is, container by container, what is launched later.
What the API server would fill in by itself is therefore spelled out for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.adapters.providers.kubernetes.connection import (
    AGENT_CONTAINER,
    RAY_CONTAINER,
    Accelerator,
    Connection,
)
from orchestrator.adapters.providers.kubernetes.security import container_context, pod_context
from orchestrator.model.offer import LaunchOrder
from orchestrator.model.placement import Terms
from orchestrator.model.wire import ENV_ATTEMPT

Doc = dict[str, Any]

SITE = "/opt/orchestrator/site"
"""In the agent's image and in every pod: what user code and the agent import of ours."""
SCRATCH = "/tmp"
ATTEMPT = "orchestrator.dev/attempt"
"""Annotation of the pods: what their agent is told. No field of a container, for Kueue compares those with what it was
asked for before the launch was known; no Secret, for nothing in it is one, and it would be one object more to make.
"""
RAY_BYTES = 1 << 30
"""Memory that a Ray head with its dashboard and our agent take beside the user's: 0.5 GiB idle, and room."""
STOP_WAIT_S = 600
"""How long Ray waits for the agent after SIGTERM: longer than any grace, which the agent itself keeps."""
USUAL = {"HOME": SCRATCH, "USER": RAY_CONTAINER}
"""Variables of the user's container that the operator's template may change."""
FIXED = {
    "PYTHONPATH": SITE,
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}
"""Likewise, and nobody may."""
RAY_MODE, RAY_TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
_NOBODYS = {*FIXED, ENV_ATTEMPT, RAY_MODE, RAY_TOKEN}
_NAMED = {"volumeMounts": "mountPath", "topologySpreadConstraints": "topologyKey"}
_BY_NAME = frozenset({"containers", "initContainers", "volumes", "env", "imagePullSecrets", "ports"})
_FILLED_IN: Doc = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}


class Need(Struct, frozen=True, kw_only=True):
    """What one gang takes: `workers` equal pods, the first of them the Ray head too."""

    workers: int
    gpus: int
    """Per worker, as `cpus` and `memory` (bytes; 0: not asked)."""
    cpus: int
    memory: int
    accelerator: str
    offer: str


def need_of_order(order: LaunchOrder) -> Need:
    """What a launch takes."""
    return Need(
        workers=order.workers,
        gpus=order.gpus,
        cpus=order.cpus,
        memory=order.memory,
        accelerator=order.accelerator,
        offer=order.offer,
    )


def need_of_terms(offer: str, terms: Terms, accelerator: str) -> Need:
    """What a launch on these terms would take, on the accelerator that an answer would name ("": none)."""
    return Need(
        workers=terms.workers,
        gpus=terms.gpus_per_worker,
        cpus=terms.cpus,
        memory=terms.memory,
        accelerator=accelerator,
        offer=offer,
    )


def template(
    need: Need, connection: Connection, *, container: Doc | None = None, variables: Sequence[Doc] = (), extra_bytes: int
) -> Doc:
    """A pod template. `container`, `variables`: what the form adds to the user's container; `extra_bytes`: memory for
    Ray itself."""
    kind = connection.accelerator(need.accelerator) or Accelerator()
    base: Doc = {"metadata": {}, "spec": _offered(need, connection, kind, extra_bytes)}
    merged: Doc = merge(merge(base, connection.pod_template), {"spec": _ours(connection, container or {})})
    context = container_context(connection.profile)
    _tell(next(one for one in merged["spec"]["containers"] if one["name"] == RAY_CONTAINER), connection, variables)
    for one in merged["spec"]["containers"] + merged["spec"]["initContainers"]:
        if context:  # the profile asks it of the template's containers too
            one["securityContext"] = merge(context, one.get("securityContext", {}))
        resources = one.get("resources", {})
        if "limits" in resources:  # as the API server would
            one["resources"] = {**resources, "requests": resources["limits"] | resources.get("requests", {})}
    return merged


def merge(base: Any, over: Any) -> Any:
    """`over` laid upon `base`: mappings key by key, lists of named things by name, tolerations added, else replaced."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    merged = dict(base)
    for key, value in over.items():
        if key not in base:
            merged[key] = value
        elif key in _BY_NAME or key in _NAMED:
            merged[key] = _merge_named(base[key], value, _NAMED.get(key, "name"))
        elif key == "tolerations":
            merged[key] = [*base[key], *(one for one in value if one not in base[key])]
        else:
            merged[key] = merge(base[key], value)
    return merged


def _merge_named(base: list[Doc], over: list[Doc], by: str) -> list[Doc]:
    known = {item[by]: item for item in base}
    for item in over:
        known[item[by]] = merge(known.get(item[by], {}), item)
    return [*known.values()]


def _offered(need: Need, connection: Connection, kind: Accelerator, extra_bytes: int) -> Doc:
    """What the operator's template may change."""
    context = container_context(connection.profile)
    limits: Doc = {kind.resource: str(need.gpus)} if need.gpus else {}
    if need.memory:
        limits["memory"] = str(need.memory + extra_bytes)
    requests = {"cpu": str(need.cpus), "memory": str(need.memory + extra_bytes or RAY_BYTES)} | limits
    user: Doc = {
        "name": RAY_CONTAINER,
        "image": connection.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": requests} | ({"limits": limits} if limits else {}),
        "securityContext": context,
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    agent: Doc = {
        "name": AGENT_CONTAINER,
        "image": connection.agent_image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": context | ({"readOnlyRootFilesystem": True} if context else {}),
    }
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory"}}]
    spec: Doc = {"containers": [user], "initContainers": [agent], "volumes": volumes}
    if context := pod_context(connection.profile):
        spec["securityContext"] = context
    if need.gpus and kind.node_selector:
        spec["nodeSelector"] = dict(kind.node_selector)
    return spec


def _ours(connection: Connection, container: Doc) -> Doc:
    """What nobody may change."""
    site = {"name": "site", "mountPath": SITE}
    user: Doc = {
        "name": RAY_CONTAINER,
        "volumeMounts": [{**site, "readOnly": True}],
    }
    agent: Doc = {"name": AGENT_CONTAINER, "command": ["cp", "-r", f"{SITE}/.", "/site/"]}
    agent["volumeMounts"] = [{"name": "site", "mountPath": "/site"}]
    filled_in = _FILLED_IN if connection.queue else {}  # Kueue compares; else every byte is read and written often
    spec: Doc = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [merge(filled_in | user, container)],
        "initContainers": [filled_in | agent],
        "volumes": [{"name": "site", "emptyDir": {}}],
    }
    if connection.service_account:
        spec["serviceAccountName"] = connection.service_account
    return spec


def told(name: str, path: str) -> Doc:
    """A variable that a field of its own pod gives."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _tell(user: Doc, connection: Connection, variables: Sequence[Doc]) -> None:
    """Give the user's container its variables: what is named wins over what a Secret or ConfigMap brings whole."""
    if connection.store_secret:
        user["envFrom"] = [*user.get("envFrom", ()), {"secretRef": {"name": connection.store_secret}}]
    theirs = {one["name"]: one for one in user.get("env", ()) if one["name"] not in _NOBODYS}
    usual = [{"name": name, "value": value} for name, value in USUAL.items() if name not in theirs]
    fixed = [{"name": name, "value": value} for name, value in FIXED.items()]
    attempt = told(ENV_ATTEMPT, f"metadata.annotations['{ATTEMPT}']")
    user["env"] = [*usual, *theirs.values(), *fixed, attempt, *variables]
