"""What does the operator say about one cluster? The `connection` of a Kubernetes provider, read and checked.

Called when a provider is made. Pure. A mistake is named by its path, with what to write instead; that a pod template
keeps to the Pod Security profile is checked here too, so that a launch is not the first to notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from orchestrator.adapters.providers.kubernetes.security import Profile, violations
from orchestrator.ports.provider import Misconfigured

GPU = "nvidia.com/gpu"
"""The extended resource that is asked for where an accelerator names no other."""
RAY_CONTAINER = "ray"
"""The user's container in every pod, by which a `podTemplate` names it."""
AGENT_CONTAINER = "agent"
"""The init container that brings our agent along, likewise."""


class Accelerator(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How the cluster calls one kind of GPU: the resource it counts, the labels of nodes that have it."""

    resource: str = GPU
    node_selector: Mapping[str, str] = {}
    autoscaled: bool = False
    """Nodes with it come when pods wait for them, from none at all perhaps: how many there are now says nothing of what
    the cluster could hold. With a queue, its quota alone answers; without one, it is full and not too small."""


class Connection(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One cluster, one namespace of it, and what pods there look like."""

    image: str
    """The user's environment: has Ray, Python 3.10 or later, and bash; needs nothing of ours."""
    agent_image: str
    """Ours: its `/opt/orchestrator/site` is copied into every pod."""
    kubeconfig: str | None = None
    """A file; None: as kubectl would find it, or the pod's own service account."""
    context: str | None = None
    namespace: str = "default"
    queue: str | None = None
    """A Kueue LocalQueue; None: without Kueue."""
    pod_template: Mapping[str, Any] = {}
    """`metadata` and `spec` merged into head and worker pods; lists of named things by name."""
    profile: Profile = "restricted"
    """The Pod Security profile that pods keep to."""
    accelerators: Mapping[str, Accelerator] = {}
    """By the name that jobs and contracts use. Empty: any name is a `nvidia.com/gpu`."""
    store_secret: str | None = None
    """A Secret whose keys become variables of the pods: credentials of the checkpoint store."""
    runtime: Literal["auto", "kuberay", "job"] = "auto"
    """auto: KubeRay, as soon as it is installed."""
    service_account: str | None = None
    """Of the pods; its token is not mounted."""
    ray_version: str = "2.60.0"
    """Of the image; KubeRay wants to know."""

    def accelerator(self, name: str) -> Accelerator | None:
        """How this cluster calls the accelerator of that name ("": any); None: it has none such."""
        if not self.accelerators:
            return Accelerator()
        return next(iter(self.accelerators.values())) if not name else self.accelerators.get(name)

    def autoscaled(self, accelerator: str) -> bool:
        """Whether more nodes with this one ("": any) may come by themselves."""
        kind = self.accelerator(accelerator)
        return kind is not None and kind.autoscaled


def parse_connection(name: str, mapping: Mapping[str, Any]) -> Connection:
    """The connection in this mapping, `name` being the provider's. Raises `Misconfigured`."""
    try:
        connection = msgspec.convert(dict(mapping), Connection)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at ")
        where = path.strip("`").removeprefix("$") or "(as a whole)"
        raise _wrong(name, where, said, f"the fields are {', '.join(Connection.__struct_encode_fields__)}") from error
    for said in _template_faults(connection):
        raise _wrong(name, ".podTemplate", said, "correct the template, or name another `profile`")
    return connection


def _template_faults(connection: Connection) -> list[str]:
    """What is wrong with the pod template: at most the first of each kind is worth telling."""
    unknown = set(connection.pod_template) - {"metadata", "spec"}
    if unknown:
        return [f"has {_list(unknown)}, and may hold `metadata` and `spec` only"]
    if not all(isinstance(part, Mapping) for part in connection.pod_template.values()):
        return ["`metadata` and `spec` are mappings"]
    spec = connection.pod_template.get("spec", {})
    for kind in ("containers", "initContainers", "volumes"):
        if not all(isinstance(one, Mapping) and "name" in one for one in spec.get(kind, ())):
            return [f"everything in `spec.{kind}` has a name"]
    return violations(spec, connection.profile)


def _wrong(name: str, where: str, said: str, remedy: str) -> Misconfigured:
    return Misconfigured(f"provider {name}: connection{where}: {said}; {remedy}")


def _list(names: object) -> str:
    return ", ".join(sorted(names))  # type: ignore[call-overload]
