"""Mock clouds as providers, over their HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.adapters.providers.mock.provider import MockProvider
from orchestrator.ports.runtime import Tools

__all__ = ["MockProvider", "factory"]


def factory(name: str, connection: Mapping[str, Any], tools: Tools) -> MockProvider:
    """The entry point `mock`. Connects at the first call; a connection that cannot be read is `Misconfigured` then."""
    return MockProvider(name, connection, tools)
