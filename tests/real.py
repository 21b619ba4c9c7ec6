"""The real server in a thread of its own, over a provider that a test makes: for tests that must meet no fake desk.

What `bootstrap.build` makes, with a ledger and a store in a folder, behind its HTTP front on a free loopback port.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from orchestrator.api.access import TokensFile
from orchestrator.api.app import create_app
from orchestrator.api.server import bind, serve, url_of
from orchestrator.bootstrap import App, Factory, build
from orchestrator.cli.serve import front, prepare
from orchestrator.settings import Settings, load

UP_S = 20.0
ONE_PROVIDER = """
apiVersion: orchestrator.dev/v1alpha1
kind: ProviderSet
metadata: {name: one}
spec:
  providers:
    there:
      adapter: ADAPTER
      connection: CONNECTION
      regions: {eu-1: EU}
      operatorJurisdiction: EU
      seal: 1
      accelerators: {H100: 1}
      prices: [{accelerator: H100, usdPerGpuHour: 2, source: a test, date: 2026-01-01}]
  policies: {default: {isolation: {check: 1s, limit: 10s, grace: 1s}}}
"""


def one_provider(home: Path, adapter: str, connection: Mapping[str, object]) -> Path:
    """The file of a provider set with one provider, `there`."""
    text = ONE_PROVIDER.replace("ADAPTER", adapter).replace("CONNECTION", json.dumps(connection))
    (home / "providers.yaml").write_text(text)
    return home / "providers.yaml"


class Real:
    """The running server."""

    def __init__(self, settings: Settings, factories: Mapping[str, Factory]) -> None:
        self._settings, self._factories = settings, factories
        self._up, self._thread = threading.Event(), threading.Thread(target=lambda: asyncio.run(self._main()))
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self.app: App
        self.url = ""

    @property
    def token(self) -> str:
        """One of every scope."""
        return str(json.loads(self._settings.tokens_file.read_text())["tokens"][0]["token"])

    def client(self) -> httpx.Client:
        """Everything may be asked with it."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=UP_S)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        prepare(self._settings)
        self.app = await build(self._settings, factories=self._factories)
        await self.app.start()
        leading = asyncio.create_task(self.app.run())
        try:
            with bind("127.0.0.1", 0) as sock:
                self.url = url_of(sock)
                http = create_app(
                    self.app.desk, front(self._settings, TokensFile(self._settings.tokens_file), self.app)
                )
                await serve(http, sock, self._stop, self._up.set)
        finally:
            leading.cancel()
            await self.app.stop()

    def start(self) -> None:
        """Returns once it listens."""
        self._thread.start()
        if not self._up.wait(UP_S):
            raise TimeoutError(f"the server of the test was not up after {UP_S} s")

    def end(self) -> None:
        """Let go of everything."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(UP_S)


@contextmanager
def real(home: Path, providers: Path, factories: Mapping[str, Factory] | None = None) -> Iterator[Real]:
    """A server in `home` over the providers of this file. `factories`: adapters that are not installed."""
    server = Real(load(home=home, providers=providers), factories or {})
    server.start()
    try:
        yield server
    finally:
        server.end()
