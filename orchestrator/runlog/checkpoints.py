"""How is a checkpoint's folder kept at the store, and fetched again whole or not at all?

Called by the training helper. The manifest (names, sizes, sha256) is stored after the bytes, and its own
sha256 stands in the run log: a checkpoint that was cut short, or altered, is not used, and the one before
it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.model.wire import Checkpoint
from orchestrator.runlog import paths
from orchestrator.runlog.log import JobLog
from orchestrator.runlog.rules import RunLog, resume_points

_BLOCK = 1 << 20


class Damaged(Exception):
    """A checkpoint's bytes are not those that were saved: missing, cut short or altered.

    Use the one before.
    """


@dataclass(frozen=True, slots=True)
class Saved:
    """Where a checkpoint's manifest is, and its sha256: what the run-log entry says."""

    manifest: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint fetched and verified."""

    checkpoint: Checkpoint
    folder: Path


def save(log: JobLog, epoch: int, step: int, entry_id: str, folder: Path) -> Saved:
    """Store the files of `folder`, then their manifest.

    Raises StoreUnavailable, ValueError where it is no folder.
    """
    base = paths.checkpoint(log.project, log.job, epoch, step, entry_id)
    return _finish(log, base, epoch, step, _upload(log, base, folder))


def ask_for_parts(log: JobLog, epoch: int, step: int, nonce: str, save_id: str) -> None:
    """Tell the other ranks of this try at saving the step; `save_id` is its own. Raises StoreUnavailable.

    A launcher may start its ranks again inside one attempt: parts of an earlier try are not this one's.
    """
    log.store.put(_asking(log, epoch, step, nonce), save_id.encode())


def asked_for_parts(log: JobLog, epoch: int, step: int, nonce: str) -> str | None:
    """The newest try of rank 0's; None: it has not come so far. Raises StoreUnavailable."""
    data = log.store.get(_asking(log, epoch, step, nonce))
    return None if data is None else data.decode()


def _asking(log: JobLog, epoch: int, step: int, nonce: str) -> str:
    return f"{paths.checkpoint(log.project, log.job, epoch, step, nonce)}/try"


def save_part(log: JobLog, epoch: int, step: int, save_id: str, folder: Path, rank: int) -> None:
    """Store the files of one rank's `folder`, then the list of them, for `join`. Raises as `save`."""
    base = paths.checkpoint(log.project, log.job, epoch, step, save_id)
    log.store.put(f"{base}/parts/{rank}.json", json.dumps(_upload(log, base, folder)).encode())


def join(log: JobLog, epoch: int, step: int, save_id: str, ranks: int) -> Saved | tuple[int, ...]:
    """Store one manifest of the parts of ranks 0 … `ranks` - 1; the ranks whose parts are not there yet, if any.

    Raises StoreUnavailable, ValueError where two ranks gave different files of one name.
    """
    base = paths.checkpoint(log.project, log.job, epoch, step, save_id)
    there = set(log.store.list(f"{base}/parts"))
    if missing := tuple(rank for rank in range(ranks) if f"{base}/parts/{rank}.json" not in there):
        return missing
    files: dict[str, dict[str, Any]] = {}
    for rank in range(ranks):
        part = log.store.get(f"{base}/parts/{rank}.json")
        if part is None:
            return (rank,)  # listed, and not to be read yet
        for file in json.loads(part):
            if files.setdefault(file["name"], file) != file:
                raise ValueError(
                    f"rank {rank} and one before it gave different files named {file['name']}; "
                    "remedy: put the rank into the name of a shard's file"
                )
    return _finish(log, base, epoch, step, [files[name] for name in sorted(files)])


def refuse_parts(log: JobLog, epoch: int, step: int, save_id: str, why: str) -> None:
    """Tell the other ranks that this try makes no checkpoint, so that none waits for it. Raises StoreUnavailable."""
    log.store.put(_refusal(log, epoch, step, save_id), why.encode())


def refused_parts(log: JobLog, epoch: int, step: int, save_id: str) -> str | None:
    """Why rank 0 refused this try; None: it has not. Raises StoreUnavailable."""
    data = log.store.get(_refusal(log, epoch, step, save_id))
    return None if data is None else data.decode()


def _refusal(log: JobLog, epoch: int, step: int, save_id: str) -> str:
    return f"{paths.checkpoint(log.project, log.job, epoch, step, save_id)}/refused"


