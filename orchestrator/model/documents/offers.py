"""What does a supplier see of an offer, and what does it say? The values of `/v1/offers` and of webhooks.

Made by `api`, the webhook and the command line. An open offer is its allow-list (`model.offer.OfferOut`), field by
field, and until when an answer counts; nothing else: not whose job it is, not who else was asked.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from orchestrator.model.documents.units import MAX_DURATION_MS
from orchestrator.model.documents.views import View
from orchestrator.model.offer import OfferOut, Reason, Scope
from orchestrator.model.placement import MOST_PRICE, MOST_WORKERS

Name = Annotated[str, Field(max_length=64)]


class OpenOfferView(View):
    """An offer as it left us."""

    offer: str
    clause: str | None = Field(default=None, description="the first right that it honours; null: the open market")
    contract_version: int
    version: int
    workload: str = Field(description="the job's class, e.g. training")
    trigger: str
    terms: str = Field(description="canonical JSON; `termsHash` is its sha256")
    terms_hash: str
    window_us: int = Field(description="time to answer, from our receipt of your first acknowledgement")
    ledger_head: str = Field(description="hash of our ledger's head: keep it, see `orchestrator-verify`")
    ordinal: int = Field(description="your how-many-th offer, from 1, without a gap")
    due: datetime | None = Field(
        default=None, description="until when an answer counts; while we are away it moves on; null: not delivered yet"
    )


def open_offer_view(offer: OfferOut, due: datetime | None = None) -> OpenOfferView:
    """The allow-list as JSON values, and when its window ends."""
    return OpenOfferView(
        offer=offer.offer, clause=offer.clause, contract_version=offer.contract_version, version=offer.version,
        workload=offer.workload, trigger=offer.trigger, terms=offer.terms.decode(), terms_hash=offer.terms_hash,
        window_us=offer.window_us, ledger_head=offer.ledger_head, ordinal=offer.ordinal, due=due,
    )  # fmt: skip


class Said(View):
    """An answer as a supplier's people give it. It is terminal."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [
        {"accepted": True, "termsHash": "5e…", "priceMicrousd": 2_600_000},
        {"accepted": False, "reason": "capacity", "detail": "sold out until Monday"},
    ]})  # fmt: skip

    accepted: bool
    terms_hash: Name | None = Field(default=None, description="of an acceptance: the offer's own, or it is a counter")
    price_microusd: Annotated[int, Field(ge=0, le=MOST_PRICE)] | None = Field(
        default=None, description="asked, per GPU-hour"
    )
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None = Field(
        default=None, description="how many an acceptance takes, from `minWorkers` to `workers` of the terms; null: all"
    )
    region: Name | None = None
    accelerator: Name | None = None
    ttl_ms: Annotated[int, Field(gt=0, le=MAX_DURATION_MS)] | None = Field(
        default=None, description="how long you keep it for us"
    )
    reason: Reason | None = Field(default=None, description="of a decline")
    scope: Scope = Scope.PROVIDER
    until: datetime | None = Field(default=None, description="until when a decline holds; null: for this offer")
    detail: Annotated[str, Field(max_length=160)] = ""

    @model_validator(mode="after")
    def _whole(self) -> Said:
        if self.accepted and not self.terms_hash:
            raise ValueError("an acceptance names the termsHash that it accepts")
        if not self.accepted and self.reason is None:
            raise ValueError(f"a decline has a reason: {', '.join(Reason)}")
        if self.until is not None and self.until.tzinfo is None:
            raise ValueError("until has no time zone; write it in UTC, e.g. 2026-01-01T12:00:00Z")
        if self.until is not None and not 1970 <= self.until.year < 9999:
            raise ValueError("until is before 1970 or after 9998")
        return self


class OutcomeView(View):
    """What became of an answer."""

    offer: str
    outcome: str = Field(
        description="accepted, declined, or closed: it came too late, is kept as evidence, does nothing"
    )
    reason: str = Field(default="", description="why a yes did not count: counter, price, region, spec")
