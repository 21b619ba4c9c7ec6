"""One server of two, as a process: `bootstrap.build` over a journal of calls, with the HTTP front of `serve`.

FREEZE=<kind>: stand still (SIGSTOP) right after the first commit that holds an event of this kind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from orchestrator.api.access import TokensFile
from orchestrator.api.app import create_app
from orchestrator.api.server import bind, serve, url_of
from orchestrator.bootstrap import build
from orchestrator.cli.serve import announced, front, log_as, prepare, until_first
from orchestrator.ports.ledger import Batch, Committed
from orchestrator.settings import load
from tests.servers.journal import Journal


def freezing(ledger: Any, kind: str) -> None:
    commit = ledger.commit

    async def and_freeze(batch: Batch) -> Committed:
        done: Committed = await commit(batch)
        if any(record.kind == kind for record in batch.events):
            ledger.commit = commit
            os.kill(os.getpid(), signal.SIGSTOP)
        return done

    ledger.commit = and_freeze


async def main() -> None:
    settings, stop = load(), asyncio.Event()
    prepare(settings)
    log_as(settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with bind("127.0.0.1", 0) as sock:
        app = await build(settings, factories={"journal": Journal})
        if kind := os.environ.get("FREEZE"):
            freezing(app.serving.wiring.ledger, kind)
        try:
            await app.start()
            with announced(settings, url_of(sock)) as up:
                http = create_app(app.desk, front(settings, TokensFile(settings.tokens_file), app))
                await until_first(serve(http, sock, stop, up), app.run(), stop)
        finally:
            await app.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
