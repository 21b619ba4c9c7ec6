"""The TrainingJob: what a user wants done.

One document for the SDK, the CLI and the HTTP API. `load_job` and `job_from` refuse with every problem
at once; `refuse_unhonoured` refuses what parses but is not honoured by this release, at submission.
`job_bytes` is what the ledger keeps and `job_from_bytes` reads back; `shape_of` is what decisions see.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import Annotated, Any, Literal

from msgspec import UNSET, UnsetType
from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, ValidationInfo, model_validator

from orchestrator.model.contract import Trigger
from orchestrator.model.documents.base import (
    ApiVersion,
    Document,
    canonical_bytes,
    digest,
    load_canonical,
    load_data,
    load_text,
)
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.documents.units import (
    Flag,
    Id,
    Integer,
    Period,
    Price,
    Size,
    Text,
    Word,
    is_kept,
    refuse,
)
from orchestrator.model.placement import MOST_GPUS, MOST_WORKERS, Shape, select_labels

DEFAULT_MAX_RUNTIME_MS = 86_400_000  # where neither the job nor its policy names one
MOST_PARTS = 5_000  # anybody may submit: a second of reading is the most that one body may cost the server
_YEAR_MS = 366 * 86_400_000
PROJECT = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"  # a Kubernetes namespace's name, which a project's may be

Argument = Annotated[str, StringConstraints(strict=True, max_length=65_536)]
VariableName = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Project = Annotated[str, StringConstraints(strict=True, pattern=PROJECT)]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^sha256:[0-9a-f]{64}$")]
ShortPeriod = Annotated[Period, Field(le=_YEAR_MS)]
Some = Annotated[Integer, Field(ge=1, le=MOST_WORKERS)]


def _printable(text: str, info: ValidationInfo) -> str:
    """What a ledger kept is not judged again."""
    if not is_kept(info) and any(unicodedata.category(char).startswith("C") for char in text):
        raise refuse("control", "it holds control characters, or what changes the direction of writing", "Remove them")
    return text


Label = Annotated[Text, Field(max_length=256), AfterValidator(_printable)]


class JobMetadata(Document):
    """Labels of a job; its identity is the job id."""

    name: Id | None = None
    project: Project = "default"
    group: Word | None = None
    labels: Annotated[dict[Word, Label], Field(max_length=64)] = Field(default_factory=dict)


class Package(Document):
    """The user's code: exactly one of a folder to pack, a packed digest, a commit."""

    dir: Text | None = None
    digest: Sha256 | None = None
    git: Text | None = None
    commit: Text | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Package:
        if sum(source is not None for source in (self.dir, self.digest, self.git)) != 1:
            raise refuse("package", "it has not exactly one source", "Give one of dir, digest and git")
        if (self.commit is None) != (self.git is None):
            raise refuse("package", "git and commit belong together", "Give both or neither")
        return self


def _requirement(text: str, info: ValidationInfo) -> str:
    """What a ledger kept is not judged again."""
    try:
        Requirement("kept" if is_kept(info) else text)
    except InvalidRequirement:
        remedy = "Write a name and versions, as in numpy==2.4.6"
        raise refuse("requirement", f"{text[:64]!r} is no requirement", remedy) from None
    return text


