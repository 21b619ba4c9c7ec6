"""Where at the store does each thing of a job lie? Called by everything that reads or writes one. Pure."""

from __future__ import annotations

SLOTS = 99_999_999  # eight digits


def log_slot(project: str, job: str, slot: int) -> str:
    """The key of a run-log entry; slots count from 1."""
    if not 1 <= slot <= SLOTS:
        raise ValueError(f"a run log has slots 1 to {SLOTS}, not {slot}")
    return f"{_job(project, job)}/log/{slot:08d}"


def beat(project: str, job: str, epoch: int) -> str:
    """The key of an attempt's beat."""
    return f"{_job(project, job)}/beat/e{epoch}"


def out(project: str, job: str, epoch: int) -> str:
    """The folder of an attempt's output, in numbered chunks."""
    return f"{_job(project, job)}/e{epoch}/out"


def progress(project: str, job: str, epoch: int) -> str:
    """The folder of an attempt's progress (JSON lines: step, loss), in numbered chunks."""
    return f"{_job(project, job)}/e{epoch}/progress"


def checkpoint(project: str, job: str, epoch: int, step: int, entry_id: str) -> str:
    """The folder of one checkpoint. The entry's id keeps two tries at the same step apart."""
    return f"{_job(project, job)}/e{epoch}/ckpt/{step:012d}-{entry_id}"


def within(project: str, job: str, key: str) -> bool:
    """Whether a key that somebody else made lies in the job's own folder."""
    parts = key.split("/")
    return parts[:2] == [_name(project), _name(job)] and not any(part in ("", ".", "..") for part in parts)


def package(project: str, sha256: str) -> str:
    """The key of a code package."""
    return f"{_name(project)}/packages/{_name(sha256)}.zip"


def _job(project: str, job: str) -> str:
    return f"{_name(project)}/{_name(job)}"


def _name(text: str) -> str:
    if not text or "/" in text or text.startswith("."):
        raise ValueError(f"{text!r} cannot be part of a store key")
    return text
