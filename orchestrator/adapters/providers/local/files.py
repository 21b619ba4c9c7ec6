"""What does a launch leave in its folder, so that any server of this machine finds it again?

Called by the provider and by the keeper. One folder per launch key; each file is written whole (new name, fsync,
rename) and readable by its owner alone: `head` holds a token. Making the folder is what makes a key taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

MARKER = "ORCHESTRATOR_LOCAL_LAUNCH"
"""Environment variable of every process of a launch; its value is the launch's folder."""
LAUNCH = "launch.json"
"""The order and what the head should be."""
HEAD = "head.json"
"""Where the head listens, its token, since when; written by the keeper once it is ready."""
SCRATCH = "scratch.json"
"""Name of the folder below /tmp of Ray, agents and all their temporary files, to be removed with the head."""
SCRATCH_ROOT, SCRATCH_PREFIX = "/tmp", "ol-"
"""Where such folders are, and how their names begin."""
SUBMITTED = "submitted"
STOP = "stop"
GONE = "gone.json"
"""When and why it ended; nothing of the launch lives after it was written."""
LOCK = "lock"


def marker(folder: Path) -> str:
    """What every process of this launch carries in its environment."""
    return f"{MARKER}={folder}"


def write(path: Path, doc: Any) -> None:
    """Whole or not at all, durable, 0600."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(doc, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> Any:
    """What `write` wrote. Raises FileNotFoundError."""
    return json.loads(path.read_text(encoding="utf-8"))


def maybe(path: Path) -> Any:
    """What `write` wrote, or None: not yet."""
    try:
        return read(path)
    except FileNotFoundError:
        return None


def forget_scratch(folder: Path) -> None:
    """Remove the scratch folder of this launch, if there is one; nothing may live in it any more.

    User code can write where its name is kept, so nothing but such a folder of ours is removed.
    """
    scratch = Path(maybe(folder / SCRATCH) or "")
    if str(scratch.parent) != SCRATCH_ROOT or not scratch.name.startswith(SCRATCH_PREFIX):
        return
    with suppress(FileNotFoundError):
        if scratch.lstat().st_uid == os.getuid():
            shutil.rmtree(scratch, ignore_errors=True)


def lock(folder: Path) -> int | None:
    """A descriptor that holds the launch's lock (the caller closes it), or None: its keeper lives."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
