"""What does a group of batches write? Salts, hashes and the chain for events; the last row of each job; sums.

Called by `writer` for every transaction, before anything touches the database, so that a batch that cannot be
written is refused alone. Bytes become bytearrays in the rows: SQLite's driver takes one as it is, but looks for an
adapter of every `bytes`, 0.6 µs each, and a placement writes thirty.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

from msgspec import Struct, field

from orchestrator.core.chain import SALT_SIZE, hash_body, link
from orchestrator.ports.ledger import Batch, Committed, LedgerError, NewEvent

Rows: TypeAlias = list[tuple[Any, ...]]


class Head(Struct, frozen=True):
    """Where the ledger ends: last sequence number and time (0 when empty), chain hash."""

    seq: int
    at: int
    chain: bytes


class Group(Struct):
    """What one transaction writes; rows are tuples in the order of their table's columns."""

    head: Head
    events: Rows = field(default_factory=list)
    bodies: Rows = field(default_factory=list)
    specs: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    presence: int | None = None
    replies: list[tuple[int, bytes]] = field(default_factory=list)


def add(group: Group, batch: Batch) -> Committed | LedgerError:
    """Chain a batch onto the group; the error of a batch that cannot be written leaves the group as it was."""
    first = group.head.seq + 1
    try:
        events, bodies, head = _link(group.head, batch.events)
    except (ValueError, struct.error) as wrong:
        return LedgerError(f"The engine's batch cannot be written: {wrong}. Nothing of it was kept.")
    group.events += events
    group.bodies += bodies
    group.head = head
    _project(group, batch, {event.job: first + at for at, event in enumerate(batch.events)})
    return Committed(first_seq=first, head=head.chain.hex())


def _link(head: Head, new: Sequence[NewEvent]) -> tuple[Rows, Rows, Head]:
    events: Rows = []
    bodies: Rows = []
    seq, at, chain = head.seq, head.at, head.chain
    salts = os.urandom(SALT_SIZE * len(new))
    for n, event in enumerate(new):
        if event.at < at:
            raise ValueError(f"{event.kind} at {event.at} µs comes before the ledger's last event at {at} µs")
        seq, at, body = seq + 1, event.at, event.body
        salt = salts[SALT_SIZE * n : SALT_SIZE * (n + 1)]
        hashed = hash_body(salt, body)
        chain = link(chain, seq, at, (event.kind, event.project, event.job), hashed)
        events.append((seq, at, event.project, event.job, event.kind, bytearray(hashed), bytearray(chain)))
        bodies.append((seq, bytearray(salt), bytearray(body)))
    return events, bodies, Head(seq, at, chain)


def _project(group: Group, batch: Batch, last: dict[str, int]) -> None:
    """Rows, documents, sums: the last word on each wins, as if the batches had been written one by one."""
    for row in batch.rows:
        seq = last.get(row.job, group.head.seq)
        group.jobs[row.job] = (row.job, row.project, row.state, row.live, seq, bytearray(row.body))
    group.specs.update(batch.specs)
    for name, amount in batch.counters.items():
        group.counters[name] = group.counters.get(name, 0) + amount
    group.keys.update(((k.project, k.key), (k.project, k.key, k.body_digest, k.job, k.expires)) for k in batch.keys)
    group.replies.extend((reply.wish, reply.body) for reply in batch.replies)
    if batch.presence is not None:
        group.presence = batch.presence
