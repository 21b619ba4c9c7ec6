"""The Capacity document: which blocks of accelerators are owned already, where, from when to when.

`load_capacity` and `blocks_of` are called by the bootstrap and the API; decisions read the blocks (`model.capacity`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from orchestrator.model.capacity import Block
from orchestrator.model.contract import DAY_US
from orchestrator.model.documents.base import ApiVersion, Document, load_data
from orchestrator.model.documents.cases import Moment, moment
from orchestrator.model.documents.contracts import Metadata
from orchestrator.model.documents.errors import Problem
from orchestrator.model.documents.providers import ProviderSet
from orchestrator.model.documents.text import plain
from orchestrator.model.documents.units import Id, Integer, Price, Word, refuse


def _end(value: Any) -> Any:
    """A moment as it is; of a day its end, for the last day is whole, as in a contract's term."""
    found = moment(value)
    return found + DAY_US if isinstance(value, str) and len(value) == len("2026-03-31") else found


End = Annotated[int, BeforeValidator(_end)]


class BlockDocument(Document):
    """One block. `from` and `to` are days, or moments with a zone; a day that is the last one is whole."""

    provider: Id
    accelerator: Word
    gpus: Annotated[Integer, Field(gt=0)]
    region: Word
    from_: Moment = Field(alias="from")
    to: End
    price_usd_per_gpu_hour: Price | None = None
    contract: Id | None = None  # by which it was acquired

    @field_validator("to")
    @classmethod
    def _in_order(cls, to: int, read: ValidationInfo) -> int:
        if to <= read.data.get("from_", to - 1):
            raise refuse("term", "it ends before it begins", "Let to be after from")
        return to


class CapacitySpec(Document):
    """All blocks that are owned, by name."""

    blocks: dict[Id, BlockDocument] = Field(default_factory=dict)


class Capacity(Document):
    """All capacity that is owned: what is not in it is owned no more."""

    api_version: ApiVersion
    kind: Literal["Capacity"]
    metadata: Metadata
    spec: CapacitySpec


def load_capacity(text: str | bytes, operators: ProviderSet | None) -> tuple[Block, ...]:
    """The blocks of a document, YAML 1.2 or JSON, in its order; `DocumentError` with every problem.

    `operators`: the providers that they must agree with; None: not known.
    """
    data, problems = plain(text)
    strange = list(_strange(data, operators)) if operators is not None else []
    document = load_data(Capacity, data, [*problems, *strange])
    return tuple(_block(name, block) for name, block in document.spec.blocks.items())


def _block(name: str, block: BlockDocument) -> Block:
    return Block(
        name=name, provider=block.provider, accelerator=block.accelerator, gpus=block.gpus, region=block.region,
        from_us=block.from_, until_us=block.to, price=block.price_usd_per_gpu_hour, contract=block.contract or "",
    )  # fmt: skip


def _strange(data: Any, operators: ProviderSet) -> Iterator[Problem]:
    """Blocks of what the operator's providers do not have, as they are written: what else is wrong is said beside."""
    for name, block in _part(_part(data, "spec"), "blocks").items():
        written = {key: text for key in block if isinstance(text := block[key], str)} if isinstance(block, dict) else {}
        if (provider := written.get("provider")) is None:
            continue
        path, facts = f"spec.blocks.{name}", operators.spec.providers.get(provider)
        if facts is None:
            known = ", ".join(operators.spec.providers)
            yield Problem(f"{path}.provider", f"{provider} is no provider", f"Use one of: {known}", "provider")
            continue
        for key, has in (("accelerator", facts.accelerators), ("region", facts.regions)):
            if (said := written.get(key)) is not None and said not in has:
                reason = f"{provider} has no {key} {said}"
                yield Problem(f"{path}.{key}", reason, f"Use one of: {', '.join(has)}", f"unknown_{key}")


def _part(data: Any, key: str) -> dict[str, Any]:
    part = data.get(key) if isinstance(data, dict) else None
    return part if isinstance(part, dict) else {}