def _upload(log: JobLog, base: str, folder: Path) -> list[dict[str, Any]]:
    """Store the files of a folder; what a manifest says of them."""
    if not folder.is_dir():
        raise ValueError(f"a checkpoint is a folder, and {folder} is none")
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        files.append({"name": name, "size": path.stat().st_size, "sha256": _sha256(path)})
        log.store.upload(f"{base}/files/{name}", path)
    return files


def _finish(log: JobLog, base: str, epoch: int, step: int, files: list[dict[str, Any]]) -> Saved:
    doc = {"v": 1, "epoch": epoch, "step": step, "files": files}
    data = json.dumps(doc, sort_keys=True, separators=(",", ":")).encode()
    log.store.put(f"{base}/manifest.json", data)
    return Saved(f"{base}/manifest.json", hashlib.sha256(data).hexdigest())


def restore(log: JobLog, state: RunLog, into: Path, damaged: Callable[[str], None], *, store: str) -> Restored | None:
    """Fetch the newest checkpoint that is whole into a folder below `into`; None: there is none.

    `damaged` is told a sentence for each that is not. `store`: the name of the job's own; what claims to lie in another
    is not looked for. All ranks of a machine may share `into`: one of them fetches, the others wait for it. Raises
    StoreUnavailable: silence is no reason for an older one.
    """
    into.mkdir(parents=True, exist_ok=True)
    with _alone(into) as sure:
        if sure:
            _remove_left(into)
        for checkpoint in resume_points(state):
            try:
                if checkpoint.store != store:
                    raise Damaged(f"it says that it lies in store {checkpoint.store!r}, and the job's own is {store!r}")
                return Restored(checkpoint, _fetch(log, checkpoint, into))
            except Damaged as error:
                damaged(f"checkpoint of epoch {checkpoint.epoch}, step {checkpoint.step} is not used: {error}")
        return None


def _fetch(log: JobLog, checkpoint: Checkpoint, into: Path) -> Path:
    target = into / f"e{checkpoint.epoch}-{checkpoint.step}-{checkpoint.sha256[:8]}"
    if target.is_dir():
        return target  # moved into place whole, by this process or another one
    with tempfile.TemporaryDirectory(prefix=_partial(), dir=into, ignore_cleanup_errors=True) as folder:
        partial = Path(folder) / target.name
        partial.mkdir()
        for file in _manifest(log, checkpoint):
            _fetch_file(log, checkpoint, file, partial)
        return _move(partial, target)


@contextmanager
def _alone(into: Path) -> Iterator[bool]:
    """Meanwhile no other process of this machine fetches into this folder; whether that is sure: a disk may know no
    locks. A lock ends with its process. On a shared disk one machine may not see another's: each has a file of its own.
    """
    descriptor = os.open(into / f".lock-{os.uname().nodename}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove_left(into: Path) -> None:
    """What killed processes had fetched does not pile up. Only for who is alone there."""
    for folder in into.glob(f"{_partial()}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _partial() -> str:
    return f".partial-{os.uname().nodename}-"


def _move(partial: Path, target: Path) -> Path:
    try:
        return partial.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        return target  # another process was first with the same verified bytes


def _manifest(log: JobLog, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """User code can append a checkpoint of its own making; it leads nowhere but into its own job's folder."""
    if not paths.within(log.project, log.job, checkpoint.manifest):
        raise Damaged("its manifest is not in the job's own folder")
    data = log.store.get(checkpoint.manifest)
    if data is None:
        raise Damaged("its manifest is not in the store")
    if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
        raise Damaged("its manifest is not the one that the run log names")
    try:
        return [{key: file[key] for key in ("name", "size", "sha256")} for file in json.loads(data)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"its manifest is none: {error!r}") from error


def _fetch_file(log: JobLog, checkpoint: Checkpoint, file: dict[str, Any], partial: Path) -> None:
    name = PurePosixPath(str(file["name"]))
    if name.is_absolute() or ".." in name.parts:
        raise Damaged(f"its manifest names {name}")
    path = partial / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not log.store.download(f"{checkpoint.manifest.removesuffix('manifest.json')}files/{name}", path):
        raise Damaged(f"{name} is not in the store")
    if path.stat().st_size != file["size"] or _sha256(path) != file["sha256"]:
        raise Damaged(f"{name} is not what was saved")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
