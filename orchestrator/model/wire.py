"""What do engine and agent say to each other? Run-log entries, the beat, the attempt's environment.

Called by the run log, the agent, the training helper, the engine and whoever launches an agent. Only values
and their bytes: never I/O, a clock or randomness. Standard library only, so that it loads beside any
training process. All durations are integer milliseconds; a null `limit_ms` means: never stops by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

VERSION = 1

# The variables that tell a process which attempt it belongs to. The first is the launcher's, the others the agent's.
ENV_ATTEMPT = "ORCHESTRATOR_ATTEMPT"  # an AttemptEnv; store keys apart, by reference
ENV_NONCE = "ORCHESTRATOR_ATTEMPT_NONCE"  # of the claim; only below an agent
ENV_KEY = "ORCHESTRATOR_ATTEMPT_KEY"  # the launch key: the marker by which processes are found and ended
ENV_WORK_DIR = "ORCHESTRATOR_WORK_DIR"  # the agent's folder on its machine
TOLD = "told"  # a file there: user code has asked, and knows that it is to stop

ReleaseWhy = Literal["stopped", "limit", "killed", "lost_worker", "lost_node", "max_runtime", "user_failure"]
RELEASE_WHYS: tuple[ReleaseWhy, ...] = (
    "stopped", "limit", "killed", "lost_worker", "lost_node", "max_runtime", "user_failure",
)  # fmt: skip


class WireError(ValueError):
    """Bytes that are not what they should be.

    The writer's fault; the reader must not go on as if they were absent.
    """


class UnknownKind(WireError):
    """A kind or a version that this program does not know: written by a newer one.

    Remedy: run that version.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Controller: nothing of a lower epoch may append from here on.

    `term`: the lease under which it was written.
    """

    epoch: int
    id: str
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Agent, before anything of the user's: this attempt is here.

    The nonce is new with every agent process.
    """

    epoch: int
    provider: str
    limit_ms: int | None
    grace_ms: int
    id: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Controller: the end of every lower epoch is confirmed; `epoch` need not wait."""

    epoch: int
    id: str
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Agent, right before user code. `waited`: W had passed, and no `clear` was needed."""

    epoch: int
    waited: bool
    id: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The attempt: this can be resumed from.

    `manifest` is a key in store `store`, `sha256` that of its bytes.
    """

    epoch: int
    step: int
    store: str
    manifest: str
    sha256: str
    id: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """The attempt: the checkpoints with these manifests will be deleted now.

    Read already, not written yet.
    """

    epoch: int
    paths: tuple[str, ...]
    id: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Controller: epochs up to this one stop.

    `reason`: cancel, unreachable, preempt (its machines are taken back), scale (it goes on with another number of
    workers), never_started (later move).
    """

    epoch: int
    reason: str
    grace_ms: int
    id: str
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Agent: this attempt is over and the job is not.

    `gone`: every process of it, on every node, was seen dead.
    """

    epoch: int
    why: ReleaseWhy
    gone: bool
    ran_ms: int  # user-code time of this attempt
    id: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Agent: user code ended by itself; the job is complete. `result`: a sentence for people, or null."""

    epoch: int
    exit: int
    result: str | None
    ran_ms: int  # user-code time of this attempt
    id: str
    nonce: str
    workers: int | None = None  # of a divisible job: of so many pieces; null, and not written: of all that there are


AttemptEntry = Claim | Start | Checkpoint | Prune | Release | Done
ControllerEntry = Fence | Clear | Stop
Entry = AttemptEntry | ControllerEntry

_KINDS: dict[str, type[Any]] = {
    cls.__name__.lower(): cls for cls in (Fence, Claim, Clear, Start, Checkpoint, Prune, Stop, Release, Done)
}


def kind_of(entry: Entry) -> str:
    """The entry's kind as it is written: fence, claim, …"""
    return type(entry).__name__.lower()


def encode(entry: Entry) -> bytes:
    """The entry's bytes: UTF-8 JSON with `v` and `kind`, keys sorted."""
    said = _plain(entry)
    if said.get("workers", 0) is None:
        del said["workers"]  # entries of other jobs are as they ever were
    return _dump({"v": VERSION, "kind": kind_of(entry), **said})


