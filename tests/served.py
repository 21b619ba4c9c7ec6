"""A real HTTP server over a fake desk, in a thread of its own: for tests of whatever talks to the server.

Listens on a free loopback port and writes the files by which clients
find it. `tell` runs on the server's loop, so that a test may change the desk while requests are under way.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.api.access import Scope, TokensFile
from orchestrator.api.app import Front, create_app
from orchestrator.api.server import bind, serve, url_of
from orchestrator.testing.desk import FakeDesk
from orchestrator.testing.stores import MemoryStore

T = TypeVar("T")
TOKEN = "a-token-for-tests-".ljust(43, "x")
AZURE = "a-token-of-azures-people-".ljust(43, "x")
"""Bound to the provider azure."""
UP_S = 10.0


class Served:
    """The running server."""

    def __init__(self, home: Path, plays: bool) -> None:
        self.home, self.store = home, MemoryStore()
        self._plays = plays
        self.url = ""
        self._loop: asyncio.AbstractEventLoop
        self._up, self._thread = threading.Event(), threading.Thread(target=lambda: asyncio.run(self._main()))

    def tell(self, act: Callable[[FakeDesk], T]) -> T:
        """Do something with the desk, on its loop."""

        async def there() -> T:
            return act(self.desk)

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(UP_S)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.desk = FakeDesk(plays=self._plays)
        tokens = self.home / "tokens.json"
        tokens.touch(0o600)
        owner = {"name": "owner", "token": TOKEN, "scopes": list(Scope)}
        azure = {"name": "azure", "token": AZURE, "scopes": [Scope.PROVIDER], "provider": "azure"}
        tokens.write_text(json.dumps({"tokens": [owner, azure]}))
        front = Front(find=TokensFile(tokens).find, files=self.store, metrics=lambda: b"up 1\n")
        with bind("127.0.0.1", 0) as sock:
            self.url = url_of(sock)
            (self.home / "server.json").write_text(json.dumps({"url": self.url}))
            app: Any = create_app(self.desk, front)
            await serve(app, sock, self._stop, self._up.set)

    def start(self) -> None:
        """Returns once it listens."""
        self._thread.start()
        if not self._up.wait(UP_S):
            raise TimeoutError(f"the server of the test was not up after {UP_S} s")

    def end(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(UP_S)


@contextmanager
def served(home: Path, plays: bool = False) -> Iterator[Served]:
    """A server over a FakeDesk; with `plays`, every job runs to its end by itself."""
    server = Served(home, plays)
    server.start()
    try:
        yield server
    finally:
        server.end()
