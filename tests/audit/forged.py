"""Ways to forge a ledger: an honest story's export in which something was changed, and all of it hashed anew."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from msgspec.structs import replace

from orchestrator.core.audit.export import EventLine, Export, assemble, lines
from orchestrator.core.audit.forger import rehash
from orchestrator.core.chain import hash_body
from orchestrator.simulate.world import World
from orchestrator.testing.ledgers import MemoryLedger
from tests.virtual import virtual_loop


@cache
def export_of(story: Callable[[], Awaitable[World]]) -> Export:
    """The story's ledger as it is exported."""
    loop = virtual_loop()
    try:
        world = loop.run_until_complete(story())
    finally:
        loop.close()
    return assemble(lines(MemoryLedger(world.disk).snapshot()))


def place(export: Export, kind: str, nth: int = 0) -> int:
    return [at for at, line in enumerate(export.events) if line.kind == kind][nth]


def edited(export: Export, kind: str, nth: int = 0, **changes: Any) -> Export:
    """The same ledger in which the nth event of a kind says something else, hashed and chained anew."""
    at = place(export, kind, nth)
    line = export.events[at]
    body = json.dumps({**json.loads(line.body or ""), **changes}, separators=(",", ":"))
    made = hash_body(bytes.fromhex(line.salt), body.encode()).hex()
    return put(export, at, replace(line, body=body, body_hash=made))


def put(export: Export, at: int, *made: EventLine) -> Export:
    """The same ledger with these events instead of the one at `at`."""
    return rehash(export, [*export.events[:at], *made, *export.events[at + 1 :]])


def without(export: Export, kind: str, nth: int = 0) -> Export:
    return put(export, place(export, kind, nth))


def again(export: Export, kind: str, nth: int = 0) -> Export:
    """The same ledger in which its last event is an old one once more."""
    line = export.events[place(export, kind, nth)]
    last = export.events[-1]
    return put(export, len(export.events) - 1, last, replace(line, at=last.at))


def at_other_time(export: Export, kind: str, by_s: float, nth: int = 0) -> Export:
    """The same ledger in which everything from the nth event of a kind on happened earlier or later."""
    first = place(export, kind, nth)
    moved = [replace(e, at=e.at + round(by_s * 1e6)) for e in export.events[first:]]
    return rehash(export, [*export.events[:first], *moved])
