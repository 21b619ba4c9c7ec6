"""Orchestrator: places training jobs across clouds by contract, and proves that it did.

Importing this package loads nothing: the agent beside a training process and a user's script pay for what they use.
The promised names are loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator import training as training
    from orchestrator.model.documents import DocumentError, TrainingJob
    from orchestrator.sdk import AsyncClient, AsyncJob, Client, Job, command_job
    from orchestrator.sdk.errors import OrchestratorError

_HOME = {
    "Client": "orchestrator.sdk",
    "AsyncClient": "orchestrator.sdk",
    "Job": "orchestrator.sdk",
    "AsyncJob": "orchestrator.sdk",
    "command_job": "orchestrator.sdk",
    "OrchestratorError": "orchestrator.sdk.errors",
    "TrainingJob": "orchestrator.model.documents",
    "DocumentError": "orchestrator.model.documents",
}

__all__ = [
    "Client", "AsyncClient", "Job", "AsyncJob", "TrainingJob", "command_job", "OrchestratorError", "DocumentError",
    "training",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """A promised name, from where it lives."""
    if name == "training":
        return import_module("orchestrator.training")
    if name not in _HOME:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
