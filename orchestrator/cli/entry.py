"""The installed script `orchestrator`: a Ctrl-C ends it without a trace, while it is still importing too."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line. Where an interrupt is ignored (`nohup`, a shell's `&`), it stays so."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from orchestrator.cli.main import app

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app()
