"""The real server in a thread of its own, over a provider that a test makes: for tests that must meet no fake desk.

What `bootstrap.build` makes, with a ledger and a store in a folder, behind its HTTP front on a free loopback port.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from orchestrator.api.access import TokensFile
from orchestrator.api.app import create_app
from orchestrator.bootstrap import App, Factory, build
from orchestrator.cli.serve import front, prepare
from orchestrator.engine.wiring import Pace
from orchestrator.settings import Settings, load
from tests.elsewhere import UP_S, Elsewhere, listening

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


@dataclass
class Real:
    """The running server."""

    settings: Settings
    app: App
    url: str = ""

    @property
    def token(self) -> str:
        """One of every scope."""
        return str(json.loads(self.settings.tokens_file.read_text())["tokens"][0]["token"])

    def client(self) -> httpx.Client:
        """Everything may be asked with it."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=UP_S)


@asynccontextmanager
async def _built(settings: Settings, factories: Mapping[str, Factory], pace: Pace | None) -> AsyncIterator[Real]:
    prepare(settings)
    app = await build(settings, pace=pace, factories=factories)
    await app.start()
    leading = asyncio.create_task(app.run())
    try:
        http = create_app(app.desk, front(settings, TokensFile(settings.tokens_file), app))
        async with listening(http, settings.folder) as url:
            yield Real(settings, app, url)
    finally:
        leading.cancel()
        await app.stop()


@contextmanager
def real(
    home: Path,
    providers: Path,
    factories: Mapping[str, Factory] | None = None,
    pace: Pace | None = None,
    **settings: object,
) -> Iterator[Real]:
    """A server in `home` over the providers of this file. `factories`: adapters that are not installed."""
    given = load(home=home, providers=providers, **settings)
    with Elsewhere(lambda: _built(given, factories or {}, pace)) as server:
        yield server
