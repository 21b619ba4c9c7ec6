"""May this zip be unpacked beside somebody's training job? Called by the package route, before anything is kept.

Refused: paths that leave the folder, links and devices, duplicates, control characters, encryption, and more
bytes than the limit however they are packed (sizes are counted while unpacking, never believed). Pure but for
reading the file that it is given; never writes what it unpacks.
"""

from __future__ import annotations

import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path

MAX_FILES = 20_000
_CHUNK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def complaints(path: Path, unpacked_limit: int) -> list[tuple[str, str]]:
    """(entry, reason) for everything that is wrong; empty: it is safe. `unpacked_limit` in bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                return [("", f"{len(entries)} entries; at most {MAX_FILES} are taken")]
            bad = list(_names(entries))
            return bad or _contents(archive, entries, unpacked_limit)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, NotImplementedError) as error:
        return [("", f"not a zip file that can be read: {error}")]


def _names(entries: Iterable[zipfile.ZipInfo]) -> Iterable[tuple[str, str]]:
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
