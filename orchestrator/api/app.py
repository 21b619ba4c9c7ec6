"""The HTTP server's application: what stands before the routes, and which routes there are.

Called by `orchestrator serve`, the demo and tests with a running desk; holds no state of its own. There is no CORS
and no page that loads anything from elsewhere: browsers of other sites have no business here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import capacity, inside, jobs, offers, operator, packages, problems, records, streams
from orchestrator.api.access import AccessMiddleware, Caller
from orchestrator.api.admission import Admission
from orchestrator.api.bodies import BodyLimit
from orchestrator.ports.desk import Desk
from orchestrator.runlog.results import StoreUnavailable

ABOUT = """Places GPU training jobs across clouds by contract, fails over from checkpoints, never runs a job twice.

Every request but `/healthz` and `/readyz` carries `Authorization: Bearer <token>`. A token may be good for some
projects only: what is of others is not there for it, and what is about all of them is forbidden. Every refusal is a
problem (RFC 9457, `application/problem+json`) that says whose fault it is, and what to do. Moments are UTC; money is
integer micro-dollars. A submission may be sent again under its `Idempotency-Key`: the same body gives the same job for
seven days, another body 409. Commands beside a running job and its ports are WebSockets, `/v1/jobs/{job}/exec` and
`/v1/jobs/{job}/forward?port=`, which this document cannot describe; `orchestrator exec` and `forward` speak them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What the HTTP front is told by whoever starts it."""

    find: Callable[[str], Caller | None]
    """Whose token this is."""
    files: packages.Files
    """Where packages are kept."""
    by_policy: Mapping[str, packages.Files] = field(default_factory=dict)
    """Where instead, for jobs of each policy that there is; empty: nobody has told which there are."""
    metrics: operator.Metrics
    hosts: Sequence[str] = ()
    """Names besides loopback under which the server is addressed."""
    job_limit: int = 256 * 1024
    """Bytes."""
    package_limit: int = 64 * 1024**2
    unpacked_limit: int = 512 * 1024**2
    version: str = "0"


def create_app(desk: Desk, front: Front) -> FastAPI:
    """The application over a desk."""
    kept = packages.Packages(front.files, front.by_policy, front.package_limit, front.unpacked_limit)
    parts = (
        operator.router(desk, front.metrics),
        jobs.router(desk, Admission(kept, front.job_limit)),
        records.router(desk),
        capacity.router(desk),
        offers.router(desk),
        streams.router(desk),
        inside.router(desk),
        packages.router(kept),
    )
    app = FastAPI(
        title="Orchestrator",
        version=front.version,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(AccessMiddleware, find=front.find, hosts=tuple(front.hosts)), Middleware(BodyLimit)],
        routes=[route for part in parts for route in part.routes],  # included, each would be made twice: 0.1 s
    )
    problems.install(app)

    @app.exception_handler(StoreUnavailable)
    async def store(_: Request, error: StoreUnavailable) -> Response:
        return packages.store_away(error).response()

    return app
