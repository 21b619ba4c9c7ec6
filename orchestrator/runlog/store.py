"""How are bytes kept at a checkpoint store: a local folder, S3, GCS, Azure?

Called by the log, checkpoints and shipping; opened by the engine, the agent and the training helper. It
never decides and never repeats a request: it says what the store said. The only file that knows obstore.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from orchestrator.model.wire import StoreRef
from orchestrator.runlog.clock import boottime_ms
from orchestrator.runlog.local import LocalDirectory
from orchestrator.runlog.results import Exists, Put, Stored, StoreUnavailable, Unknown

__all__ = [
    "BadStore",
    "CloudStore",
    "Exists",
    "Put",
    "Store",
    "StoreUnavailable",
    "Stored",
    "Timeouts",
    "Unknown",
    "open_store",
]


_TOLD = re.compile(
    r"(\ufeff?<\?xml.*)?<Error>.*?<Code>(?P<code>.*?)</Code>.*?<Message>(?P<message>.*?)</Message>.*", re.DOTALL
)
"""What S3, GCS and Azure answer in; the rest of it names requests, and of a wrong signature what was signed."""
_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>")
"""S3 and GCS, Azure. It is a 404 like that of an absent key, and obstore makes the same error of both."""
_NEVER = timedelta(days=365)  # obstore knows no "none": without a value it takes 30 s


class BadStore(ValueError):
    """What names the store is wrong (url, option, a secret that is not there): its author's to mend."""


