"""A real HTTP server over a fake desk, in a thread of its own: for tests of whatever talks to the server.

`tell` runs on the server's loop, so that a test may change the desk while requests are under way.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.api.access import Scope, TokensFile
from orchestrator.api.app import Front, create_app
from orchestrator.testing.desk import FakeDesk
from orchestrator.testing.stores import MemoryStore
from tests.elsewhere import Elsewhere, listening

TOKEN = "a-token-for-tests-".ljust(43, "x")
AZURE = "a-token-of-azures-people-".ljust(43, "x")
"""Bound to the provider azure."""


@dataclass
class Served:
    """The running server."""

    home: Path
    desk: FakeDesk
    store: MemoryStore = field(default_factory=MemoryStore)
    url: str = ""
    tell: Callable[[Callable[[FakeDesk], Any]], Any] = lambda _: None
    """Do something with the desk, on its loop."""


@asynccontextmanager
async def _over_a_desk(home: Path, plays: bool) -> AsyncIterator[Served]:
    made = Served(home, FakeDesk(plays=plays))
    tokens = home / "tokens.json"
    tokens.touch(0o600)
    owner = {"name": "owner", "token": TOKEN, "scopes": list(Scope)}
    azure = {"name": "azure", "token": AZURE, "scopes": [Scope.PROVIDER], "provider": "azure"}
    tokens.write_text(json.dumps({"tokens": [owner, azure]}))
    front = Front(find=TokensFile(tokens).find, files=made.store, metrics=lambda: b"up 1\n")
    async with listening(create_app(made.desk, front), home) as made.url:
        yield made


@contextmanager
def served(home: Path, plays: bool = False) -> Iterator[Served]:
    """A server over a FakeDesk; with `plays`, every job runs to its end by itself."""
    there = Elsewhere(lambda: _over_a_desk(home, plays))
    with there as server:
        server.tell = lambda act: there.tell(lambda found: act(found.desk))
        yield server
