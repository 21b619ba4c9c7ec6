"""Where does the code of a job come from? Zips named by the sha256 of their bytes, kept at the checkpoint store of the
job's policy: there its agents look, and code that must stay in a jurisdiction goes to no other store.

`PUT` streams into a temporary file, so nothing half-received or unsafe is ever stored; the same bytes again are
the same package. Clients never hold keys of the store. Whoever knows a digest and
holds a token that is good for the project may read it.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Protocol

from fastapi import APIRouter, Path, Query, Request, Response
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
_OF = "of the job that it is for: its store is meant; without one, "
Kept = Annotated[str, Query(max_length=63, description=f"policy {_OF}the first store")]
Found = Annotated[str, Query(max_length=63, description=f"policy {_OF}any store")]


class Files(Protocol):
    """What is needed of the store; `runlog.store.Store` has it."""

    def list(self, prefix: str) -> list[str]:
        """Every key below a folder."""

    def upload(self, key: str, path: FilePath) -> None:
        """Write a file."""

    def download(self, key: str, path: FilePath) -> bool:
        """Fetch into a file; False: no such key."""


class Packages:
    """The packages at all stores. Raises StoreUnavailable where one does not answer."""

    def __init__(self, files: Files, by_policy: Mapping[str, Files], limit: int, unpacked_limit: int) -> None:
        """Limits in bytes, of the zip and of what it unpacks to. `files`: for no policy, or where none is known."""
        self._files, self._by_policy = files, by_policy
        self.limit, self._unpacked_limit = limit, unpacked_limit
        self._known: dict[int, set[str]] = {}

    async def has(self, project: str, digest: str) -> bool:
        """Whether the package is at any store."""
        return await self._holder(project, digest) is not None

    async def keeps(self, project: str, digest: str, policy: str) -> bool:
        """Whether the package is where jobs of this policy look for it; of no policy: at the first store."""
        return await self._holds(self._of(policy), project, digest)

    async def bring(self, project: str, digest: str, policy: str) -> bool:
        """Have it where jobs of this policy look for it, copied from another store if need be; False: it is nowhere."""
        target, here = self._of(policy), await self._holder(project, digest, policy)
        if here is None or here is target or self._is_unknown(policy):
            return here is not None
        key = paths.package(project, digest)
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            file = FilePath(folder, "package.zip")
            if not await asyncio.to_thread(here.download, key, file):
                return False
            await self._keep(target, key, file)
        return True

    async def add(self, project: str, digest: str, file: FilePath, policy: str) -> None:
        """Check a received zip and keep it for jobs of this policy. Raises Denied where it is unsafe."""
        bad = await asyncio.to_thread(complaints, file, self._unpacked_limit)
        if bad:
            remedy = "`orchestrator pack` makes packages that are taken"
            errors = [FieldError(field=name, reason=why, remedy=remedy) for name, why in bad]
            raise Denied(422, "unsafe-package", "the package would not unpack safely; nothing kept", errors=errors[:20])
        await self._keep(self._of(policy), paths.package(project, digest), file)

    async def fetch(self, project: str, digest: str, file: FilePath) -> bool:
        """The package's bytes into `file`; False: there is none."""
        here = await self._holder(project, digest)
        return here is not None and await asyncio.to_thread(here.download, paths.package(project, digest), file)

    def check(self, policy: str) -> None:
        """Raises Denied for a policy that nobody has declared: its code would go to some other's store."""
        if policy and self._is_unknown(policy):
            what = f"there is no policy {policy!r}; the operator declares {', '.join(sorted(self._by_policy))}"
            error = FieldError(field="spec.policy", reason=what, remedy="name one of these")
            raise Denied(422, "unknown-policy", f"{what}; nothing kept", errors=[error])

    def _is_unknown(self, policy: str) -> bool:
        return bool(self._by_policy) and policy not in self._by_policy

    def _of(self, policy: str) -> Files:
        return self._by_policy.get(policy, self._files)

    def _stores(self, policy: str) -> Iterator[Files]:
        """Each one once, that of the policy first."""
        every = [self._of(policy), self._files, *self._by_policy.values()]
        yield from {id(files): files for files in every}.values()

    async def _holder(self, project: str, digest: str, policy: str = "") -> Files | None:
        for files in self._stores(policy):
            if await self._holds(files, project, digest):
                return files
        return None

    async def _holds(self, files: Files, project: str, digest: str) -> bool:
        """Packages are never deleted, so a yes is remembered."""
        key, known = paths.package(project, digest), self._known.setdefault(id(files), set())
        if key not in known:
            known.update(await asyncio.to_thread(files.list, f"{project}/packages"))
        return key in known

    async def _keep(self, files: Files, key: str, file: FilePath) -> None:
        await asyncio.to_thread(files.upload, key, file)
        self._known.setdefault(id(files), set()).add(key)


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
        request: Request,
        digest: Digest,
        project: Project = "default",
        policy: Kept = "",
        _: object = of_project(Scope.SUBMITTER),
    ) -> Response:
        """Keep a code package: a zip, as the body. 201: kept now; 200: it was here already."""
        packages.check(policy)
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            file = FilePath(folder, "package.zip")
            size = await receive(request, digest, packages.limit, file)
            here = await packages.keeps(project, digest, policy)
            if not here:
                await packages.add(project, digest, file, policy)
        view = PackageView(digest=f"sha256:{digest}", size=size)
        return JSONResponse(view.model_dump(by_alias=True), 200 if here else 201)

    @routes.head("/{digest}")
    async def has_package(
        digest: Digest, project: Project = "default", policy: Found = "", _: object = of_project(Scope.VIEWER)
    ) -> Response:
        """Whether the package is here: 200 or 404."""
        here = await (packages.keeps(project, digest, policy) if policy else packages.has(project, digest))
        return Response(status_code=200 if here else 404)

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
