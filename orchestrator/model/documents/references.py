"""Does an operator's document hold a secret itself, where it should only say where one lies?

Called by `providers` and the settings. What is in a document is in the ledger, in every export of it and in the HTTP
API; so a secret is `env:NAME` or `file:/path` there, and the value is read where it is used. Never repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.model.documents.errors import Problem, path_of

REFERENCES = ("env:", "file:")
REMEDY = "Keep it in a variable or a file, and write env:NAME or file:/path"
_SECRET = re.compile(
    r"(^|_)(token|password|passwd|passphrase)$|(^|_)(access|account|api|client|master|private|sas|secret|signing)_?key$"
    r"|(^|_)client_?secret$|^(secret|credential|credentials)$"
)
"""As adapters and stores call them, in snake_case; `storeSecret` or `topologyKey` are names of other things."""
_USERINFO = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]+@", re.IGNORECASE)


def is_reference(value: str) -> bool:
    """Whether this says where a secret lies."""
    return value.startswith(REFERENCES)


def literal_secrets(values: Any, steps: Sequence[str | int] = ()) -> Iterator[Problem]:
    """Every secret that stands in these values itself, `steps` being where they are."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _named(str(name), value, (*steps, str(name)))
    elif isinstance(values, list | tuple):
        for at, value in enumerate(values):
            yield from literal_secrets(value, (*steps, at))
    elif isinstance(values, str) and _USERINFO.match(values):
        yield _problem(steps, "the address holds a password")


def _named(name: str, value: Any, steps: Sequence[str | int]) -> Iterator[Problem]:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    if _SECRET.search(snake) and isinstance(value, str) and value and not is_reference(value):
        yield _problem(steps, "the secret itself stands here, and would be in the ledger")
    else:
        yield from literal_secrets(value, steps)


def _problem(steps: Sequence[str | int], reason: str) -> Problem:
    return Problem(path_of(steps), reason, REMEDY, "literal_secret")
