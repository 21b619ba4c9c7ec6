"""What can go wrong between a client and its server? One tree; catch as much of it as you mean.

    OrchestratorError
    ├── NoServer            no address found: nothing was sent
    │   └── NoToken         an address, and no token that may be used for it
    ├── Unreachable         the server did not answer, or not in time
    ├── PackageError        the code cannot be packed: too large, not there
    ├── JobFailed           `wait(check=True)`: the job ended other than succeeded
    ├── Timeout             `wait(timeout=…)`: the job goes on, we stopped waiting
    └── Refused             the server said no: `.problem` holds reason, fault, remedy and every field
        ├── Invalid         422, 413: the document or package
        ├── Unauthenticated 401
        ├── Forbidden       403
        ├── NotFound        404
        ├── Conflict        409: other body under the same key, or a wish that makes no sense now
        ├── NoShell         501: the job's cloud gives no way into what runs there
        └── Busy            503: back-pressure, not ready, ledger or store away; asking again is safe

Raised by `sdk` only. Every message says whose fault it is and what to do next.
"""

from __future__ import annotations

from orchestrator.model.documents.errors import Problem
from orchestrator.model.documents.views import JobView, ProblemView


class OrchestratorError(Exception):
    """Base of everything that the SDK raises."""


class NoServer(OrchestratorError):
    """No server is known here. The caller's to mend: start one, or say where it is."""


class NoToken(NoServer):
    """A server is known, and no token for it. The caller's to mend: ORCHESTRATOR_TOKEN."""


class Unreachable(OrchestratorError):
    """The server did not answer. Whether the last request was carried out is unknown; repeating it is safe."""


class PackageError(OrchestratorError):
    """The code cannot be packed. The caller's to mend."""


class Timeout(OrchestratorError):
    """We stopped waiting; the job goes on."""


class JobFailed(OrchestratorError):
    """The job ended, and not well; `job` says how."""

    def __init__(self, job: JobView) -> None:
        self.job = job
        code = f", exit {job.exit}" if job.exit is not None else ""
        why = f": {job.reason}" if job.reason else ""
        super().__init__(f"job {job.id} {job.state}{why}{code}; `orchestrator explain {job.id}` says why")


class Refused(OrchestratorError):
    """The server said no."""

    def __init__(self, problem: ProblemView) -> None:
        self.problem = problem
        lines = [f"{problem.detail}" + (f"; {problem.remedy}" if problem.remedy else "")]
        told = [Problem(e.field, e.reason, e.remedy, "") for e in problem.errors]  # as of a file that is read here
        lines += [f"  {one}" if one.remedy else f"  {one.path}: {one.reason}" for one in told]
        super().__init__("\n".join(lines))


class Invalid(Refused):
    """What was sent is wrong."""


class Unauthenticated(Refused):
    """The token is unknown."""


class Forbidden(Refused):
    """The token lacks a scope."""


class NotFound(Refused):
    """There is no such thing."""


class Conflict(Refused):
    """It contradicts what is there."""


class NoShell(Refused):
    """The job's cloud gives no way into what runs there."""


class Busy(Refused):
    """Not now. The problem says whether anything was kept; repeating it under the same key is safe."""


BY_STATUS: dict[int, type[Refused]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    422: Invalid,
    501: NoShell,
    503: Busy,
}
