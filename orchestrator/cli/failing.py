"""What does somebody see when it does not work? Reason, remedy and an exit code; with --json the same as a problem.

Called by the outermost frame of the command line only. Knows every error that has a remedy; the rest are bugs.
"""

from __future__ import annotations

import errno
import json
import re

import typer
from rich.markup import escape

from orchestrator.cli.exits import Exit
from orchestrator.cli.output import say
from orchestrator.model.documents import DocumentError
from orchestrator.model.documents.views import FieldError, ProblemView
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
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def told(error: BaseException, *, as_json: bool) -> Exit | None:
    """Say it on stderr; the exit code, or None for what we do not know."""
    code = _code(error)
    if code is None and as_json and isinstance(error, typer.BadParameter):  # else typer says it, with the usage
        code = Exit.USAGE
    if code is not None:
        _say_for_programs(error) if as_json else _say_in_words(error)
    return code


def _code(error: BaseException) -> Exit | None:
    if isinstance(error, DocumentError) and all(problem.code in _NOT_YET for problem in error.problems):
        return Exit.NOT_ENFORCED
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return Exit.FAILED
    return next((code for kind, code in _CODES if isinstance(error, kind)), None) or _server_side(error)


def _say_in_words(error: BaseException) -> None:
    fault = error.problem.fault if isinstance(error, sdk.Refused) else "caller"
    whose = {"server": "the server cannot: ", "operator": "the operator must act: "}.get(fault, "")
    first, *more = map(escape, _words(error).split("\n"))
    say(f"[red]error:[/] {whose}{first}", *more)


def _say_for_programs(error: BaseException) -> None:
    """One line in ASCII: as the server told it, and without a status where no server did."""
    unsaid = None if isinstance(error, sdk.Refused) else {"status"}
    typer.echo(json.dumps(_problem(error).model_dump(mode="json", by_alias=True, exclude=unsaid)), err=True)


def _problem(error: BaseException) -> ProblemView:
    kind = re.sub("(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
    match error:
        case sdk.Refused():
            return error.problem
        case DocumentError():
            errors = [FieldError(field=p.path, reason=p.reason, remedy=p.remedy) for p in error.problems]
            return ProblemView.of(kind, 0, f"{error.name} is refused", errors=errors)
        case typer.BadParameter():
            return ProblemView.of(kind, 0, error.format_message())
        case _:
            fault = "operator" if isinstance(error, sdk.Unreachable) else "caller"
            return ProblemView.of(kind, 0, _words(error), fault=fault)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"{error.filename or 'the answer'} cannot be written: {error.strerror}"
    return str(error)


def _server_side(error: BaseException) -> Exit | None:
    """Errors of `serve`, whose parts are imported only there."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"HomeUnusable", "LedgerLocked", "LedgerError", "PortTaken", "TokensError", "StoreUnavailable"}:
        return Exit.FAILED
    return Exit.USAGE if names & {"BadSettings", "BadStore", "Misconfigured"} else None
