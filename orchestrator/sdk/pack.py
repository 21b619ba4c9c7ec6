"""Which files does a job's code consist of, and what are the bytes that carry them?

Called by clients before they submit a directory. The zip is deterministic: the same files give the same bytes, hence
the same digest, whatever their dates, order or owner. Ignore rules (.gitignore and .orchestratorignore, in every
folder) are respected; .git, .env, key files and a server's home never leave the machine, links are never followed out
of the folder, nor to what is left out of it.
"""

from __future__ import annotations

import hashlib
import io
import os
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from orchestrator.sdk.address import home_folder
from orchestrator.sdk.errors import PackageError

LIMIT = 64 * 1024**2
"""Bytes of a package, as many as a server takes by default: code is small, and what is larger is data."""
MAX_FILES = 20_000
"""As many as a server takes; more are data, or somebody's home folder."""
KEEP_OUT = "name data and outputs in .orchestratorignore, or keep them out of the folder"
NO_CODE = "check its ignore rules, or send no code along: --no-package, or folder=None in Python"
IGNORE_FILES = (".gitignore", ".orchestratorignore")
SILENT = GitIgnoreSpec.from_lines([".git/", ".hg/", ".svn/", "__pycache__/", "*.py[cod]", ".venv/", ".DS_Store"])
_KEYS = ["*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "id_rsa*", "id_ecdsa*", "id_ed25519*"]
_TOKENS = [".env", ".env.*", "!.env.example", ".netrc", ".pypirc", ".npmrc", "kubeconfig", "credentials.json"]
_FOLDERS = [".aws/", ".ssh/", ".gnupg/", ".kube/", ".config/gcloud/", ".orchestrator/"]
SECRET = GitIgnoreSpec.from_lines([*_KEYS, *_TOKENS, *_FOLDERS, "service-account*.json"])
HOMES = (("ledger.db",), ("ledger.db.lock",), ("server.json", "tokens.json"))
"""Files by which a server's home is known, whatever its name: it holds tokens, everybody's jobs, the store."""
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Packed:
    """A zip, its name, and what was left out although nobody asked for it."""

    data: bytes
    digest: str
    """sha256 of `data`, hexadecimal."""
    files: int
    notices: tuple[str, ...]


def pack(folder: Path | str, limit: int = LIMIT) -> Packed:
    """The code in `folder` as a zip of at most `limit` bytes. Raises PackageError."""
    try:
        return _packed(folder, limit)
    except OSError as error:
        why = f"{error.filename or folder} cannot be read: {error.strerror or error}"
        raise PackageError(f"{why}; make it readable or ignore it") from error


def _packed(folder: Path | str, limit: int) -> Packed:
    root = Path(folder).resolve()
    if not root.is_dir():
        raise PackageError(f"{folder} is not a folder; name the one that holds the code")
    if _is_home(root):
        raise PackageError(f"{folder} is a server's own folder, with its tokens; name the one that holds the code")
    notices: list[str] = []
    buffer, count = io.BytesIO(), 0
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, path in sorted(_few(_walk(root, notices), folder)):
            _check_name(name)
            if buffer.tell() + path.stat().st_size > limit:
                raise PackageError(f"the code in {folder} packs to more than {limit} bytes (at {name}); {KEEP_OUT}")
            _add(archive, name, path)
            count += 1
    if not count:
        raise PackageError(f"{folder} holds no file to pack; {NO_CODE}")
    data = buffer.getvalue()
    return Packed(data, hashlib.sha256(data).hexdigest(), count, tuple(notices))


def _few(found: Iterator[tuple[str, Path]], folder: Path | str) -> Iterator[tuple[str, Path]]:
    for count, one in enumerate(found, 1):
        if count > MAX_FILES:
            raise PackageError(f"{folder} holds more than {MAX_FILES} files; {KEEP_OUT}")
        yield one


def _check_name(name: str) -> None:
    """Names that a server refuses, because not every machine can unpack them."""
    odd = any(unicodedata.category(char).startswith("C") for char in name)
    if odd or "\\" in name or ":" in name.split("/")[0]:
        raise PackageError(f"{name!r} is no name that every machine can unpack; rename it, or ignore it")


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system = 3
    info.compress_type = zipfile.ZIP_STORED  # compressed bytes, hence digests, differ between builds of zlib
    info.external_attr = (0o100755 if os.access(path, os.X_OK) else 0o100644) << 16
    archive.writestr(info, path.read_bytes())


def _walk(root: Path, notices: list[str]) -> Iterator[tuple[str, Path]]:
    """(name in the zip, file) of everything that is not ignored."""
    rules: list[tuple[str, GitIgnoreSpec]] = []

    def fail(error: OSError) -> None:
        raise error

    for here, folders, files in os.walk(root, onerror=fail):
        inside = PurePosixPath(Path(here).relative_to(root).as_posix())
        rules = [rule for rule in rules if _below(rule[0], str(inside))]
        rules += _rules(Path(here), str(inside))
        folders[:] = sorted(name for name in folders if _kept(root, inside / name, rules, notices, "/"))
        for name in sorted(files):
            if _kept(root, inside / name, rules, notices, ""):
                yield str(inside / name), Path(here, name)


def _rules(folder: Path, inside: str) -> list[tuple[str, GitIgnoreSpec]]:
    found = [folder / name for name in IGNORE_FILES if (folder / name).is_file()]
    return [(inside, GitIgnoreSpec.from_lines(file.read_text(errors="replace").splitlines())) for file in found]


def _below(above: str, inside: str) -> bool:
    return above == "." or inside == above or inside.startswith(above + "/")


def _kept(
    root: Path, name: PurePosixPath, rules: list[tuple[str, GitIgnoreSpec]], notices: list[str], end: str
) -> bool:
    shown = f"{name}{end}"
    if SILENT.match_file(shown):
        return False
    if SECRET.match_file(shown):
        notices.append(f"left out {shown}: it looks like a secret; secrets do not belong into code packages")
        return False
    if _ignored(name, end, rules):
        return False
    path = root / name
    if end and _is_home(path):
        notices.append(f"left out {shown}: it is a server's own folder, with its tokens")
        return False
    if path.is_symlink() and (why := _astray(path, root, end)):
        notices.append(f"left out {shown}: it is a link to {why}")
        return False
    return bool(end) or path.is_file()


def _is_home(folder: Path) -> bool:
    try:
        known = any(all((folder / name).exists() for name in names) for names in HOMES)
    except PermissionError:
        known = False  # of nobody's who packs; that it cannot be read, the walk says in its own name
    return known or folder.resolve() == home_folder().resolve()


def _astray(link: Path, root: Path, end: str) -> str:
    """Where it leads to, if that is nowhere that a link may lead to."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # to nowhere, to itself, to where we may not look
        target = None
    if target is None or not target.is_relative_to(root):
        return "outside of the folder, or to nowhere"
    if end:
        return "a folder; name the folder itself"
    name = PurePosixPath(target.relative_to(root).as_posix())
    return "" if _found(root, name) else f"{name}, which is left out"


def _found(root: Path, name: PurePosixPath) -> bool:
    """Whether the walk comes to this file, by its own name."""
    rules: list[tuple[str, GitIgnoreSpec]] = []
    for above, one in pairwise((*reversed(name.parents), name)):
        rules += _rules(root / above, str(above))
        if not _kept(root, one, rules, [], "" if one == name else "/"):
            return False
    return True


def _ignored(name: PurePosixPath, end: str, rules: list[tuple[str, GitIgnoreSpec]]) -> bool:
    verdict = False
    for above, spec in rules:
        local = str(name) if above == "." else str(name.relative_to(above))
        said = spec.check_file(local + end).include
        verdict = verdict if said is None else said
    return verdict
