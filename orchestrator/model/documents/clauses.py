"""What may a clause of an agreement say? A closed union by `type`; there is no expression language.

Parts of the ContractSet document (`contracts.py`). Everything parses and digests; what is not enforced
yet is listed by `unenforced.py`. Defaults are part of v1alpha1 and never change.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from orchestrator.model.contract import OnExceed, OnOutage, OnReplace, Trigger
from orchestrator.model.documents.base import Document
from orchestrator.model.documents.units import (
    Day,
    Duration,
    Id,
    Integer,
    Number,
    Percent,
    Period,
    Price,
    Text,
    Whole,
    Word,
    is_canonical,
    refuse,
)

Count = Annotated[Integer, Field(ge=0)]
Words = Annotated[tuple[Word, ...], Field(min_length=1)]


class Bounds(Document):
    """gte <= x < lt, in GPUs."""

    gte: Count | None = None
    lt: Annotated[Integer, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Bounds:
        if self.gte is not None and self.lt is not None and self.gte >= self.lt:
            raise refuse("empty_range", "no number is in this range", "Let gte be less than lt")
        return self


class VolumeBounds(Document):
    """gte <= x < lt, in GPU-hours (workers x GPUs x maxRuntime)."""

    gte: Number | None = None
    lt: Number | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> VolumeBounds:
        if self.lt is not None and (self.gte or 0) >= self.lt:
            raise refuse("empty_range", "no number is in this range", "Let gte be less than lt")
        return self


class SelectDocument(Document):
    """Which jobs: every given key must hold, an absent one is any."""

    job_class: Words | None = Field(default=None, alias="class")
    trigger: Annotated[tuple[Trigger, ...], Field(min_length=1)] | None = None
    gpus: Bounds | None = None
    gpu_hours: VolumeBounds | None = None
    residency: Words | None = None
    labels: dict[Text, Annotated[tuple[Text, ...], Field(min_length=1)]] = Field(default_factory=dict)


Because = Literal[
    "research",
    "below_threshold",
    "unlawful_for_holder",
    "holder_outage",
    "own_build",
    "grandfathered",
    "national_security",
    "consent",
    "open_weight",
]


class Exempt(Document):
    """Jobs that a clause leaves free, for a reason that can be proven."""

    id: Id
    because: Because
    select: SelectDocument = SelectDocument()
    evidence: tuple[Word, ...] = ()
    max_gpu_hours_per_window: tuple[Number, Period] | None = None
    per: Literal["set", "lineage"] = "set"


class ClauseDocument(Document):
    """What every clause has."""

    id: Id
    select: SelectDocument = SelectDocument()
    exempt: tuple[Exempt, ...] = ()


class ExclusiveDocument(ClauseDocument):
    """Only the holder may serve, until a listed release."""

    type: Literal["exclusive"]
    release: tuple[
        Literal["consent", "holder_declined", "holder_outage", "unlawful_for_holder", "unmet_capacity"], ...
    ] = ()
    outage_after: Period | None = None

    @model_validator(mode="after")
    def _outage(self) -> ExclusiveDocument:
        if "holder_outage" in self.release and self.outage_after is None:
            raise refuse("outage_after", "holder_outage needs to know after how long", "Add outageAfter, as in 4h")
        return self


class PartialDocument(Document):
    """The least part of a divisible job that the holder may take."""

    min_gpus: Annotated[Integer, Field(gt=0)]


class ReofferIf(Document):
    """How much better for a supplier terms may be before the holder is asked again. All 0 by default."""

    price_up_pct: Percent = Decimal(0)
    start_later: Duration = 0
    smaller: Whole = Decimal(0)
    """By so many GPUs, of all workers together; of a range the least size counts."""
    looser_spec: Whole = Decimal(0)
    """In so many points: accelerators, GPUs per worker, CPUs, memory, regions, spot. Another residency is no point of
    these: its holder is always asked again."""


class StandingWaiver(Document):
    """A blanket refusal that the holder has signed, with its bounds: jobs of so many GPUs at most, before that day."""

    job_class: Words | None = Field(default=None, alias="class")
    gpus: Annotated[Integer, Field(gt=0)]
    until: Day


class FirstRightDocument(ClauseDocument):
    """A job is offered to the holder before anybody else may run it."""

    type: Literal["first_right"]
    rank: Annotated[Integer, Field(ge=1, le=1000)] = 1
    stage: Literal["before_market", "after_quotes", "after_final"] = "before_market"
    basis: Literal["requirement", "best_quote"] = "requirement"
    window: Period
    min_window: Duration = 0
    silence: Literal["decline"] = "decline"
    partial: PartialDocument | None = None
    reoffer_if: ReofferIf = ReofferIf()
    tail: Duration = 86_400_000
    on_replace: OnReplace = OnReplace.REOFFER
    match_margin_pct: Percent | None = None
    rounds: Annotated[Integer, Field(ge=1, le=100)] | None = None
    on_outage: OnOutage = OnOutage.LAPSE_NORMALLY
    undeliverable_after: Duration | None = None  # None: the window
    bridge_max: Period | None = None
    disclose: tuple[Literal["price", "start", "quantity", "identity"], ...] = ()
    standing_waiver: StandingWaiver | None = None


class Precedence(ClauseDocument):
    """Others may have a class of product only after the holder has it, or will not."""

    type: Literal["precedence"]
    release: Literal["cannot_and_declines", "cannot_or_declines"] = "cannot_and_declines"
    lead: Duration = 0


class Commit(ClauseDocument):
    """A promised spend. Never blocks; orders the market."""

    type: Literal["commit"]
    unit: Literal["usd", "gpu_hours"]
    amount: Number
    starts: Day
    ends: Day
    shortfall: Literal["pay", "prepay_credit", "roll_forward"] = "pay"
    burn: Literal["greedy", "uniform"] = "greedy"
    slack_pct: Percent = Decimal(0)

    @field_validator("amount", mode="before")
    @classmethod
    def _canonical_amount(cls, value: object, info: ValidationInfo) -> object:
        return Decimal(value) / 1_000_000 if is_canonical(info) and type(value) is int else value

    @model_validator(mode="after")
    def _in_order(self) -> Commit:
        if self.ends < self.starts:
            raise refuse("term", "it ends before it starts", "Let ends be on or after starts")
        return self

    def canonical(self) -> dict[str, object]:
        """As every part, with dollars as micro-dollars."""
        found: dict[str, object] = super().canonical()
        if self.unit == "usd":
            found["amount"] = int(self.amount * 1_000_000)
        return found


class Milestone(Document):
    """A point of a share's trajectory; interpolated linearly between midnights UTC."""

    at: Day
    pct: Percent


