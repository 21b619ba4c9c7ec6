"""This machine as a provider: jobs run on a Ray head of their own here, and outlive the server that started them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.ports.runtime import Tools

if TYPE_CHECKING:
    from orchestrator.adapters.providers.local.provider import LocalProvider


def factory(name: str, connection: Mapping[str, Any], tools: Tools) -> LocalProvider:
    """The entry point `local`. Raises `Misconfigured` for a connection with unknown or unusable fields."""
    from orchestrator.adapters.providers.local.provider import LocalProvider  # the keeper must start without it

    return LocalProvider(name, connection, tools)
