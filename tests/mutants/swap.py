"""How is a rule broken? Its function is swapped for a broken one, everywhere in the product, for one world's life.

This is mutation of the product itself, and the only place where a test replaces code of ours: to break a rule and see
who notices, never to set a unit apart from the rest. The audit that judges is run after the product is whole again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Swap:
    """A function of the product (or a method), and what stands in its place."""

    of: Callable[..., Any]
    by: Callable[..., Any]


@contextmanager
def broken(*swaps: Swap) -> Iterator[None]:
    """The product with these functions broken, wherever it knows them: modules, classes, tables."""
    with ExitStack() as undo:
        for swap in swaps:
            places = list(_places(swap.of))
            if not places:
                raise LookupError(f"nothing in the product is {swap.of!r}: this breaks nothing")
            for put in places:
                put(swap.by)
                undo.callback(put, swap.of)
        yield


def _places(function: Callable[..., Any]) -> Iterator[Callable[[Any], None]]:
    """Setters of everything in the product that is this very function."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "orchestrator":
            for key, value in list(vars(module).items()):
                if value is function:
                    yield lambda new, module=module, key=key: setattr(module, key, new)
                elif isinstance(value, dict):
                    yield from (_item(value, k) for k, v in list(value.items()) if v is function)
                elif isinstance(value, type) and value.__module__ == name:
                    yield from (_attribute(value, k) for k, v in list(vars(value).items()) if v is function)


def _item(table: dict[Any, Any], key: Any) -> Callable[[Any], None]:
    return lambda new: table.__setitem__(key, new)


def _attribute(owner: type, key: str) -> Callable[[Any], None]:
    return lambda new: setattr(owner, key, new)
