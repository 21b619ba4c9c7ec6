"""Which promises are there, and in what order? Each is a function over a `Session`; its docstring is its sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.testing.kit.subject import Session

Check = Callable[[Session], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise of the provider port. `needs`: the lever without which it cannot be judged; empty: none."""

    name: str
    sentence: str
    check: Check
    needs: str


_sections: dict[str, list[Promise]] = {}


def promise(needs: str = "") -> Callable[[Check], Check]:
    """Enter a function as a promise, under its own name."""

    def enter(check: Check) -> Check:
        sentence = " ".join((check.__doc__ or "").split())
        entered = Promise(getattr(check, "__name__", "?"), sentence, check, needs)
        _sections.setdefault(check.__module__, []).append(entered)
        return check

    return enter


def section(module: str) -> list[Promise]:
    """The promises of one module, in the order in which they are written there."""
    return _sections[module]
