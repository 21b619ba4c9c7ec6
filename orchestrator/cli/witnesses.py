"""What was written down where things ran? Reads witness files, journals and run logs from a folder for the audit.

Called by `audit verify --world DIR`. Below DIR, however deep: `*.jsonl` files whose lines carry `boot_ns` are witness
files of user code, those whose lines carry `kind` and `at` are journals of providers; folders `<job>/log` are run logs
as they lie at the store. Other lines are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from orchestrator.core.audit.world import Journalled, Witnessed, World
from orchestrator.model.ids import is_job_id
from orchestrator.model.wire import Entry, WireError, decode

T = TypeVar("T")


class NoWitness(ValueError):
    """A file is not what it should be: says which and where."""


def gather(folder: Path) -> World:
    """Everything below `folder`; a line cut off by the death of its writer ends its file."""
    witnessed: list[Witnessed] = []
    journals: list[Journalled] = []
    for path in sorted(folder.rglob("*.jsonl")):
        for line in _lines(path):
            if "boot_ns" in line:
                witnessed.append(_convert(path, line, Witnessed))
            elif "kind" in line and "at" in line:
                journals.append(_convert(path, line, Journalled))
    logs = {path.parent.name: _log(path) for path in sorted(folder.rglob("log")) if is_job_id(path.parent.name)}
    return World(witnessed, sorted(journals, key=lambda line: line.at), logs)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for raw in path.read_bytes().splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            return
        if isinstance(line, dict):
            yield line


def _convert(path: Path, line: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(line, kind)
    except msgspec.ValidationError as wrong:
        raise NoWitness(f"{path}: a line is no {kind.__name__.lower()} line: {wrong}") from wrong


def _log(folder: Path) -> tuple[Entry, ...]:
    """A run log's entries, slot by slot to the first empty one."""
    entries: list[Entry] = []
    for slot in range(1, 100_000_000):
        path = folder / f"{slot:08}"
        if not path.is_file():
            return tuple(entries)
        try:
            entries.append(decode(path.read_bytes()))
        except WireError as wrong:
            raise NoWitness(f"{path} is no run-log entry: {wrong}") from wrong
    return tuple(entries)
