"""What does a store look like from machines that have lost their way to it? Used by simulated agents."""

from __future__ import annotations

import builtins
from pathlib import Path

from orchestrator.runlog.results import Put, StoreUnavailable, Unknown
from orchestrator.runlog.store import Store


class CutStore:
    """Another store, behind a line that can be cut."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.cut = False

    def _through(self) -> Store:
        if self.cut:
            raise StoreUnavailable("the line to the store is cut; nothing was sent")
        return self._store

    def create(self, key: str, data: bytes) -> Put:
        """See Store."""
        return Unknown("the line to the store is cut") if self.cut else self._store.create(key, data)

    def get(self, key: str) -> bytes | None:
        """See Store."""
        return self._through().get(key)

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        self._through().put(key, data)

    def list(self, prefix: str) -> builtins.list[str]:
        """See Store."""
        return self._through().list(prefix)

    def delete(self, key: str) -> None:
        """See Store."""
        self._through().delete(key)

    def upload(self, key: str, path: Path) -> None:
        """See Store."""
        self._through().upload(key, path)

    def download(self, key: str, path: Path) -> bool:
        """See Store."""
        return self._through().download(key, path)