class Share(ClauseDocument):
    """A promised share of the volume over a window."""

    type: Literal["share"]
    bound: Literal["min", "target", "max"]
    metric: Literal["gpu_hours_norm", "usd", "mw"] = "gpu_hours_norm"
    trajectory: Annotated[tuple[Milestone, ...], Field(min_length=1)]
    window: Period
    tolerance_pct: Percent = Decimal(0)
    mode: Literal["hard", "soft"] = "soft"

    @model_validator(mode="after")
    def _in_order(self) -> Share:
        days = [milestone.at for milestone in self.trajectory]
        if days != sorted(set(days)):
            raise refuse("trajectory", "its days do not follow each other", "Sort them; one row per day")
        return self


class PriceDocument(ClauseDocument):
    """A ceiling, a most-favoured-customer ratio, or both."""

    type: Literal["price"]
    ceiling_usd_per_gpu_hour: Price | None = None
    on_exceed: OnExceed = OnExceed.TREAT_AS_DECLINE
    mfc_max_ratio: Number | None = None
    mfc_comparators: tuple[Id, ...] = ()
    remedy: Literal["credit", "release_first_right", "report"] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> PriceDocument:
        if self.ceiling_usd_per_gpu_hour is None and self.mfc_max_ratio is None:
            raise refuse("says_nothing", "it names no price", "Add ceilingUsdPerGpuHour or mfcMaxRatio")
        if self.mfc_max_ratio is not None and not self.mfc_comparators:
            raise refuse("comparators", "mfcMaxRatio compares with nobody", "Add mfcComparators: [provider]")
        return self


class Residency(ClauseDocument):
    """Where, and by whose operators, the selected work may be done."""

    type: Literal["residency"]
    regions_in: Words | None = None
    operator_jurisdiction_in: Words | None = None
    min_seal: Annotated[Integer, Field(ge=0, le=4)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Residency:
        if self.regions_in is None and self.operator_jurisdiction_in is None and self.min_seal is None:
            remedy = "Add regionsIn, operatorJurisdictionIn or minSeal"
            raise refuse("says_nothing", "it limits nothing", remedy)
        return self


AnyClause = Annotated[
    ExclusiveDocument | FirstRightDocument | Precedence | Commit | Share | PriceDocument | Residency,
    Field(discriminator="type"),
]
