"""What a test keeps open on a loop in a thread of its own: a server that listens, a cloud, a way between them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from starlette.types import ASGIApp

from orchestrator.api.server import bind, serve, url_of

T = TypeVar("T")
UP_S = 20.0


class Elsewhere(Generic[T]):
    """In `with`: what `make` opens; meanwhile `tell` does something with it on its loop."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._found: Future[T] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def tell(self, act: Callable[[T], Any]) -> Any:
        """What `act` gives."""

        async def there() -> Any:
            return act(self._found.result())

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(UP_S)

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._make() as found:
                self._found.set_result(found)
                await self._over.wait()
        except Exception as error:
            if self._found.done():
                raise
            self._found.set_exception(error)

    def __enter__(self) -> T:
        self._thread.start()
        return self._found.result(UP_S)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(UP_S)


@asynccontextmanager
async def listening(app: ASGIApp, home: Path) -> AsyncIterator[str]:
    """The application behind a free loopback port, at this address; in `home` the file by which clients find it."""
    over, up = asyncio.Event(), asyncio.Event()
    with bind("127.0.0.1", 0) as sock:
        serving = asyncio.create_task(serve(app, sock, over, up.set))
        await up.wait()
        (home / "server.json").write_text(json.dumps({"url": url_of(sock)}))
        try:
            yield url_of(sock)
        finally:
            over.set()
            await serving
