"""On what was it measured? Machine, load, file system, memory: printed beside every figure."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})


def machine() -> dict[str, str]:
    """What a reader needs to compare figures."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {
        "processor": f"{os.cpu_count()} x {model}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def load() -> str:
    """How busy the machine is with others' work: figures from a busy one are lower than they could be."""
    return " ".join(f"{part:.2f}" for part in os.getloadavg())


def file_system(path: Path) -> str:
    """Type of the file system that holds `path`, which exists."""
    where, best, kind = str(path.resolve()), "", "?"
    for line in _lines("/proc/mounts"):
        _, point, found, *_ = line.split()
        inside = point == "/" or where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


class Unfit(Exception):
    """The figures would mean nothing here; says what to change."""


def must_be_disk(folder: Path) -> None:
    """Raises `Unfit` for a folder in memory."""
    if file_system(folder) in MEMORY_FILE_SYSTEMS:
        raise Unfit(f"{folder.resolve()} lies in memory, where a commit costs nothing; give --folder on a disk")


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def rows(title: str, values: Mapping[str, object]) -> str:
    """A small table as text."""
    width = max(map(len, values), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in values.items())])


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
