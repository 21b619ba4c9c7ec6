"""Kubernetes clusters as providers: a `RayJob` where KubeRay is there, else an indexed `Job` that forms its own Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.ports.provider import Misconfigured
from orchestrator.ports.runtime import Tools

if TYPE_CHECKING:
    from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider


def factory(name: str, connection: Mapping[str, Any], tools: Tools) -> KubernetesProvider:
    """The entry point `kubernetes`. Raises `Misconfigured` for a connection with unknown or unusable fields."""
    try:
        from orchestrator.adapters.providers.kubernetes.provider import KubernetesProvider  # its client is heavy
    except ModuleNotFoundError as error:
        remedy = "pip install 'first-refusal[kubernetes]'"
        raise Misconfigured(f"provider {name}: the Kubernetes client is not installed ({error}); {remedy}") from error
    return KubernetesProvider(name, connection, tools)
