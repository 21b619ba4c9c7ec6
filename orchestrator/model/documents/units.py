"""How are durations, money, sizes, dates and names written, and what are they inside?

Field types for the documents: a Duration is integer milliseconds, Money integer micro-dollars, Size
integer bytes, Number a Decimal, Day a date. Text is read exactly; what does not fit is refused with a
remedy, never rounded. In canonical bytes (`context={"canonical": True}`) the integers themselves stand.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict, StringConstraints, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from orchestrator.model.placement import MOST_PRICE

MAX_DURATION_MS = 100 * 366 * 86_400_000
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([A-Za-z]{0,2})", re.ASCII)


def refuse(code: str, reason: str, remedy: str) -> PydanticCustomError:
    """A validation error that carries its remedy."""
    safe = reason.replace("{", "(").replace("}", ")")
    return PydanticCustomError(code, safe, {"remedy": remedy})  # type: ignore[arg-type,unused-ignore]


def is_canonical(info: ValidationInfo) -> bool:
    """Whether canonical bytes are being read, in which integers stand for durations and money."""
    return bool(info.context and info.context.get("canonical"))


def is_kept(info: ValidationInfo) -> bool:
    """Whether these bytes come from our own ledger: what was once taken is not judged again by later rules."""
    return bool(info.context and info.context.get("kept"))


def duration_ms(value: Any, info: ValidationInfo) -> Any:
    """`15m`, `0.5h`, a timedelta, 0 -> milliseconds."""
    if type(value) is int and (value == 0 or is_canonical(info)):
        return value
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in _MS:
        raise refuse("duration", f"{_show(value)} is no duration", "write a number and ms, s, m, h or d, as in 15m")
    return _whole(Decimal(found[1]) * _MS[found[2]], "duration", "whole milliseconds")


def size_bytes(value: Any, info: ValidationInfo) -> Any:
    """`32Gi`, `500M` -> bytes."""
    if type(value) is int and is_canonical(info):
        return value
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or not found[2] or found[2] not in _BYTES:
        raise refuse("size", f"{_show(value)} is no size", "write a number and Ki, Mi, Gi or Ti, as in 32Gi")
    return _whole(Decimal(found[1]) * _BYTES[found[2]], "size", "whole bytes")


def micro_dollars(value: Any, info: ValidationInfo) -> Any:
    """`3.00` -> 3000000."""
    if type(value) is int and is_canonical(info):
        return value
    return _whole(number(value) * 1_000_000, "money", "at most six digits after the point")


def number(value: Any) -> Decimal:
    """A decimal from its own text; a Python float counts as its shortest text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise refuse("number", f"{_show(value)} is no number", "write plain digits, as in 2.50")
    try:
        found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite() or abs(found.adjusted()) > 18:
        raise refuse("number", f"{_show(value)} is no number", "write plain digits, as in 2.50")
    return found


def whole(value: Any, info: ValidationInfo) -> Decimal:
    """A whole number, still a decimal: what was taken when it could be any is kept as it was."""
    found = number(value)
    if found != found.to_integral_value() and not is_kept(info):
        raise refuse("whole", "it is no whole number", "Write a whole number")
    return found


def day(value: Any) -> Any:
    """`2025-10-27` -> date."""
    if type(value) is date:
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise refuse("date", f"{_show(value)} is no date", "write year-month-day, as in 2025-10-27")


def _whole(found: Decimal, code: str, rule: str) -> int:
    if found != found.to_integral_value():
        raise refuse(code, f"it is finer than {rule}", "round it")
    return int(found)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def written(schema: dict[str, Any], pattern: str = "", *, zero: bool = False) -> WithJsonSchema:
    """How a value is written, for schemas: text of a pattern (or the number 0), or what `schema` says."""
    text = {"type": "string", "pattern": pattern} if pattern else {}
    return WithJsonSchema(schema | ({"anyOf": [{"type": "integer"}, text]} if zero else text))


_AMOUNT = r"^\d{1,15}(\.\d{1,9})?"
_SPAN, _BULK = _AMOUNT + "(ms|s|m|h|d)$", _AMOUNT + "(Ki|Mi|Gi|Ti|k|M|G|T)$"
_PRICE = {"type": "number", "exclusiveMinimum": 0, "maximum": 10**6}  # dollars
_PERCENT = {"type": "number", "minimum": 0, "maximum": 100}

Integer = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]  # what JSON readers and databases hold
Flag = Annotated[bool, Strict()]
Text = Annotated[str, StringConstraints(strict=True, max_length=4096)]
Duration = Annotated[int, Field(ge=0, le=MAX_DURATION_MS), BeforeValidator(duration_ms), written({}, _SPAN, zero=True)]
Period = Annotated[int, Field(gt=0, le=MAX_DURATION_MS), BeforeValidator(duration_ms), written({}, _SPAN)]
Size = Annotated[int, BeforeValidator(size_bytes), written({}, _BULK)]
Money = Annotated[int, Field(ge=0), BeforeValidator(micro_dollars), written({"type": "number", "minimum": 0})]
Price = Annotated[int, Field(gt=0, le=MOST_PRICE), BeforeValidator(micro_dollars), written(_PRICE)]
Number = Annotated[Decimal, Field(ge=0), BeforeValidator(number), written({"type": "number", "minimum": 0})]
Whole = Annotated[Decimal, Field(ge=0), BeforeValidator(whole), written({"type": "integer", "minimum": 0})]
Percent = Annotated[Decimal, Field(ge=0, le=100), BeforeValidator(number), written(_PERCENT)]
Day = Annotated[date, BeforeValidator(day), written({"format": "date"}, r"^\d{4}-\d{2}-\d{2}$")]
Id = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Word = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
