"""Which promises are there, and in what order? Each is a function over a `Session`; its docstring is its sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.testing.kit.subject import Session

Check = Callable[[Session], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise of the provider port.

    `where` it is written: a class of the port (`ports.provider`) or of what passes through it (`model.offer`), or one
    of its members. `needs`: the lever without which it cannot be judged; empty: none.
    """

    name: str
    where: str
    sentence: str
    check: Check
    needs: str


_sections: dict[str, list[Promise]] = {}


def promise(where: str, needs: str = "") -> Callable[[Check], Check]:
    """Enter a function as a promise, under its own name; `where` and `needs` as in `Promise`."""

    def enter(check: Check) -> Check:
        sentence = " ".join((check.__doc__ or "").split())
        entered = Promise(getattr(check, "__name__", "?"), where, sentence, check, needs)
        _sections.setdefault(check.__module__, []).append(entered)
        return check

    return enter


def section(module: str) -> list[Promise]:
    """The promises of one module, in the order in which they are written there."""
    return _sections[module]
