"""Is the ledger itself whole, and does it explain where everything stands? Sentences 17, 35 and 36."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec

from orchestrator.core.audit.export import EventLine, RowLine
from orchestrator.core.audit.history import History
from orchestrator.core.audit.lives import Life
from orchestrator.core.audit.registry import Judge, of_ledger
from orchestrator.core.chain import genesis, hash_body, link
from orchestrator.core.ledgerfold import fold_ledger
from orchestrator.core.lifecycle import fold_job
from orchestrator.core.moves import IllegalMove
from orchestrator.core.standing import active, open_offer
from orchestrator.model.job import TERMINAL, JobRow, JobState, LedgerRow, job_row, row_bytes


class _Kind(msgspec.Struct):
    """What every body says of itself."""

    kind: str


@of_ledger(17, "The sequence is dense, the time monotone, the chain whole.")
def chain_is_whole(history: History, judge: Judge) -> None:
    """Every event in its place, every body behind its hash, every cited document behind its digest."""
    chain, at = genesis(history.export.ledger), 0
    for number, line in enumerate(history.export.events, start=1):
        wrong = _wrong(line, number, at, chain)
        judge(wrong is None, line.job, line.seq, f"{line.kind}: {wrong}", sure=True)
        chain, at = bytes.fromhex(line.chain), line.at
    judge(chain.hex() == history.export.head, "", 0, "the last event's chain is not the ledger's head", sure=True)
    for line, why in history.unreadable:
        judge(False, line.job, line.seq, f"{line.kind}: the body is nothing that this version knows: {why}", sure=True)
    for digest, data in history.export.specs.items():
        judge(sha256(data).hexdigest() == digest, "", 0, f"the document {digest[:12]} has another hash", sure=True)


def _wrong(line: EventLine, number: int, at: int, chain: bytes) -> str | None:
    if line.seq != number:
        return f"it is event {number} and calls itself {line.seq}"
    if line.at < at:
        return f"its time is {at - line.at} µs before the event before it"
    if line.body is not None and hash_body(bytes.fromhex(line.salt), line.body.encode()).hex() != line.body_hash:
        return "its body is not the one that was hashed"
    try:
        if line.body is not None and msgspec.json.decode(line.body, type=_Kind).kind != line.kind:
            return "its body is of another kind"
        made = link(chain, line.seq, line.at, (line.kind, line.project, line.job), bytes.fromhex(line.body_hash))
    except struct.error as impossible:
        return f"it cannot be chained: {impossible}"
    except msgspec.DecodeError as wrong:
        return f"its body is none of an event: {wrong}"
    return None if made.hex() == line.chain else "the chain breaks here"


@of_ledger(35, "Every live job has an open offer, an attempt, a timer, a parked shape or a held reason.")
def nobody_is_forgotten(history: History, judge: Judge) -> None:
    """Judged for each job that has not ended, as its row stands at the head."""
    if history.without_rows:
        judge.withhold()
    for line in history.export.rows:
        if not line.job or line.state in TERMINAL:
            continue
        try:
            row = job_row(line.body.encode())
        except msgspec.DecodeError as wrong:
            judge(False, line.job, 0, f"its row cannot be read: {wrong}")
            continue
        known = line.live and _awaits(row, history)
        judge(known, line.job, 0, f"it is {line.state} and waits for nothing" if line.live else "it is archived alive")


def _awaits(row: JobRow, history: History) -> bool:
    """Whether something will come for this job by itself, or a person must."""
    if open_offer(row) is not None or active(row) is not None or row.wait_until is not None:
        return True
    if row.state is JobState.HELD:
        return bool(row.reason)
    if row.state is JobState.QUEUED:  # in its shape's queue, if a restart can know the shape
        return row.shape in history.export.specs
    if row.state is JobState.STOPPING:  # its last attempt's limit runs out
        return bool(row.attempts)
    return row.state is JobState.RECOVERING and row.fence > row.fenced


@of_ledger(36, "Folding from event 1 equals jobs_live byte for byte.")
def fold_equals_rows(history: History, judge: Judge) -> None:
    """Each job's row, and the ledger's own, made anew from the events; no row without events, none missing."""
    if history.without_rows:
        judge.withhold()
        return
    rows = {line.job: line for line in history.export.rows}
    folded = set()
    for life in history.lives.values():
        folded.add(life.job)
        if life.readable:
            difference = _difference(life, rows.get(life.job))
            judge(difference is None, life.job, life.seen[-1].seq if life.seen else 0, difference or "")
    own = _ledger_row(history)
    if isinstance(own, str):
        judge(False, "", 0, own)
    elif "" in rows or history.ledger:
        same = "" in rows and rows[""].body.encode() == row_bytes(own)
        judge(same, "", 0, "the ledger's own row is not what its events say")
    for job in rows.keys() - folded - {""}:
        judge(False, job, 0, "it has a row and no events")


def _difference(life: Life, line: RowLine | None) -> str | None:
    row: JobRow | None = None
    try:
        for seen in life.seen:
            row = fold_job(row, life.job, life.project, seen.at, seen.event)
    except IllegalMove as illegal:
        return f"its events do not follow one another: {illegal}"
    if row is None or line is None:
        return "it has events and no row" if line is None else "it has a row and no events"
    if (line.project, line.state) != (row.project, row.state):
        return f"its row says {line.state}, its events {row.state.value}"
    if line.body.encode() == row_bytes(row):
        return None
    try:
        return f"its row differs from its events in {', '.join(_fields(line.body.encode(), row))}"
    except msgspec.DecodeError as wrong:
        return f"its row cannot be read: {wrong}"


def _fields(stored: bytes, row: JobRow) -> Iterator[str]:
    theirs, ours = (msgspec.json.decode(body, type=dict[str, Any]) for body in (stored, row_bytes(row)))
    return (name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name))


def _ledger_row(history: History) -> LedgerRow | str:
    row = LedgerRow()
    try:
        for seen in history.ledger:
            row = fold_ledger(row, seen.at, seen.event)
    except IllegalMove as illegal:
        return f"the ledger's own events do not follow one another: {illegal}"
    return row
