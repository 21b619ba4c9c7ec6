"""By which choices of the operator does a server run? The only file of the server that reads the environment.

Called by `bootstrap` and the command line, which hand values on; others get them as parameters. (A client's few
variables are read in `sdk.address`, an attempt's one by the agent.)
Every field is an environment variable `ORCHESTRATOR_<NAME>`; `orchestrator serve --help` prints this table.
Must never hold a secret of a cloud: those are named in the providers file by reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from orchestrator.model.documents.references import is_reference, literal_secrets

DEFAULT_PORT = 7380
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_SIZE = re.compile(r"\d*\.?\d+\s*\w*", re.ASCII)


def _milliseconds(value: Any) -> Any:
    """`15m` → 900000, `never` → None. Text without a unit is refused; code may give integers."""
    if not isinstance(value, str):
        return value
    if value.strip() == "never":
        return None
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a whole number and a unit: 500ms, 10s, 15m, 12h")
    return int(match[1]) * _UNITS[match[2]]


def _bytes(value: Any) -> Any:
    """`1.5 GB` as it is, for `ByteSize`, which of `1,5 GB` would take the 1 and drop the rest."""
    if isinstance(value, str) and _SIZE.fullmatch(value.strip()) is None:
        raise ValueError(f"{value!r} is not a size; write a number and a unit: 262144, 256KiB, 1.5 GB")
    return value


def _words(value: Any) -> Any:
    """`a.example, b.example` → both names."""
    return tuple(word for word in re.split(r"[,\s]+", value) if word) if isinstance(value, str) else value


Milliseconds = Annotated[int, BeforeValidator(_milliseconds)]
Limit = Annotated[int | None, BeforeValidator(_milliseconds)]
Bytes = Annotated[ByteSize, BeforeValidator(_bytes)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
_FORMAT = SettingsConfigDict(
    env_prefix="ORCHESTRATOR_", env_nested_delimiter="__", frozen=True, extra="ignore", hide_input_in_errors=True
)


class Policy(BaseModel, frozen=True, extra="forbid"):
    """The policy `default`: how far attempts are isolated, and what jobs get that do not say. In ms."""

    check: Milliseconds = Field(default=10_000, description="how often agent and workers read the run log")
    limit: Limit = Field(
        default=900_000,
        description="how long user code may run without a good read; `never`: it does not stop by itself",
    )
    grace: Milliseconds = Field(default=30_000, description="from SIGTERM to SIGKILL")
    on_unreachable: Literal["wait", "stop", "confirmed_stop_only"] = Field(
        default="wait", description="what happens to a running job whose provider and beat are silent"
    )
    max_attempts: int = Field(default=10, ge=1, description="attempts with a start, over all providers")
    max_runtime: Milliseconds = Field(default=86_400_000, description="user-code time of a job that names none")

    @model_validator(mode="after")
    def _possible(self) -> Policy:
        if self.check <= 0 or self.grace < 0 or (self.limit is not None and self.limit < self.check):
            raise ValueError("isolation needs 0 < check <= limit and grace >= 0")
        return self


class Settings(BaseSettings):
    """A server's settings, from the environment alone."""

    model_config = _FORMAT

    home: Path = Field(
        default=Path("~/.orchestrator"), description="folder of ledger, tokens, store and address (0700)"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535, description="port to listen on; 0: a free one")
    allowed_hosts: Words = Field(
        default=(),
        description="further names by which the server may be addressed (Host header), comma-separated",
    )
    database_url: str = Field(
        default="",
        description="the ledger: sqlite:///path or postgresql://user:password@host:5432/name; empty: SQLite, "
        "ledger.db in the home folder",
    )
    lease: Milliseconds = Field(
        default=5_000,
        ge=1_000,
        description="PostgreSQL: how long a leader may be silent until another server leads",
    )
    tokens: Path | None = Field(
        default=None, description="tokens file, e.g. a mounted secret; none: tokens.json in the home folder, made by us"
    )
    contracts: Path | None = Field(
        default=None, description="contract set (YAML); none: no gate, order of the providers file"
    )
    capacity: Path | None = Field(
        default=None, description="blocks of capacity that are owned already (YAML); none: none is"
    )
    providers: Path | None = Field(
        default=None, description="provider set (YAML); none: this machine alone, as `local`"
    )
    store: str = Field(
        default="",
        description="checkpoint store: file:///…, s3://bucket/prefix, gs://…, az://…; empty: store in the home folder",
    )
    store_jurisdiction: str = Field(default="", description="jurisdiction in which the store lies, e.g. EU")
    store_options: Mapping[str, str] = Field(
        default_factory=dict, description='plain settings of the store, JSON, e.g. {"region": "eu-west-1"}'
    )
    store_secrets: Mapping[str, str] = Field(
        default_factory=dict,
        description="secret settings by reference, JSON: setting → env:NAME or file:/path",
    )
    policy: Policy = Field(default=Policy(), description="the policy `default`, part by part")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe line logged"
    )
    log_format: Literal["console", "json"] = Field(default="console", description="how the server logs, on stderr")
    job_limit: Bytes = Field(default=ByteSize(256 * 1024), description="largest job document")
    package_limit: Bytes = Field(default=ByteSize(64 * 1024**2), description="largest code package, zipped")
    unpacked_limit: Bytes = Field(default=ByteSize(512 * 1024**2), description="largest code package, unpacked")

    @model_validator(mode="after")
    def _no_secret_itself(self) -> Settings:
        """The store as we tell it to agents: what stands here every job can read."""
        given = {"store": self.store, "store_options": dict(self.store_options)}
        for problem in literal_secrets(given):
            remedy = "name it in ORCHESTRATOR_STORE_SECRETS, as env:NAME or file:/path"
            raise ValueError(f"ORCHESTRATOR_{problem.path.upper()}: it holds a secret itself; {remedy}")
        if plain := [name for name, at in self.store_secrets.items() if not is_reference(at)]:
            what = f"{plain[0]} does not say where it lies; write env:NAME or file:/path"
            raise ValueError(f"ORCHESTRATOR_STORE_SECRETS: {what}")
        return self

    @property
    def folder(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().absolute()

    @property
    def ledger_url(self) -> str:
        """Where the ledger lies."""
        return self.database_url or f"sqlite://{self.folder / 'ledger.db'}"

    @property
    def store_url(self) -> str:
        """Where run logs, checkpoints and packages lie."""
        return self.store or (self.folder / "store").as_uri()

    @property
    def tokens_file(self) -> Path:
        """Named, scoped tokens of this server, 0600."""
        return self.tokens or self.folder / "tokens.json"

    @property
    def address_file(self) -> Path:
        """Where the running server can be reached, 0600; clients on this machine read it."""
        return self.folder / "server.json"


class BadSettings(Exception):
    """Settings that make no sense: all of them, with their variables. The operator's to mend."""


def load(**given: Any) -> Settings:
    """The settings of the environment; `given` wins. Raises BadSettings."""
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [
            "  " + ": ".join(filter(None, [_variable(item["loc"]), item["msg"].removeprefix("Value error, ")]))
            for item in error.errors(include_url=False)
        ]
        raise BadSettings("the settings make no sense:\n" + "\n".join(lines)) from error
    except SettingsError as error:  # its cause holds the text, which may hold secrets
        raise BadSettings(f'the settings make no sense: {error}; write JSON, as in {{"region": "eu"}}') from None


_OTHERS = ("URL", "TOKEN", "PROJECT")
"""Variables of clients, which a server may well have around it."""


def overlooked(variables: Iterable[str]) -> list[str]:
    """Names with our prefix that nothing of a server reads: most are misspelt, and a rule is missing."""
    known = {name for name, _, _ in describe()} | {f"ORCHESTRATOR_{name}" for name in _OTHERS}
    return sorted(name for name in variables if name.startswith("ORCHESTRATOR_") and name.upper() not in known)


def _variable(loc: tuple[int | str, ...]) -> str:
    return "" if not loc else "ORCHESTRATOR_" + "__".join(str(part).upper() for part in loc)


def describe() -> Iterator[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting of the server, the policy's parts spelled out."""
    for name, field in Settings.model_fields.items():
        if name == "policy":
            for part, inner in Policy.model_fields.items():
                yield f"ORCHESTRATOR_POLICY__{part.upper()}", _shown(inner.default), inner.description or ""
            continue
        default = field.get_default(call_default_factory=True)
        yield f"ORCHESTRATOR_{name.upper()}", _shown(default), field.description or ""


def _shown(value: object) -> str:
    if isinstance(value, ByteSize):
        return value.human_readable(separator=" ")
    if isinstance(value, int) and value >= 10_000 and value % 1000 == 0:
        return f"{value // 1000}s"
    return "" if value in (None, (), {}) else str(value)
