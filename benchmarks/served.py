"""The server under test: the product's own composition root, HTTP front and listener, with the clouds of `remote`.

`python -m benchmarks.served HOME CLOUDS_URL`, started by `latency`; ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from benchmarks import world
from benchmarks.remote import factory
from orchestrator.api.access import TokensFile
from orchestrator.api.app import create_app
from orchestrator.api.server import bind, serve, url_of
from orchestrator.bootstrap import build
from orchestrator.cli.serve import front, log_as, prepare, until_first
from orchestrator.settings import Settings

ADAPTER = "remote"


async def main(folder: Path, clouds: str) -> None:
    """Serve until standard input ends; the address is the one line of output."""
    agreed, operators = world.write_documents(folder, ADAPTER, {"url": clouds})
    settings = Settings(home=folder, contracts=agreed, providers=operators)
    prepare(settings)
    log_as(settings)  # to standard error: standard output is for the address
    stop = asyncio.Event()
    asyncio.get_running_loop().run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: stop.set())
    app = await build(settings, factories={ADAPTER: factory})
    await app.start()
    try:
        with bind("127.0.0.1", 0) as sock:
            http = create_app(app.desk, front(settings, TokensFile(settings.tokens_file), app))
            await until_first(serve(http, sock, stop, lambda: print(url_of(sock), flush=True)), app.run(), stop)
    finally:
        await app.stop()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2]))
