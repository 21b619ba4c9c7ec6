"""What does somebody at a terminal see when it does not work? One line of reason and remedy, and an exit code.

Called by the outermost frame of the command line only. Knows every error that has a remedy; the rest are bugs.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from orchestrator.cli.exits import Exit
from orchestrator.cli.output import clean
from orchestrator.model.documents import DocumentError
from orchestrator.sdk import errors as sdk

_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (sdk.NoToken, Exit.DENIED),
    (sdk.NoServer, Exit.NO_SERVER),
    (sdk.Unreachable, Exit.NO_SERVER),
    (sdk.Busy, Exit.NO_SERVER),
    (sdk.Unauthenticated, Exit.DENIED),
    (sdk.Forbidden, Exit.DENIED),
    (sdk.NotFound, Exit.USAGE),
    (sdk.NoShell, Exit.NO_SHELL),
    (sdk.PackageError, Exit.USAGE),
    (sdk.JobFailed, Exit.FAILED),
    (sdk.Timeout, Exit.FAILED),
    (sdk.Refused, Exit.REFUSED),
    (DocumentError, Exit.REFUSED),
)

_NOT_YET = ("not_enforced", "not_honoured")


def told(error: BaseException) -> Exit | None:
    """Say it on stderr; the exit code, or None for what we do not know."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if isinstance(error, DocumentError) and all(problem.code in _NOT_YET for problem in error.problems):
        code = Exit.NOT_ENFORCED
    if code is None:
        code = _server_side(error)
    if code is not None:
        fault = error.problem.fault if isinstance(error, sdk.Refused) else "caller"
        whose = {"server": "the server cannot: ", "operator": "the operator must act: "}.get(fault, "")
        said = "\n".join(clean(line) for line in str(error).split("\n"))
        say(f"[red]error:[/] {whose}{escape(said)}")
    return code


def _server_side(error: BaseException) -> Exit | None:
    """Errors of `serve`, whose parts are imported only there."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"HomeUnusable", "LedgerLocked", "LedgerError", "PortTaken", "TokensError", "StoreUnavailable"}:
        return Exit.FAILED
    return Exit.USAGE if names & {"BadSettings", "BadStore", "Misconfigured"} else None


def say(text: str) -> None:
    """A line for people, on stderr; rich markup."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)
