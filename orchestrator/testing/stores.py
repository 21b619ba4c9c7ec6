"""A checkpoint store in memory that can lie, stall and go away, for tests and simulations.

Called by tests, the simulator and whoever tests a program of theirs against a bad store. It never sleeps;
delays are the `before` hook's business.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.runlog.results import Exists, Put, Stored, StoreUnavailable, Unknown


@dataclass
class Faults:
    """The switches. A number counts down by one with each create that it spoils."""

    down: bool = False  # nothing is answered, nothing stored
    say_exists: int = 0  # creates answered Exists although nothing is stored
    lose_answer: int = 0  # creates stored, and answered Unknown
    lose_request: int = 0  # creates not stored, and answered Unknown
    hold: int = 0  # creates answered Unknown and kept back until release_held()
    before: Callable[[str, str], None] | None = None  # called with (verb, key) first; may raise StoreUnavailable


@dataclass
class MemoryStore:
    """A Store in a dict, safe between threads.

    `journal` lists (verb, key) of every call that was answered truly.
    """

    faults: Faults = field(default_factory=Faults)
    objects: dict[str, bytes] = field(default_factory=dict)
    journal: builtins.list[tuple[str, str]] = field(default_factory=builtins.list)
    held: builtins.list[tuple[str, bytes]] = field(default_factory=builtins.list)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def create(self, key: str, data: bytes) -> Put:
        """See Store."""
        try:
            self._enter("create", key)
        except StoreUnavailable as error:
            return Unknown(str(error))
        with self._lock:
            if self._spend("say_exists"):
                return Exists()
            if self._spend("lose_request"):
                return Unknown("the request was lost")
            if self._spend("hold"):
                self.held.append((key, data))
                return Unknown("the request is on its way")
            put = self._create(key, data)
            return Unknown("the answer was lost") if self._spend("lose_answer") else put

    def get(self, key: str) -> bytes | None:
        """See Store."""
        self._enter("get", key)
        return self.objects.get(key)

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        self._enter("put", key)
        self.objects[key] = data

    def list(self, prefix: str) -> builtins.list[str]:
        """See Store."""
        self._enter("list", prefix)
        return sorted(key for key in self.objects if key.startswith(f"{prefix}/"))

    def delete(self, key: str) -> None:
        """See Store."""
        self._enter("delete", key)
        self.objects.pop(key, None)

    def upload(self, key: str, path: Path) -> None:
        """See Store."""
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> bool:
        """See Store."""
        data = self.get(key)
        if data is not None:
            path.write_bytes(data)
        return data is not None

    def release_held(self) -> builtins.list[Put]:
        """Let the creates that were kept back arrive now, in order; what the store answered to each."""
        with self._lock:
            held, self.held = self.held, []
            return [self._create(key, data) for key, data in held]

    def _create(self, key: str, data: bytes) -> Put:
        if key in self.objects:
            return Exists()
        self.objects[key] = data
        return Stored()

    def _enter(self, verb: str, key: str) -> None:
        if self.faults.before is not None:
            self.faults.before(verb, key)
        if self.faults.down:
            raise StoreUnavailable(f"the store is down ({verb} {key})")
        self.journal.append((verb, key))

    def _spend(self, switch: str) -> bool:
        left: int = getattr(self.faults, switch)
        setattr(self.faults, switch, max(0, left - 1))
        return left > 0
