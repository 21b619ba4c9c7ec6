"""Does a pod's spec keep to a Pod Security profile, and what does our part of a pod say so that it does?

Called for the operator's pod template and for the rendering of pods. Pure. It knows the rules that a template can
break; the API server has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

Profile: TypeAlias = Literal["restricted", "baseline", "privileged"]

UID = 1000
"""Who runs in a pod whose template says nothing: a number, since a name in an image cannot be verified."""
_BASELINE_CAPABILITIES = frozenset(
    {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
        *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
)
_RESTRICTED_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
Spec: TypeAlias = Mapping[str, Any]


def pod_context(profile: Profile) -> dict[str, Any]:
    """The pod's security context."""
    if profile == "privileged":
        return {}
    default = {"type": "RuntimeDefault"}
    if profile == "baseline":
        return {"seccompProfile": default}
    return {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID, "seccompProfile": default}


def container_context(profile: Profile) -> dict[str, Any]:
    """A container's security context: what the pod's cannot say."""
    if profile != "restricted":
        return {}
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def violations(spec: Spec, profile: Profile) -> list[str]:
    """What of this (partial) pod spec the profile forbids, in words."""
    if profile == "privileged":
        return []
    found = [*_baseline(spec)]
    if profile == "restricted":
        found += _restricted(spec)
    return [f"{said}, which the profile {profile!r} forbids" for said in found]


def _contexts(spec: Spec) -> Iterator[tuple[str, Spec]]:
    yield "the pod", spec.get("securityContext", {})
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind, ()):
            yield f"container {container.get('name')!r}", container.get("securityContext", {})


def _baseline(spec: Spec) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"it sets {field}"
    for volume in spec.get("volumes", ()):
        if "hostPath" in volume:
            yield f"volume {volume.get('name')!r} is a hostPath"
    for who, context in _contexts(spec):
        if context.get("privileged"):
            yield f"{who} is privileged"
        if context.get("seccompProfile", {}).get("type") == "Unconfined":
            yield f"{who} is unconfined"
        more = set(context.get("capabilities", {}).get("add", ())) - _BASELINE_CAPABILITIES
        if more:
            yield f"{who} adds {', '.join(sorted(more))}"
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        if any(port.get("hostPort") for port in container.get("ports", ())):
            yield f"container {container.get('name')!r} takes a port of the host"


def _restricted(spec: Spec) -> Iterator[str]:
    for volume in spec.get("volumes", ()):
        other = set(volume) - {"name", "hostPath"} - _RESTRICTED_VOLUMES
        if other:
            yield f"volume {volume.get('name')!r} is of kind {', '.join(sorted(other))}"
    for who, context in _contexts(spec):
        if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
            yield f"{who} may run as root"
        if context.get("allowPrivilegeEscalation"):
            yield f"{who} may escalate its privileges"
        if set(context.get("capabilities", {}).get("add", ())) & (_BASELINE_CAPABILITIES - {"NET_BIND_SERVICE"}):
            yield f"{who} adds capabilities"
        if "ALL" not in context.get("capabilities", {}).get("drop", ("ALL",)):
            yield f"{who} drops other capabilities than ALL"
