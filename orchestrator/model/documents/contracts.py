"""The ContractSet: what compute agreements a buyer has, and which facts about suppliers they rely on.

`conflicts.load_contracts` is the only way in. The digest is `base.digest`. Core never sees these: it gets what
`compile.compile_contracts` makes of them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.model.documents.base import ApiVersion, Document
from orchestrator.model.documents.clauses import AnyClause
from orchestrator.model.documents.units import Day, Id, Integer, Number, Text, Word, refuse

Seal = Annotated[Integer, Field(ge=0, le=4)]


class Metadata(Document):
    """A document's label; not its identity."""

    name: Id
    labels: dict[Text, Text] = Field(default_factory=dict)


class ProviderStated(Document):
    """Facts about a provider: where it runs, under whose law, how sovereign, with which accelerators."""

    regions: Annotated[dict[Word, Word], Field(min_length=1)]  # region -> jurisdiction
    operator_jurisdiction: Word
    seal: Seal
    accelerators: dict[Word, Annotated[Number, Field(gt=0)]] = Field(default_factory=dict)  # name -> H100-equivalents


class TermDocument(Document):
    """From the first day to the last, both whole, UTC."""

    from_: Day = Field(alias="from")
    to: Day

    @model_validator(mode="after")
    def _in_order(self) -> TermDocument:
        if self.to < self.from_:
            raise refuse("term", "it ends before it begins", "Let to be on or after from")
        return self


class EndsOn(Document):
    """An event that ends the contract (or the named clauses) once enough attesters say it happened."""

    event: Word
    attesters: tuple[Word, ...] = ()  # none: anyone's word counts
    quorum: Annotated[Integer, Field(ge=1)] = 1
    clauses: Annotated[tuple[Id, ...], Field(min_length=1)] | None = None  # None: the whole contract

    @model_validator(mode="after")
    def _reachable(self) -> EndsOn:
        if self.attesters and self.quorum > len(set(self.attesters)):
            raise refuse("quorum", "more must attest than are named", "Lower quorum or name more attesters")
        return self


class ContractDocument(Document):
    """One agreement, or one policy of our own (holder null)."""

    id: Id
    holder: Id | None = None
    status: Literal["draft", "active"] = "active"  # a draft never gates
    term: TermDocument
    ends_on: tuple[EndsOn, ...] = ()
    clauses: Annotated[tuple[AnyClause, ...], Field(min_length=1)]


class ContractSetSpec(Document):
    """The agreements, and the facts that they rely on."""

    providers: dict[Id, ProviderStated] = Field(default_factory=dict)
    contracts: tuple[ContractDocument, ...]


class ContractSet(Document):
    """All agreements of one buyer."""

    api_version: ApiVersion
    kind: Literal["ContractSet"]
    metadata: Metadata
    spec: ContractSetSpec
