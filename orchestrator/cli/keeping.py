"""`orchestrator backup` and `restore`: keep a ledger in a file, put it back. Called by operators and their timers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.adapters.ledger.sql import SqlLedger, copying
from orchestrator.bootstrap import SystemClock, ledger_place
from orchestrator.engine.restored import mark
from orchestrator.settings import load


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="A new file; it is written whole.")],
) -> None:
    """Write the ledger, as of now, to a file. The server need not stop, and the database may be either.

    What runs, checkpoints and run logs are at the checkpoint stores; back them up where they are, if at all.

    Example: `orchestrator backup /backups/ledger-$(date +%F).db`
    """
    last = copying.backup(ledger_place(load()), file)
    typer.echo(f"{file} holds the ledger up to event {last}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Written by `backup`.")],
) -> None:
    """Put a ledger back from a backup, where there is none: a new file, or an empty database.

    The server that starts on it reads the run log of every job before it does anything. Jobs whose logs know more than
    the backup are held (run_log_ahead): look at them, then `orchestrator resume JOB` or `cancel JOB`. Launches of jobs
    that were submitted after the backup are stopped, as nobody's.
    """
    place = ledger_place(load())
    with copying.opened(file) as copied:
        asyncio.run(_mark(copied))
        copying.restore(copied, place)
    typer.echo("the ledger is back; `orchestrator serve` goes on from it")


async def _mark(copied: Path) -> None:
    ledger = await SqlLedger.open(copied)
    try:
        await mark(ledger, SystemClock().now_us())
    finally:
        await ledger.close()
