"""What does one pod of a gang look like? The user's container, our agent brought along, the operator's template on top.

Called by the renderings of a RayJob and of an indexed Job. Pure. A pod's containers depend on nothing but the terms,
the offer's id and the connection: what Kueue was asked to reserve is, container by container, what is launched later.
What the API server would fill in by itself is therefore spelled out for it.
"""

from __future__ import annotations

from collections.abc import Mapping
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
ATTEMPT_KEY, TOKEN_KEY = ENV_ATTEMPT, "auth_token"
"""Keys of the attempt's Secret; the second is KubeRay's choice."""
RAY_BYTES = 1 << 30
"""Memory that a Ray head with its dashboard and our agent take beside the user's: 0.5 GiB idle, and room."""
STOP_WAIT_S = 600
"""How long Ray waits for the agent after SIGTERM: longer than any grace, which the agent itself keeps."""
USUAL = {"HOME": SCRATCH, "USER": RAY_CONTAINER}
"""Variables of the user's container that the operator's template may change."""
FIXED = {
    "PYTHONPATH": SITE,
    "RAY_AUTH_MODE": "token",
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}
"""Likewise, and nobody may."""
_NOBODYS = {*FIXED, ENV_ATTEMPT, "RAY_AUTH_TOKEN"}
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

    @property
    def secret(self) -> str:
        """The name of the Secret that holds the attempt and the Ray token: known before the launch is."""
        return self.offer.lower()


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


def template(need: Need, connection: Connection, container: Doc, extra_bytes: int = 0) -> Doc:
    """A pod template. `container`: what the form adds to the user's container; `extra_bytes`: memory for Ray itself."""
    kind = connection.accelerator(need.accelerator) or Accelerator()
    base: Doc = {"metadata": {}, "spec": _offered(need, connection, kind, extra_bytes)}
    merged: Doc = merge(merge(base, connection.pod_template), {"spec": _ours(need, connection, container)})
    context = container_context(connection.profile)
    _tell(next(one for one in merged["spec"]["containers"] if one["name"] == RAY_CONTAINER), need, connection)
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


def _ours(need: Need, connection: Connection, container: Doc) -> Doc:
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


def variables(attempt: str, token: str) -> dict[str, str]:
    """What the attempt's Secret holds: one reference in each pod brings all of it, where the API server would read and
    write a list of variables many times in a launch's life."""
    return {**USUAL, **FIXED, ATTEMPT_KEY: attempt, "RAY_AUTH_TOKEN": token, TOKEN_KEY: token}


def _tell(user: Doc, need: Need, connection: Connection) -> None:
    """Give the user's container its variables, the last of which win; the template's own by name win over all."""
    names = [*filter(None, (connection.store_secret, need.secret))]
    user["envFrom"] = [*user.get("envFrom", ()), *({"secretRef": {"name": name}} for name in names)]
    if "env" in user:
        user["env"] = [one for one in user["env"] if one["name"] not in _NOBODYS]
