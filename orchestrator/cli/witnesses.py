"""What was written down where things ran? Reads witness files, journals and run logs from a folder for the audit.

Called by `audit verify --world DIR`. Below DIR, however deep: `*.jsonl` files whose lines carry `boot_ns` are witness
files of user code, those whose lines carry `kind` and `at` are journals of providers; folders `<job>/log` are run logs
as they lie at the store. Other JSON is left alone; a line that is none, or a run log with a gap, is no witness.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from orchestrator.core.audit.world import Journalled, Witnessed, World
from orchestrator.model.ids import is_job_id
from orchestrator.model.wire import Entry, WireError, decode

T = TypeVar("T")
_SLOT = re.compile("[0-9]{8}")


class NoWitness(ValueError):
    """A file is not what it should be: says which and where."""


def gather(folder: Path) -> World:
    """Everything below `folder`. Of what is not whole nothing is left out in silence: it might be the evidence."""
    witnessed: list[Witnessed] = []
    journals: list[Journalled] = []
    for path in sorted(folder.rglob("*.jsonl")):
        for line in _lines(path):
            if "boot_ns" in line:
                witnessed.append(_convert(path, line, Witnessed))
            elif "kind" in line and "at" in line:
                journals.append(_convert(path, line, Journalled))
    return World(witnessed, sorted(journals, key=lambda line: line.at), _logs(folder))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Its JSON objects. The last line may be cut off: its writer died, or writes it now."""
    *whole, last = path.read_bytes().split(b"\n")
    for number, raw in enumerate((*whole, last), start=1):
        try:
            line = json.loads(raw) if raw.strip() else None
        except (ValueError, RecursionError) as wrong:
            if number > len(whole):
                return
            mend = "find out what it said and mend it, or take it out knowing that the audit goes without it"
            raise NoWitness(f"{path}, line {number}, is no JSON, and others follow it: {mend}") from wrong
        if isinstance(line, dict):
            yield line


def _convert(path: Path, line: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(line, kind)
    except msgspec.ValidationError as wrong:
        raise NoWitness(f"{path}: a line is no {kind.__name__.lower()} line: {wrong}") from wrong


def _logs(folder: Path) -> dict[str, tuple[Entry, ...]]:
    """Every job's run log; several copies of one have to say the same."""
    found: dict[str, tuple[Path, tuple[Entry, ...]]] = {}
    for path in sorted(folder.rglob("log")):
        job = path.parent.name
        if not is_job_id(job) or not path.is_dir():
            continue
        entries = _log(path)
        other, known = found.setdefault(job, (path, entries))
        if entries != known:
            raise NoWitness(
                f"{path} is another run log of the same job than {other}: leave the one that the store holds"
            )
    return {job: entries for job, (_, entries) in found.items()}


def _log(folder: Path) -> tuple[Entry, ...]:
    """A run log's entries, slot by slot; none may be missing before the last."""
    there = sorted(path for path in folder.iterdir() if _SLOT.fullmatch(path.name))
    for slot, path in enumerate(there, start=1):
        if path.name != f"{slot:08}":
            raise NoWitness(f"{folder} has no slot {slot:08}, and later ones: copy it from its store again")
    return tuple(map(_entry, there))


def _entry(path: Path) -> Entry:
    try:
        return decode(path.read_bytes())
    except WireError as wrong:
        raise NoWitness(f"{path} is no run-log entry: {wrong}") from wrong
