"""How does any of our documents become a value, and how does a value become canonical bytes?

`load_text` reads YAML or JSON, `load_data` plain values, `load_canonical` what `canonical_bytes` wrote.
Called by the loaders of job, contracts, providers and cases. Every refusal is a `DocumentError`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from orchestrator.model.documents import words
from orchestrator.model.documents.errors import DocumentError, Problem, path_of
from orchestrator.model.documents.text import MAX_PARTS, plain

API_VERSION = "orchestrator.dev/v1alpha1"
ApiVersion = Literal["orchestrator.dev/v1alpha1"]
SUGGESTIONS = 20  # looking for a near word takes 0.5 ms; a hostile body may hold thousands of unknown keys
_KEYS: set[str] = set()  # every key of every document, for "did you mean"


class Document(BaseModel):
    """Base of every document and every part of one: frozen, camelCase outside, unknown keys refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        _KEYS.update(field.alias or name for name, field in cls.model_fields.items())

    def canonical(self) -> Any:
        """The fields that are set, by their outside names, as JSON values without floats."""
        fields = type(self).model_fields
        given = (name for name in fields if name in self.model_fields_set)
        return {fields[name].alias or name: json_value(getattr(self, name)) for name in given}


AnyDocument = TypeVar("AnyDocument", bound=Document)


def load_text(kind: type[AnyDocument], text: str | bytes, most: int = MAX_PARTS) -> AnyDocument:
    """A document of at most `most` parts from YAML 1.2 or JSON; `DocumentError` with every problem."""
    data, problems = plain(text, most)
    return load_data(kind, data, problems)


def load_data(kind: type[AnyDocument], data: Any, problems: Sequence[Problem] = ()) -> AnyDocument:
    """A document from plain values; earlier `problems` are listed first."""
    found = list(problems)
    if other := _other_kind(kind, data):
        raise DocumentError([other])
    try:
        value = kind.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        unread = {problem.path for problem in problems if problem.code in ("number", "tag")}
        found += [problem for problem in problems_of(error, data) if problem.path not in unread]
    if found:
        raise DocumentError(_distinct(found))
    return value


def _other_kind(kind: type[Document], data: Any) -> Problem | None:
    """A document that says that it is another kind; what else it says is judged as that kind."""
    wanted = get_args(field.annotation) if (field := kind.model_fields.get("kind")) else ()
    said = data.get("kind") if isinstance(data, dict) else None
    if not wanted or not isinstance(said, str) or said in wanted:
        return None
    remedy = "Name the right file, or mend its kind"
    return Problem("kind", f"it is {said[:64]!r}, and {wanted[0]!r} belongs here", remedy, "other_kind")


def load_canonical(kind: type[AnyDocument], data: bytes, kept: bool = True) -> AnyDocument:
    """The document whose `canonical_bytes` these are. `kept`: our ledger's; what is submitted is judged like any."""
    plain_data = json.loads(data)
    try:
        return kind.model_validate(plain_data, by_alias=True, by_name=False, context={"canonical": True, "kept": kept})
    except ValidationError as error:
        raise DocumentError(problems_of(error, plain_data)) from error


def canonical_bytes(document: Document) -> bytes:
    """Sorted-key compact JSON of the fields that are set: durations in integer milliseconds, money in
    integer micro-dollars, other decimals as their shortest text, dates ISO."""
    text = json.dumps(document.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(document: Document) -> str:
    """sha256 of `canonical_bytes`, lower-case hex."""
    return hashlib.sha256(canonical_bytes(document)).hexdigest()


def json_value(value: Any) -> Any:
    """A field's value in canonical form."""
    match value:
        case Document():
            return value.canonical()
        case Enum():
            return value.value
        case Decimal():
            return shortest(value)
        case float():
            return shortest(Decimal(repr(value)))
        case date():
            return value.isoformat()
        case dict():
            return {key: json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [json_value(item) for item in value]
    return value


def shortest(number: Decimal) -> str:
    """`1.50` -> `1.5`, `250.0e9` -> `250000000000`, `-0` -> `0`."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def problems_of(error: ValidationError, data: Any) -> list[Problem]:
    """Every validation error as path, reason and remedy."""
    every = error.errors(include_url=False, include_input=False)
    items = [item for item in every if not _only_emptied(item, every)]
    return [_problem(item, data, at < SUGGESTIONS) for at, item in enumerate(items)]


def _problem(item: ErrorDetails, data: Any, suggest: bool) -> Problem:
    kind, context = item["type"], item.get("ctx") or {}
    steps = _steps(item["loc"], data, kind)
    last = steps[-1] if steps else ""
    reason, remedy = words.reason(kind, item["msg"], context), words.remedy(kind, context)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(last)[:64], sorted(_KEYS), 1, 0.85) if suggest else []
        remedy = f"Did you mean {near[0]}?" if near and near[0] != last else "Remove it; it does not belong here"
    return Problem(path_of(steps), reason.rstrip("."), remedy.rstrip("."), kind)


def _only_emptied(item: ErrorDetails, every: Sequence[ErrorDetails]) -> bool:
    """A list counts as too short when its items are refused; they say what is wrong."""
    loc = item["loc"]
    return item["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in every)


def _steps(loc: tuple[str | int, ...], data: Any, kind: str) -> list[str | int]:
    """pydantic's location without the names of union members, which are in no document."""
    steps: list[str | int] = []
    for at, step in enumerate(loc):
        inside = isinstance(data, dict) and step in data
        inside = inside or (isinstance(data, list) and isinstance(step, int) and step < len(data))
        if inside:
            steps.append(step)
            data = data[step]
        elif at == len(loc) - 1 and kind == "missing":
            steps.append(step)
    return steps


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
