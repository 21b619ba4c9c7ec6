"""How does the user's code package get onto this machine, safely?

Called by the agent before user code. A package is named by the sha256 of its zip; nothing in it may leave
its folder, be a link, or grow beyond the cap. It is unpacked whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from orchestrator.runlog import paths
from orchestrator.runlog.store import Store

UNPACKED_BYTES = 2 << 30  # more than code ever needs; a zip bomb stops here
MEMBERS = 100_000
_BLOCK = 1 << 20
_ITS_ERRORS = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, None)
"""What names that no folder can hold lead to, and places that are not in the zip. Others, like a full disk, are the
machine's."""


class BadPackage(Exception):
    """The package is missing, is not what its name says, or must not be unpacked. The submission's fault."""


def fetch(store: Store, project: str, sha256: str, archive: Path) -> None:
    """Download the package into `archive` and verify it. Raises BadPackage, StoreUnavailable."""
    if not store.download(paths.package(project, sha256), archive):
        raise BadPackage(f"package sha256:{sha256} is not in the store; upload it and submit again")
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise BadPackage(f"package sha256:{sha256} has other bytes in the store; upload it again")


def unpack(archive: Path, folder: Path, cap_bytes: int = UNPACKED_BYTES) -> None:
    """Unpack into the (new) folder. Raises BadPackage, and OSError where this machine has no room, or fails."""
    try:
        with zipfile.ZipFile(archive) as package:
            members = package.infolist()
            if len(members) > MEMBERS:
                raise BadPackage(f"the package has {len(members)} members, {MEMBERS} are allowed")
            for member in members:
                _check(member)
            folder.mkdir(parents=True)
            for member in members:
                cap_bytes -= _extract(package, member, folder, cap_bytes)
    except OSError as error:
        if error.errno not in _ITS_ERRORS:
            raise
        raise BadPackage(f"the package cannot be unpacked: {str(error)[:300]}; pack it again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise BadPackage(f"the package is not a readable zip: {error}") from error


def _check(member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename)
    if not member.filename or name.is_absolute() or ".." in name.parts or "\\" in member.filename:
        raise BadPackage(f"the package's member {member.filename!r} would leave its folder")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadPackage(f"the package's member {member.filename!r} is a link or a device")


def _extract(package: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, cap_bytes: int) -> int:
    """Write one member; its size in bytes."""
    target = folder / member.filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with package.open(member) as source, target.open("wb") as out:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > cap_bytes:
                raise BadPackage(f"the package unpacks to more than {UNPACKED_BYTES} bytes")
            out.write(block)
    executable = member.external_attr >> 16 & 0o111
    target.chmod(0o755 if executable else 0o644)
    return written