class Store(Protocol):
    """A flat space of keys (`a/b/c`) and bytes. Every call may raise StoreUnavailable, except create."""

    def create(self, key: str, data: bytes) -> Put:
        """Put-if-absent.

        Stored = durable and ours; Exists and Unknown prove nothing until the key was read back.
        """

    def get(self, key: str) -> bytes | None:
        """The bytes, or None: the store answered, and there is no such key."""

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite, whole or not at all."""

    def list(self, prefix: str) -> list[str]:
        """Every key below the folder `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Delete; an absent key is no error."""

    def upload(self, key: str, path: Path) -> None:
        """Write a file of any size; may take longer than one request."""

    def download(self, key: str, path: Path) -> bool:
        """Fetch into a file of any size; False: no such key."""


@dataclass(frozen=True)
class Timeouts:
    """How long one request may take.

    `bulk_ms`, for large files: until the answer begins, and then between two reads of it. How long all of a file takes
    to come is not bounded: one that is cut off begins anew, so a bound would be one on what can be fetched at all.
    """

    connect_ms: int = 2_000
    request_ms: int = 5_000  # half the default check: a cut store is noticed within one
    bulk_ms: int = 300_000

    @classmethod
    def within(cls, check_ms: int) -> Timeouts:
        """For who reads at each check: a request that takes longer would make it miss the next one."""
        request_ms = max(500, min(cls.request_ms, check_ms))
        return cls(connect_ms=min(cls.connect_ms, request_ms), request_ms=request_ms)


def open_store(ref: StoreRef, timeouts: Timeouts | None = None, *, create: bool = False) -> Store:
    """The store that `ref` names. `create`: make a local folder that is not there (the operator's side only).

    Raises StoreUnavailable where a local folder is absent, and BadStore where the reference itself is wrong.
    """
    timeouts = timeouts or Timeouts()
    parts = urlsplit(ref.url)
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise BadStore(f"store {ref.name!r} ({ref.url}) names no folder; write file:///and/the/whole/path")
        return LocalDirectory(Path(unquote(parts.path)), create=create)
    options = {**ref.options, **{name: _secret(name, at) for name, at in ref.secrets.items()}}
    try:
        small = _client(ref.url, options, timeouts.connect_ms, timeout=timedelta(milliseconds=timeouts.request_ms))
        patient = {"timeout": _NEVER, "read_timeout": timedelta(milliseconds=timeouts.bulk_ms)}
        bulk = _client(ref.url, options, timeouts.connect_ms, **patient)
    except (BaseError, ValueError) as error:
        raise BadStore(
            f"store {ref.name!r} ({ref.url}) cannot be opened: {_one_line(error)}; check its url and options"
        ) from error
    return CloudStore(ref, small, bulk)


def open_patiently(ref: StoreRef, check_ms: int, within_ms: int) -> Store:
    """The store, for who reads at each check; asked again while it is away, for `within_ms`. Raises like open_store."""
    until_ms = boottime_ms() + within_ms
    while True:
        try:
            return open_store(ref, Timeouts.within(check_ms))
        except StoreUnavailable:
            if boottime_ms() >= until_ms:
                raise
        time.sleep(check_ms / 1000)


def _one_line(error: Exception) -> str:
    """Without the library's own debugging text below, and of a document only its code and message."""
    said = str(error).partition("\n\nDebug source:")[0]
    if found := _TOLD.search(said):
        said = f"{said[: found.start()]}{found['code']}: {found['message']}"
    return " ".join(said.split())


def _secret(name: str, at: str) -> str:
    """A secret by reference: env:NAME or file:/path. Raises BadStore where it is absent."""
    kind, _, where = at.partition(":")
    if kind == "env" and where in os.environ:
        return os.environ[where]
    if kind == "file" and Path(where).is_file():
        return Path(where).read_text().strip()
    if kind not in ("env", "file"):  # most likely the secret itself, so it is not repeated
        raise BadStore(f"the store's setting {name!r} does not say where it lies; write env:NAME or file:/path")
    raise BadStore(f"the store's setting {name!r} should be at {at!r}, and is not there")


def _client(url: str, options: Mapping[str, str], connect_ms: int, **limits: timedelta) -> Any:
    """`limits` as obstore names them: of a whole request, `timeout`; of one read of its answer, `read_timeout`."""
    config: Any = {name: value for name, value in options.items() if name != "allow_http"}
    client: Any = {
        "allow_http": options.get("allow_http", "false").lower() == "true",
        "connect_timeout": timedelta(milliseconds=connect_ms),
        **limits,
    }
    return from_url(
        url,
        config=config,
        client_options=client,
        # no repetition below us: a repeated put-if-absent answers "exists" to its own success
        retry_config={"max_retries": 0, "retry_timeout": min(limits.values())},
    )


class CloudStore:
    """A store behind HTTP, by obstore.

    Two clients: short requests for the log, patient ones for large files.
    """

    def __init__(self, ref: StoreRef, small: Any, bulk: Any) -> None:
        """`ref` for error messages; the clients are obstore's."""
        self._ref, self._small, self._bulk = ref, small, bulk

    def create(self, key: str, data: bytes) -> Put:
        """See Store."""
        try:
            obstore.put(self._small, key, data, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return Exists()
        except (BaseError, OSError) as error:
            return Unknown(self._why("writing", key, error))
        return Stored()

    def get(self, key: str) -> bytes | None:
        """See Store."""
        try:
            return bytes(obstore.get(self._small, key).bytes())
        except FileNotFoundError as error:
            self._absent("reading", key, error)
            return None
        except (BaseError, OSError) as error:
            raise self._unavailable("reading", key, error) from error

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        try:
            obstore.put(self._small, key, data)
        except (BaseError, OSError) as error:
            raise self._unavailable("writing", key, error) from error

    def list(self, prefix: str) -> list[str]:
        """See Store."""
        try:
            return sorted(meta["path"] for batch in obstore.list(self._small, prefix) for meta in batch)
        except (BaseError, OSError) as error:
            raise self._unavailable("listing", prefix, error) from error

    def delete(self, key: str) -> None:
        """See Store."""
        try:
            obstore.delete(self._small, key)
        except FileNotFoundError as error:
            self._absent("deleting", key, error)
        except (BaseError, OSError) as error:
            raise self._unavailable("deleting", key, error) from error

    def upload(self, key: str, path: Path) -> None:
        """See Store."""
        try:
            obstore.put(self._bulk, key, path)
        except (BaseError, OSError) as error:
            raise self._unavailable("uploading", key, error) from error

    def download(self, key: str, path: Path) -> bool:
        """See Store. Raises OSError where this machine has no such folder, or no room: no word of the store's."""
        with path.open("wb") as out:
            try:
                found = obstore.get(self._bulk, key)
            except FileNotFoundError as error:
                self._absent("downloading", key, error)
                return False
            except (BaseError, OSError) as error:
                raise self._unavailable("downloading", key, error) from error
            for piece in self._pieces(found, key):
                out.write(piece)
        return True

    def _pieces(self, found: Any, key: str) -> Iterator[Any]:
        try:
            yield from found.stream()
        except (BaseError, OSError) as error:
            raise self._unavailable("downloading", key, error) from error

    def _absent(self, doing: str, key: str, error: FileNotFoundError) -> None:
        """There is no such key. Raises StoreUnavailable where there is no bucket either: nothing was read then."""
        if _NO_BUCKET.search(str(error)):
            raise self._unavailable(doing, key, error) from error

    def _unavailable(self, doing: str, key: str, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(self._why(doing, key, error))

    def _why(self, doing: str, key: str, error: Exception) -> str:
        if _NO_BUCKET.search(str(error)):
            where = f"store {self._ref.name!r} ({self._ref.url})"
            return f"the bucket of {where} does not exist: create it, or correct the url"
        return f"store {self._ref.name!r} did not answer while {doing} {key}: {_one_line(error)}"
