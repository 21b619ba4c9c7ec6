"""The ProviderSet (`providers.yaml`): whom the operator can ask, at what list prices, where jobs save.

One document holds all that is the operator's and none of a contract's: providers in the order of asking
(where no contract set is in force), stores with their jurisdictions, and policies. Called by the
bootstrap, which hands `connection` to the adapter, and by `compile.compile_providers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from orchestrator.model.contract import Classification, OnUnreachable
from orchestrator.model.documents.base import ApiVersion, Document, json_value, load_data
from orchestrator.model.documents.contracts import Metadata, ProviderStated
from orchestrator.model.documents.errors import DocumentError, Problem
from orchestrator.model.documents.references import literal_secrets
from orchestrator.model.documents.text import plain
from orchestrator.model.documents.units import (
    Day,
    Duration,
    Id,
    Integer,
    Period,
    Price,
    Text,
    Word,
    is_canonical,
    refuse,
)


class PriceRowDocument(Document):
    """One line of a price book: what the provider asks, according to whom, as of when."""

    accelerator: Word
    usd_per_gpu_hour: Price
    kind: Literal["list", "contracted"] = "list"
    source: Text
    date: Day


class WebhookDocument(Document):
    """Where a provider that answers by hand is told of offers; each POST is signed."""

    url: Annotated[Text, Field(pattern=r"^(https?://|env:[A-Za-z_][A-Za-z0-9_]*$|file:/)")]  # or where it lies
    secret: Annotated[Text, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$")]  # by reference


class ProviderDocument(ProviderStated):
    """A provider and how to reach it."""

    adapter: Word  # a name under the entry point `orchestrator.providers`
    connection: dict[Text, Any] = Field(default_factory=dict)  # for the adapter; secrets by reference
    answers: Literal["adapter", "by_hand"] = "adapter"  # by_hand: its people, at /v1/offers
    webhook: WebhookDocument | None = None  # of one that answers by hand
    prices: tuple[PriceRowDocument, ...] = ()
    market_window: Period = 60_000

    def connection_values(self) -> dict[str, Any]:
        """The connection as JSON values (decimals become floats)."""
        found = _floats(self.connection)
        return dict(found)

    def cheapest(self) -> dict[str, int]:
        """The price book: accelerator → micro-dollars per GPU-hour; of several rows the cheapest counts."""
        found: dict[str, int] = {}
        for row in sorted(self.prices, key=lambda row: row.usd_per_gpu_hour):
            found.setdefault(row.accelerator, row.usd_per_gpu_hour)
        return found


class StoreDocument(Document):
    """Where checkpoints, packages and run logs may lie."""

    url: Text  # file:///…, s3://bucket/prefix, …
    jurisdiction: Word
    options: dict[Text, Text] = Field(default_factory=dict)  # endpoint, region, credentials by reference


class Isolation(Document):
    """How long a job runs on without a good read of its run log (W2)."""

    check: Period = 10_000
    limit: Period | None = 900_000  # null: it never stops by itself
    grace: Duration = 30_000

    @model_validator(mode="after")
    def _ordered(self) -> Isolation:
        if self.limit is not None and self.limit < 3 * self.check:
            raise refuse("isolation", "limit leaves no room for three reads", "Let limit be 3 x check or more")
        return self


class PolicyDocument(Document):
    """What the operator lets jobs of this policy do."""

    isolation: Isolation = Isolation()
    on_unreachable: OnUnreachable = OnUnreachable.WAIT
    max_attempts: Annotated[Integer, Field(ge=1, le=1000)] = 10
    max_runtime: Period = 86_400_000  # of a job that names none
    store: Id | None = None  # None: the first store
    classification: Classification = Classification.CLAIMED  # what a class is worth that no attester has recorded


class ProviderSetSpec(Document):
    """Providers in the order of asking, stores, policies."""

    providers: Annotated[dict[Id, ProviderDocument], Field(min_length=1)]
    stores: dict[Id, StoreDocument] = Field(default_factory=dict)
    policies: dict[Id, PolicyDocument] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_canonical(cls, data: Any, info: ValidationInfo) -> Any:
        if is_canonical(info) and isinstance(data, dict):
            return {key: dict(value) for key, value in data.items()}
        return data

    def canonical(self) -> dict[str, Any]:
        """As every part, but in pairs: the order of providers and stores is part of what is said."""
        given = ("providers", "stores", "policies")
        rows = ((key, getattr(self, key)) for key in given if key in self.model_fields_set)
        return {key: [[name, json_value(part)] for name, part in found.items()] for key, found in rows}


class ProviderSet(Document):
    """All that is the operator's."""

    api_version: ApiVersion
    kind: Literal["ProviderSet"]
    metadata: Metadata
    spec: ProviderSetSpec

    @property
    def by_hand(self) -> frozenset[str]:
        """Providers whose people answer offers themselves."""
        return frozenset(name for name, provider in self.spec.providers.items() if provider.answers == "by_hand")


def load_providers(text: str | bytes) -> ProviderSet:
    """A provider set from YAML 1.2 or JSON; `DocumentError` with every problem."""
    data, problems = plain(text)
    found = load_data(ProviderSet, data, problems)
    if wrong := list(_problems(found)):
        raise DocumentError(wrong)
    return found


def _problems(document: ProviderSet) -> Iterator[Problem]:
    spec = document.spec
    for name, policy in spec.policies.items():
        if policy.store is not None and policy.store not in spec.stores:
            remedy = f"Name one of {', '.join(spec.stores) or 'spec.stores, which is empty'}"
            path = f"spec.policies.{name}.store"
            yield Problem(path, f"{policy.store} is no known store", remedy, "unknown_store")
    for name, store in spec.stores.items():
        given = {"url": store.url, "options": store.options}
        yield from literal_secrets(given, ("spec", "stores", name))
    for name, provider in spec.providers.items():
        yield from literal_secrets(provider.connection, ("spec", "providers", name, "connection"))
        if provider.webhook is not None:
            yield from literal_secrets(provider.webhook.url, ("spec", "providers", name, "webhook", "url"))
        if provider.webhook is not None and provider.answers != "by_hand":
            reason, remedy = "a webhook is of a provider that answers by hand", "Write `answers: by_hand` beside it"
            yield Problem(f"spec.providers.{name}.webhook", reason, remedy, "webhook")
        if provider.answers == "by_hand" and provider.connection.get("queue"):
            reason = "a queue admits what was reserved, and an answer by hand reserves nothing"
            yield Problem(f"spec.providers.{name}.answers", reason, "Leave connection.queue out", "queue")
        for at, row in enumerate(provider.prices):
            if row.accelerator not in provider.accelerators:
                path = f"spec.providers.{name}.prices[{at}].accelerator"
                reason = f"{row.accelerator} is none of its accelerators"
                yield Problem(path, reason, "List it under accelerators", "unknown_accelerator")


def _floats(value: Any) -> Any:
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {key: _floats(item) for key, item in value.items()}
        case list() | tuple():
            return [_floats(item) for item in value]
    return value