class Run(Document):
    """What is run, with what around it."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=1_000)] | None = None
    function: Text | None = None
    arguments: dict[Text, Any] = Field(default_factory=dict)
    on: Literal["driver", "everyWorker"] = "driver"
    package: Package | None = None
    environment: dict[VariableName, Argument] = Field(default_factory=dict)
    secrets: dict[VariableName, Word] = Field(default_factory=dict)
    requirements: tuple[Annotated[Text, AfterValidator(_requirement)], ...] = ()
    image: Text | None = None

    @model_validator(mode="after")
    def _one_entry(self, info: ValidationInfo) -> Run:
        if (self.command is None) == (self.function is None):
            remedy = "Give a command, as in [python, train.py]"
            raise refuse("run", "it has not exactly one of command and function", remedy)
        if self.command and not self.command[0].strip() and not is_kept(info):
            raise refuse("command", "the program, its command's first word, is empty", "Name a program, as in python")
        if any("\0" in text for text in (*(self.command or ()), *self.environment.values())):
            raise refuse("nul", "a text holds a NUL character, which no process can be given", "Remove it")
        ours = [name for name in (*self.environment, *self.secrets) if name.startswith("ORCHESTRATOR_")]
        if ours:
            raise refuse("reserved", f"{ours[0]} is set by us", "Choose a name without ORCHESTRATOR_")
        return self


class Elastic(Document):
    """A range of workers: whoever accepts says how many; no fewer than `min` start."""

    min: Some
    max: Some

    @model_validator(mode="after")
    def _ordered(self) -> Elastic:
        if self.max < self.min:
            raise refuse("elastic", "max is below min", "Let max be min or more")
        return self


def count_kind(value: Any) -> str:
    """Which of the two ways to write a number of workers this is."""
    return "range" if isinstance(value, dict | Elastic) else "fixed"


Count = Annotated[Annotated[Some, Tag("fixed")] | Annotated[Elastic, Tag("range")], Discriminator(count_kind)]


class Workers(Document):
    """How many workers of what size: all of them or nothing."""

    count: Count = 1
    gpus: Annotated[Integer, Field(ge=0, le=128)] = 0  # per worker
    cpus: Annotated[Integer, Field(ge=1, le=4_096)] = 1
    memory: Annotated[Size, Field(ge=2**20, le=64 * 2**40)] | None = None
    accelerator: tuple[Word, ...] = ()  # any of, in order

    @property
    def most(self) -> int:
        """The most workers that it may have."""
        return self.count.max if isinstance(self.count, Elastic) else self.count

    @property
    def fewest(self) -> int | UnsetType:
        """The least number of workers of an elastic job; unset: the number is fixed."""
        if isinstance(self.count, Elastic) and self.count.min < self.count.max:
            return self.count.min
        return UNSET

    @model_validator(mode="after")
    def _possible(self) -> Workers:
        if self.most * self.gpus > MOST_GPUS:
            reason = f"{self.most} x {self.gpus} GPUs are more than any provider has"
            raise refuse("impossible_size", reason, f"Ask for at most {MOST_GPUS} GPUs in all")
        if self.accelerator and not self.gpus:
            raise refuse("impossible_size", "it names an accelerator and no GPU", "Set gpus, or drop accelerator")
        if len(set(self.accelerator)) != len(self.accelerator):
            raise refuse("duplicate", "an accelerator is named twice", "Name each once")
        return self


class DataUse(Document):
    """A declared data set and where user code sees it."""

    name: Id
    at: Text


class WarmStart(Document):
    """The checkpoint of another job to begin from; this is the lineage."""

    job: Text
    step: Annotated[Integer, Field(ge=0)] | None = None


class Restart(Document):
    """Restarts inside an attempt."""

    max: Annotated[Integer, Field(ge=0, le=1_000)] = 3
    exit_codes: tuple[Annotated[Integer, Field(ge=1, le=255)], ...] = ()


class JobSpec(Document):
    """What to run, on what, within which limits."""

    run: Run
    workers: Workers = Workers()
    divisible: Flag = False
    job_class: Word = Field(default="training", alias="class")
    max_runtime: ShortPeriod | None = None  # None: the policy's
    priority: Annotated[Integer, Field(ge=-1_000, le=1_000)] = 0
    residency: Word | None = None
    data: tuple[DataUse, ...] = ()
    from_: WarmStart | None = Field(default=None, alias="from")
    ceiling_usd_per_gpu_hour: Price | None = None
    spot: Flag = False  # cheaper machines that may be taken back after a notice are welcome too
    start_by: ShortPeriod | None = None
    retries: Annotated[Integer, Field(ge=0, le=1_000)] = 0
    restart: Restart | None = None
    policy: Id = "default"
    evidence: tuple[Word, ...] = ()

    @model_validator(mode="after")
    def _can_be_divided(self) -> JobSpec:
        if not self.divisible:
            return self
        if isinstance(self.workers.count, Elastic):
            reason = "a range leaves nothing to be placed elsewhere, and a divisible job all that is not taken"
            raise refuse("divisible", f"count is a range: {reason}", "Give the number of pieces as count")
        if self.workers.count == 1:
            raise refuse("divisible", "one worker is one piece", "Give a count above 1, or leave divisible out")
        return self


class TrainingJob(Document):
    """One job, as a user writes it. In Python the version and kind may be left out."""

    api_version: ApiVersion = "orchestrator.dev/v1alpha1"
    kind: Literal["TrainingJob"] = "TrainingJob"
    metadata: JobMetadata = JobMetadata()
    spec: JobSpec


def load_job(text: str | bytes) -> TrainingJob:
    """A job from YAML 1.2 or JSON; `DocumentError` with every problem."""
    return load_text(TrainingJob, text, MOST_PARTS)


def job_from(data: Any) -> TrainingJob:
    """A job from plain values (an HTTP body); `DocumentError` with every problem."""
    return load_data(TrainingJob, data)


def job_bytes(job: TrainingJob) -> bytes:
    """Canonical bytes, of the fields that are set; see `base.canonical_bytes`."""
    return canonical_bytes(job)


def job_from_bytes(data: bytes, kept: bool = True) -> TrainingJob:
    """The job whose `job_bytes` these are; `kept` as in `load_canonical`."""
    return load_canonical(TrainingJob, data, kept)


def job_digest(job: TrainingJob) -> str:
    """sha256 of `job_bytes`, lower-case hex."""
    return digest(job)


def unhonoured(job: TrainingJob) -> list[tuple[str, str]]:
    """(path, what) of every field that parses but that this release does not honour yet."""
    run, spec = job.spec.run, job.spec
    rows = (
        (run.function is not None, "run.function", "a function as entry"),
        (bool(run.arguments), "run.arguments", "arguments of a function"),
        (run.on == "everyWorker", "run.on", "a command on every worker"),
        (run.package is not None and run.package.git is not None, "run.package.git", "a package from git"),
        (bool(run.secrets), "run.secrets", "secrets"),
        (run.image is not None, "run.image", "an image of one's own"),
        (bool(spec.data), "data", "data sets"),
        (spec.from_ is not None, "from", "a warm start"),
        (spec.retries > 0, "retries", "retries of the user's own failures"),
        (spec.restart is not None, "restart", "restarts inside an attempt"),
    )
    return [(f"spec.{key}", what) for given, key, what in rows if given]


def refuse_unhonoured(job: TrainingJob, *, packs: bool = False) -> None:
    """`DocumentError` for what a submission may not carry: fields not honoured yet, a folder that nobody `packs`."""
    problems = [
        Problem(path, f"{what} is not honoured by this version yet", "Leave the field out", "not_honoured")
        for path, what in unhonoured(job)
    ]
    if not packs and job.spec.run.package is not None and job.spec.run.package.dir is not None:
        remedy = "Pack it first (`orchestrator submit` and `run` do) and give its digest"
        reason = "a folder is not readable from the server"
        problems.append(Problem("spec.run.package.dir", reason, remedy, "unpacked"))
    if problems:
        raise DocumentError(problems)


def with_package(job: TrainingJob, package: str) -> TrainingJob:
    """The same job with a packed folder: `package` is `sha256:<hex>`."""
    run = job.spec.run.model_copy(update={"package": Package(digest=package)})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"run": run})})


def shape_of(
    job: TrainingJob,
    selected: Collection[str] = (),
    trigger: Trigger = Trigger.NEW,
    max_runtime_ms: int = DEFAULT_MAX_RUNTIME_MS,
) -> Shape:
    """What decisions see of a job. `selected`: label keys that contracts select on; `max_runtime_ms`: the
    policy's, for a job that names none."""
    spec, workers, labels = job.spec, job.spec.workers, job.metadata.labels
    return Shape(
        job_class=spec.job_class,
        accelerators=workers.accelerator,
        gpus_per_worker=workers.gpus,
        workers=workers.most,
        min_workers=1 if spec.divisible else workers.fewest,
        pieces=workers.most if spec.divisible else UNSET,
        cpus=workers.cpus,
        memory=workers.memory or 0,
        max_runtime_ms=spec.max_runtime or max_runtime_ms,
        start_by_ms=spec.start_by,
        residency=spec.residency,
        ceiling_microusd=spec.ceiling_usd_per_gpu_hour,
        spot=spec.spot,
        project=job.metadata.project,
        priority=spec.priority,
        trigger=trigger,
        labels=select_labels(labels, selected),
        cited=tuple(sorted(set(spec.evidence))),
    )
