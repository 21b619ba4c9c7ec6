"""Is this a job that we can take in? From a request's body to canonical bytes, or a refusal that says everything.

Called by `POST /v1/jobs` before the desk hears of it, so that nothing half-done remains of a refused job. Checks the
document, what this version honours, and that the code package is here, and copied to the store where the job looks for
it; the desk decides about contracts and keys.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from fastapi import Request

from orchestrator.api.access import Caller
from orchestrator.api.packages import Packages, too_large
from orchestrator.api.problems import Denied
from orchestrator.api.projects import may_use
from orchestrator.model.documents import (
    DocumentError,
    Problem,
    TrainingJob,
    job_bytes,
    job_from,
    job_from_bytes,
    load_job,
    refuse_unhonoured,
)
from orchestrator.model.documents.views import FieldError

CANONICAL_TYPE = "application/vnd.orchestrator.job+json"
"""What the SDK sends: the document's canonical bytes (durations in milliseconds, money in micro-dollars)."""

EXAMPLE = """apiVersion: orchestrator.dev/v1alpha1
kind: TrainingJob
metadata: {name: digits, project: default, labels: {team: vision}}
spec:
  run: {command: [python, train.py, --epochs, "20"]}
  workers: {count: 2, gpus: 4, cpus: 8, memory: 32Gi, accelerator: [H100, A100]}
  maxRuntime: 12h
  ceilingUsdPerGpuHour: 3.00
"""


class Admitted(NamedTuple):
    """A job that may go to the desk."""

    project: str
    document: bytes
    """Canonical bytes."""


class Admission:
    """The gate before the desk."""

    def __init__(self, packages: Packages, limit: int) -> None:
        """`limit`: bytes of a document."""
        self._packages, self._limit = packages, limit

    async def admit(self, request: Request, caller: Caller) -> Admitted:
        """The job in a request's body, into a project of the caller's. Raises Denied with everything that is wrong."""
        body = await self._body(request)
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            job = await _parse(body, media)
            refuse_unhonoured(job)
            document = job_bytes(job)
        except DocumentError as error:
            raise denied(error) from error
        except (UnicodeError, RecursionError) as error:
            raise denied(_odd(f"it holds what no text or document can hold: {error}")) from error
        may_use(caller, job.metadata.project)
        await self._check_package(job)
        return Admitted(job.metadata.project, document)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limit:
                raise too_large("job document", self._limit, "put code and data into the package")
        return bytes(body)

    async def _check_package(self, job: TrainingJob) -> None:
        package = job.spec.run.package
        if package is None or package.digest is None:
            return
        digest = package.digest.removeprefix("sha256:")
        if not await self._packages.bring(job.metadata.project, digest, job.spec.policy):
            path, remedy = "spec.run.package.digest", "upload it first with PUT /v1/packages/{sha256}?project=…"
            error = FieldError(field=path, reason="the server has no such package in this project", remedy=remedy)
            raise refused_job([error])


async def _parse(body: bytes, media: str) -> TrainingJob:
    readers: dict[str, Callable[[bytes], TrainingJob]] = {"application/json": _json, CANONICAL_TYPE: _canonical}
    reader = readers.get(media)
    return reader(body) if reader else await asyncio.to_thread(load_job, body)  # YAML is slow to read


def _json(body: bytes) -> TrainingJob:
    problems: list[Problem] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = sorted({key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at])})
            problems.append(Problem(twice[0], "the key is given twice", "Keep one", "duplicate_key"))
        return found

    try:
        data = json.loads(body, object_pairs_hook=members, parse_float=Decimal, parse_constant=_no_number)
    except ValueError as error:
        raise _odd(f"not JSON: {error}") from error
    if problems:
        raise DocumentError(problems)
    return job_from(data)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _canonical(body: bytes) -> TrainingJob:
    try:
        return job_from_bytes(body, kept=False)
    except DocumentError:
        raise
    except ValueError as error:
        raise _odd(f"not JSON: {error}") from error


def _odd(reason: str) -> DocumentError:
    return DocumentError([Problem("(document)", reason, "Send YAML 1.2 or JSON as UTF-8", "syntax")])


def denied(error: DocumentError) -> Denied:
    """Every problem of a document, as one answer."""
    errors = [FieldError(field=p.path, reason=p.reason, remedy=p.remedy) for p in error.problems]
    return refused_job(errors)


def refused_job(errors: list[FieldError]) -> Denied:
    """A job that is not taken in, for all of these."""
    return Denied(422, "invalid-job", "the job is refused; nothing was kept", errors=errors)
