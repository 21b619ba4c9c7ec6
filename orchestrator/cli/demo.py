"""`orchestrator demo`: one job's whole life on this machine, and nothing left behind however it is stopped.

Called by the command line. It only starts the play under a guardian and passes on how it ended.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.guardian import run_guarded

INTERRUPTED = 130


def demo(
    folder: Annotated[Path, typer.Option(help="Where ledger, logs and picture go; emptied first.")] = Path(".demo"),
) -> None:
    """A real training job, offered by contract, cut off by an outage, resumed elsewhere, audited. Takes 3 minutes.

    Three mock clouds, a server and Ray run on this machine, on loopback only. Ctrl-C at any moment ends all of it.
    """
    status = run_guarded([sys.executable, "-m", "orchestrator.cli.play", str(folder.absolute())])
    if status == INTERRUPTED:
        typer.echo("\ninterrupted; nothing of the demo is running any more")
    raise typer.Exit(status)
