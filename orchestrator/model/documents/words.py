"""What does a validator's complaint mean to the author of a document? Our words for pydantic's.

Called by `base` for documents and by the HTTP API for what else it is sent. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = "it is no number"
_REASONS = {
    "string_type": "it is no text",
    "bool_type": "it is neither true nor false",
    "int_type": "it is no whole number",
    "int_parsing": "it is no whole number",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "tuple_type": "it is no list",
    "list_type": "it is no list",
    "dict_type": "it is not made of keys and values",
    "model_type": "it is not made of keys and values",
    "model_attributes_type": "it is not made of keys and values",
    "extra_forbidden": "the field is not known",
    "literal_error": "it is not {expected}",
    "enum": "it is not {expected}",
    "union_tag_invalid": "{tag} is none of {expected_tags}",
    "string_too_long": "it is longer than {max_length} characters",
    "string_too_short": "it is shorter than {min_length} characters",
}
"""By pydantic's code; what is in braces is its context."""
_REMEDIES = {
    "missing": "Add it",
    "string_type": "Write text; put numbers, true and false in quotes",
    "int_type": "Write a whole number",
    "bool_type": "Write true or false",
    "tuple_type": "Write a list, as in [a, b]",
    "list_type": "Write a list, as in [a, b]",
    "dict_type": "Write keys and values, as in {a: b}",
    "model_type": "Write keys and values, as in {a: b}",
    "literal_error": "Write one of those",
    "enum": "Write one of those",
    "union_tag_invalid": "Write one of those",
    "union_tag_not_found": "Add it",
    "string_too_long": "Shorten it, or keep it elsewhere and name the place",
}


def reason(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """What is wrong, without a full stop; pydantic's own sentence where we have none."""
    if kind == "string_pattern_mismatch":
        return "it is no name" if _is_name(context) else f"it does not match {context['pattern']}"
    said = _REASONS.get(kind)
    if said is not None:
        return said.format(**context)
    return re.sub(r"^(Input|String|List|Tuple|Dictionary) should", "it should", message.removeprefix("Value error, "))


def remedy(kind: str, context: Mapping[str, Any]) -> str:
    """What to write instead, without a full stop."""
    if kind != "string_pattern_mismatch":
        return str(context.get("remedy") or _REMEDIES.get(kind) or "Write a value that fits")
    return _name_rule(str(context["pattern"])) if _is_name(context) else "Write what the pattern allows"


def _is_name(context: Mapping[str, Any]) -> bool:
    return "{0,61}" in str(context["pattern"])


def _name_rule(pattern: str) -> str:
    """The pattern of a name in words."""
    inside = pattern.partition("(")[2]
    more = [name for sign, name in ((".", "dots"), ("_", "underscores"), ("/", "slashes")) if sign in inside]
    *most, last = ("letters" if "A-Z" in pattern else "lower-case letters", "digits", "dashes", *more)
    return f"Use {', '.join(most)} and {last}, 63 at most, no space"