def decode(data: bytes) -> Entry:
    """The entry in these bytes. Raises UnknownKind (a newer writer) or WireError (not an entry)."""
    doc = _load(data, "run-log entry")
    cls = _KINDS.get(str(doc.get("kind")))
    if cls is None:
        raise UnknownKind(f"run-log entry of unknown kind {doc.get('kind')!r}: written by a newer version?")
    entry: Entry = _build(cls, doc)
    if isinstance(entry, Release) and entry.why not in RELEASE_WHYS:
        raise UnknownKind(f"release for an unknown reason {entry.why!r}: written by a newer version?")
    return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The agent's sign of life, overwritten at each check.

    New = another (nonce, n); `at_us` is for people only.
    """

    epoch: int
    nonce: str
    n: int
    phase: str  # claimed, running, ending
    ran_ms: int  # user-code time of this attempt so far
    at_us: int  # the agent's wall clock, UTC

    def to_json(self) -> bytes:
        """The beat's bytes."""
        return _dump({"v": VERSION, **_plain(self)})

    @classmethod
    def from_json(cls, data: bytes) -> Beat:
        """The beat in these bytes. Raises WireError."""
        return _build(cls, _load(data, "beat"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """How often an attempt reads its log, how long it may run without, and how long its end may take."""

    check_ms: int = 10_000
    limit_ms: int | None = 900_000
    grace_ms: int = 30_000

    def __post_init__(self) -> None:
        """Raises ValueError for a period that cannot be kept."""
        if self.check_ms <= 0 or self.grace_ms < 0 or (self.limit_ms is not None and self.limit_ms < self.check_ms):
            raise ValueError(f"isolation needs 0 < check <= limit and grace >= 0, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRef:
    """A named store. `options` are plain settings; `secrets` maps a setting to `env:NAME` or `file:/path`."""

    name: str
    url: str  # file:///folder, s3://bucket/prefix, gs://…, az://…
    jurisdiction: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnv:
    """Everything an agent is told: the value of ORCHESTRATOR_ATTEMPT.

    What was before it stands in the run log.
    """

    job: str
    project: str
    epoch: int
    provider: str
    region: str
    store: StoreRef
    isolation: Isolation
    command: tuple[str, ...]
    package: str | None = None  # sha256 of the zip, hexadecimal; null: nothing to unpack
    environment: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    max_runtime_left_ms: int | None = None  # null: no limit
    retries_left: int = 0
    workers: int | None = None  # as many as this attempt has; null: an older server did not say
    nodes: int = 1  # machines of this attempt; the agent can see the end of processes on its own only

    @property
    def part(self) -> int | None:
        """Of a divisible job, how many of its pieces are this attempt's; None: of any other."""
        return self.workers if "ORCHESTRATOR_PIECES" in self.environment else None

    def to_json(self) -> str:
        """The text of ORCHESTRATOR_ATTEMPT; what was not said is left out."""
        said = {"v": VERSION, **_plain(self)}
        return _dump(said if self.workers is not None else {k: x for k, x in said.items() if k != "workers"}).decode()

    @classmethod
    def from_json(cls, text: str) -> AttemptEnv:
        """The environment in this text. Raises WireError or UnknownKind."""
        doc = _load(text.encode(), "ORCHESTRATOR_ATTEMPT")
        for name, part in (("store", StoreRef), ("isolation", Isolation)):
            inner = doc.get(name)
            if not isinstance(inner, dict):
                raise WireError(f"AttemptEnv.{name} is missing or no object")
            doc[name] = _build(part, inner)
        return _build(cls, doc)


_T = TypeVar("_T")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all_str(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "int | None": lambda value: value is None or _is_int(value),
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "ReleaseWhy": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "tuple[str, ...]": lambda value: isinstance(value, list) and _all_str(value),
    "Mapping[str, str]": lambda value: isinstance(value, dict) and _all_str(value) and _all_str(value.values()),
    "StoreRef": lambda value: isinstance(value, StoreRef),
    "Isolation": lambda value: isinstance(value, Isolation),
}


def _build(cls: type[_T], doc: Mapping[str, Any]) -> _T:
    """A `cls` from its fields in `doc`; unknown ones are left alone (additions keep the version)."""
    values: dict[str, Any] = {}
    for part in fields(cls):  # type: ignore[arg-type]
        if part.name not in doc:
            continue  # a default, or __init__ names what is missing
        if not _CHECKS[str(part.type)](doc[part.name]):
            raise WireError(f"{cls.__name__}.{part.name} should be {part.type}, got {doc[part.name]!r}")
        value = doc[part.name]
        values[part.name] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise WireError(f"not a {cls.__name__}: {error}") from error


def _plain(value: Any) -> dict[str, Any]:
    """A part's fields; what is no JSON by itself (parts, mappings other than dict) the encoder asks `_inner` for."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _inner(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else _plain(value)


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_inner)


def _dump(doc: Mapping[str, Any]) -> bytes:
    return _encoder.encode(doc).encode()


def _load(data: bytes, what: str) -> dict[str, Any]:
    try:
        doc = json.loads(data)
    except ValueError as error:
        raise WireError(f"{what} is not UTF-8 JSON: {error}") from error
    if not isinstance(doc, dict):
        raise WireError(f"{what} is not an object")
    if doc.get("v") != VERSION:
        raise UnknownKind(f"{what} has version {doc.get('v')!r}, this program knows {VERSION}")
    return doc
