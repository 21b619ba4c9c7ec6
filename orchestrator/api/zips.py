"""May this zip be unpacked beside somebody's training job? Called by the package route, before anything is kept.

Refused: paths that leave the folder, links and devices, duplicates, files below files, names that no file system takes,
control characters, encryption, and more bytes than the limit however they are packed (sizes are counted while
unpacking, never believed). Pure but for reading the file that it is given; never writes what it unpacks.
"""

from __future__ import annotations

import errno
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

MAX_FILES = 20_000
MAX_PART, MAX_NAME = 255, 3_000
"""Bytes, of one part of a path and of it all: Linux takes 255 and 4,096, and the folder to unpack into has some."""
_CHUNK = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, ValueError, NotImplementedError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def complaints(path: Path, unpacked_limit: int) -> list[tuple[str, str]]:
    """(entry, reason) for everything that is wrong; empty: it is safe. `unpacked_limit` in bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                return [("", f"{len(entries)} entries; at most {MAX_FILES} are taken")]
            bad = [*_names(entries), *_below_files(entries)]
            return bad or _contents(archive, entries, unpacked_limit)
    except (*_UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one: it names places before its begin
            raise
        return [("", f"not a zip file that can be read: {error}")]


def _below_files(entries: Iterable[zipfile.ZipInfo]) -> Iterator[tuple[str, str]]:
    """Sorted with NUL for the slash, which no name that is taken has, what is below a file comes right behind it."""
    flat = sorted((entry.filename.rstrip("/").replace("/", "\0"), entry.filename) for entry in entries)
    for (above, file), (name, entry) in pairwise(flat):
        if name.startswith(f"{above}\0") and not file.endswith("/"):
            yield shown(entry), "is below a file, not a folder"


def _names(entries: Iterable[zipfile.ZipInfo]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if reason := _bad_name(name) or _bad_kind(entry):
            yield shown(name), reason
        elif name.rstrip("/") in seen:
            yield shown(name), "appears twice"
        seen.add(name.rstrip("/"))


def _bad_name(name: str) -> str:
    if not name or name.startswith("/") or "\\" in name or ":" in name.split("/")[0]:
        return "is not a relative path with forward slashes"
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        return "leaves its folder or has empty parts"
    if any(unicodedata.category(char).startswith("C") for char in name):
        return "has control characters"
    if len(name.encode()) > MAX_NAME or any(len(part.encode()) > MAX_PART for part in name.split("/")):
        return f"is longer than file systems take: {MAX_PART} bytes a part, {MAX_NAME} in all"
    return ""


def _bad_kind(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    return "" if entry.compress_type in _METHODS else "is compressed by a method other than deflate"


def _contents(archive: zipfile.ZipFile, entries: Iterable[zipfile.ZipInfo], limit: int) -> list[tuple[str, str]]:
    """Unpack into nothing, counting; reads also check every CRC."""
    left = limit
    for entry in entries:
        if entry.is_dir():
            continue
        with archive.open(entry) as file:
            while chunk := file.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    return [(shown(entry.filename), f"unpacks to more than {limit} bytes in all")]
    return []


def shown(name: str) -> str:
    """A name from outside, short and without control characters."""
    clean = "".join("?" if unicodedata.category(char).startswith("C") else char for char in name)
    return clean if len(clean) <= 120 else clean[:119] + "…"
