"""Where does the code of a job come from? Zips named by the sha256 of their bytes, kept at the checkpoint store.

`PUT` streams into a temporary file, so nothing half-received or unsafe is ever stored; the same bytes again are
the same package. Clients never hold keys of the store. Whoever knows a digest and
holds a token that is good for the project may read it.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Protocol

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from orchestrator.api.access import Scope
from orchestrator.api.problems import REFUSALS, Denied
from orchestrator.api.projects import Project, of_project
from orchestrator.api.zips import complaints
from orchestrator.model.documents.views import FieldError, PackageView
from orchestrator.runlog import paths
from orchestrator.runlog.results import StoreUnavailable

_CHUNK = 1 << 18
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="sha256 of the zip, hexadecimal")]


class Files(Protocol):
    """What is needed of the store; `runlog.store.Store` has it."""

    def list(self, prefix: str) -> list[str]:
        """Every key below a folder."""

    def upload(self, key: str, path: FilePath) -> None:
        """Write a file."""

    def download(self, key: str, path: FilePath) -> bool:
        """Fetch into a file; False: no such key."""


class Packages:
    """The packages at one store. Raises StoreUnavailable where it does not answer."""

    def __init__(self, files: Files, limit: int, unpacked_limit: int) -> None:
        """Limits in bytes, of the zip and of what it unpacks to."""
        self._files, self.limit, self._unpacked_limit = files, limit, unpacked_limit
        self._known: set[str] = set()

    async def has(self, project: str, digest: str) -> bool:
        """Whether the package is stored; packages are never deleted, so a yes is remembered."""
        key = paths.package(project, digest)
        if key not in self._known:
            self._known.update(await asyncio.to_thread(self._files.list, f"{project}/packages"))
        return key in self._known

    async def add(self, project: str, digest: str, file: FilePath) -> None:
        """Check a received zip and keep it. Raises Denied where it is unsafe."""
        bad = await asyncio.to_thread(complaints, file, self._unpacked_limit)
        if bad:
            remedy = "`orchestrator pack` makes packages that are taken"
            errors = [FieldError(field=name, reason=why, remedy=remedy) for name, why in bad]
            raise Denied(422, "unsafe-package", "the package would not unpack safely; nothing kept", errors=errors[:20])
        await asyncio.to_thread(self._files.upload, paths.package(project, digest), file)
        self._known.add(paths.package(project, digest))

    async def fetch(self, project: str, digest: str, file: FilePath) -> bool:
        """The package's bytes into `file`; False: there is none."""
        return await asyncio.to_thread(self._files.download, paths.package(project, digest), file)


async def receive(request: Request, digest: str, limit: int, file: FilePath) -> int:
    """Stream a body into `file`; its size in bytes. Raises Denied over the limit or with another hash."""
    size, seen = 0, hashlib.sha256()
    with file.open("wb") as out:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large("package", limit, "leave data out (.orchestratorignore), or ask for a larger limit")
            seen.update(chunk)
            out.write(chunk)
    if seen.hexdigest() != digest:
        what = f"the bytes received hash to {seen.hexdigest()}, not to the digest in the path; nothing kept"
        raise Denied(422, "digest-mismatch", what, remedy="send the package again")
    return size


def too_large(what: str, limit: int, remedy: str) -> Denied:
    """A body over its limit (bytes)."""
    return Denied(413, "too-large", f"the {what} is larger than {limit} bytes; nothing kept", remedy=remedy)


def store_away(error: StoreUnavailable) -> Denied:
    """The store does not answer."""
    retry = {"Retry-After": "5"}
    return Denied(503, "store-unavailable", str(error), fault="server", remedy="try again later", headers=retry)


def router(packages: Packages) -> APIRouter:
    """The routes of packages."""
    routes = APIRouter(prefix="/v1/packages", tags=["packages"], responses=REFUSALS)

    @routes.put("/{digest}", status_code=201, responses={200: {"model": PackageView}}, response_model=PackageView)
    async def put_package(
        request: Request, digest: Digest, project: Project = "default", _: object = of_project(Scope.SUBMITTER)
    ) -> Response:
        """Keep a code package: a zip, as the body. 201: kept now; 200: it was here already."""
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            file = FilePath(folder, "package.zip")
            size = await receive(request, digest, packages.limit, file)
            here = await packages.has(project, digest)
            if not here:
                await packages.add(project, digest, file)
        view = PackageView(digest=f"sha256:{digest}", size=size)
        return JSONResponse(view.model_dump(by_alias=True), 200 if here else 201)

    @routes.head("/{digest}")
    async def has_package(
        digest: Digest, project: Project = "default", _: object = of_project(Scope.VIEWER)
    ) -> Response:
        """Whether the package is here: 200 or 404."""
        return Response(status_code=200 if await packages.has(project, digest) else 404)

    @routes.get("/{digest}", response_class=StreamingResponse)
    async def get_package(
        digest: Digest, project: Project = "default", _: object = of_project(Scope.VIEWER)
    ) -> Response:
        """The package's bytes."""
        folder = tempfile.TemporaryDirectory(prefix="orchestrator-")
        file = FilePath(folder.name, "package.zip")
        if not await packages.fetch(project, digest, file):
            folder.cleanup()
            raise Denied(404, "unknown-package", "no such package in this project", remedy="upload it with PUT")
        return StreamingResponse(_pour(file, folder), media_type="application/zip")

    return routes


async def _pour(file: FilePath, folder: tempfile.TemporaryDirectory[str]) -> AsyncIterator[bytes]:
    with folder, file.open("rb") as source:
        while chunk := await asyncio.to_thread(source.read, _CHUNK):
            yield chunk
