"""How is a folder on this machine a checkpoint store?

Called by `open_store` only. Own code because the object-store library links files without fsync: a log
entry that a power cut empties would block its log for ever. A temporary file is written and synced, then
linked (put-if-absent) or renamed (put) into place, then its folder is synced. It never creates its own root
while in use: a root that vanished (an unmounted disk) must look unavailable, not empty.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.runlog.results import Exists, Put, Stored, StoreUnavailable, Unknown

_TEMPORARY = ".tmp-"
_NO_PARTS = frozenset({"", ".", ".."})
_numbers = itertools.count()
_own = os.urandom(4).hex()  # two pods may write to one disk under one pid, and each removes its temporary files


class LocalDirectory:
    """A Store in a folder, for any number of processes of this machine (or of an NFS mount)."""

    def __init__(self, root: Path, *, create: bool = False) -> None:
        """Raises StoreUnavailable where `root` is no folder."""
        if create:
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreUnavailable(f"the store's folder {root} cannot be made: {error}") from error
        self._root = root
        self._identity = self._identify()

    def create(self, key: str, data: bytes) -> Put:
        """See Store."""
        try:
            with self._staged(key, data) as (target, temporary):
                os.link(temporary, target)
            _sync_folder(target.parent)
        except FileExistsError:
            return Exists()
        except (OSError, StoreUnavailable) as error:
            return Unknown(str(error))
        return Stored()

    def get(self, key: str) -> bytes | None:
        """See Store."""
        try:
            with open(self._place(key), "rb", buffering=0) as file:  # a third of `Path.read_bytes`, and logs are polled
                return file.read()
        except FileNotFoundError:
            self._check_root()
            return None
        except OSError as error:
            raise self._unavailable("reading", key, error) from error

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        try:
            with self._staged(key, data) as (target, temporary):
                temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise self._unavailable("writing", key, error) from error

    def list(self, prefix: str) -> list[str]:
        """See Store."""
        self._check_root()
        found = []
        for folder, _, names in os.walk(self._path(prefix)):
            where = Path(folder).relative_to(self._root)
            found += [(where / name).as_posix() for name in names if not name.startswith(_TEMPORARY)]
        return sorted(found)

    def delete(self, key: str) -> None:
        """See Store."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise self._unavailable("deleting", key, error) from error

    def upload(self, key: str, path: Path) -> None:
        """See Store."""
        try:
            with self._staged(key, b"") as (target, temporary):
                shutil.copyfile(path, temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise self._unavailable("uploading", key, error) from error

    def download(self, key: str, path: Path) -> bool:
        """See Store."""
        source = self._path(key)
        self._check_root()
        if not source.is_file():
            return False
        try:
            shutil.copyfile(source, path)
        except OSError as error:
            raise self._unavailable("downloading", key, error) from error
        return True

    @contextmanager
    def _staged(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """The key's path and a synced temporary file beside it, which is gone afterwards, also from a full disk."""
        target = self._path(key)
        self._make_folder(target.parent)
        temporary = target.parent / f"{_TEMPORARY}{_own}-{os.getpid()}-{next(_numbers)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield target, temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        """Make the folders below the root down to `folder`, each synced into its parent."""
        if folder.is_dir():
            return
        self._check_root()
        if folder == self._root:
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            return
        _sync_folder(folder.parent)

    def _path(self, key: str) -> Path:
        return Path(self._place(key))

    def _place(self, key: str) -> str:
        parts = key.split("/")
        if not _NO_PARTS.isdisjoint(parts) or parts[-1].startswith(_TEMPORARY):
            raise ValueError(f"{key!r} is not a store key")
        return f"{self._root}/{key}"

    def _identify(self) -> tuple[int, int]:
        try:
            stat = self._root.stat()
        except OSError as error:
            raise StoreUnavailable(f"the store's folder {self._root} cannot be reached: {error}") from error
        return stat.st_dev, stat.st_ino

    def _check_root(self) -> None:
        if self._identify() != self._identity:
            raise StoreUnavailable(f"the store's folder {self._root} is not the one that was opened (unmounted?)")

    def _unavailable(self, doing: str, key: str, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"the store's folder {self._root} failed while {doing} {key}: {error}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
