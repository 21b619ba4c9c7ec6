"""What does somebody who runs the ledger do to hide a change? Numbers, chains, heads and hashes everything anew.

Called by `mutate` and by tests of the sentences: what they find after this, no rewriting can hide from them. What it
cannot reach is what has left us: receipts that providers keep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from orchestrator.core.audit.export import EventLine, Export
from orchestrator.core.audit.proof import bytes_out
from orchestrator.core.chain import genesis, hash_body, link
from orchestrator.model import event as ev
from orchestrator.model.placement import parse_shape


def rehash(export: Export, events: Sequence[EventLine]) -> Export:
    """The export with these events, as if they had been written so."""
    forger = _Forger(export)
    linked = tuple(forger.write(seq, line) for seq, line in enumerate(events, start=1))
    rows = tuple(replace(row, body=forger.with_new_heads(row.body)) for row in export.rows)
    return replace(export, events=linked, rows=rows, head=forger.chain.hex())


class _Forger:
    def __init__(self, export: Export) -> None:
        self._export = export
        self.chain = genesis(export.ledger)
        self._known = {line.chain for line in export.events}
        self._heads = {self.chain.hex(): self.chain.hex()}
        """Old chain → new chain: of every event, and of every head whose event is there no more."""
        self._class: dict[str, str] = {}
        self._opened: dict[tuple[str, int], tuple[ev.OfferOpened, ev.OfferOpened]] = {}

    def write(self, seq: int, line: EventLine) -> EventLine:
        """The event in its new place."""
        old = line.chain
        line = self._body(line)
        self.chain = link(self.chain, seq, line.at, (line.kind, line.project, line.job), bytes.fromhex(line.body_hash))
        self._heads[old] = self.chain.hex()
        return replace(line, seq=seq, chain=self.chain.hex())

    def with_new_heads(self, body: str) -> str:
        """A row whose last offer's head is one of the new chain's."""
        row = msgspec.json.decode(body)
        old = (row.get("offer") or {}).get("head", "")
        return body.replace(f'"head":"{old}"', f'"head":"{self._heads.get(old, old)}"') if old else body

    def _body(self, line: EventLine) -> EventLine:
        if line.body is None or line.kind not in ("Submitted", "OfferOpened", "OfferDelivered"):
            return line
        event = ev.decode(line.body.encode())
        if isinstance(event, ev.Submitted) and event.shape in self._export.specs:
            self._class[line.job] = parse_shape(self._export.specs[event.shape]).job_class
        if isinstance(event, ev.OfferOpened):
            known = event.head in self._known
            head = self._heads.setdefault(event.head, self.chain.hex() if known else event.head)
            self._opened[line.job, event.n] = event, replace(event, head=head)
            return _told(line, head=head)
        if isinstance(event, ev.OfferDelivered):
            old, new = self._sent(line.job, event.n)
            return _told(line, sent=new) if event.sent == old else line
        return line

    def _sent(self, job: str, n: int) -> tuple[str, str]:
        """What left us by the old ledger, and by the new one."""
        both = self._opened.get((job, n))
        if both is None or job not in self._class or both[0].terms not in self._export.specs:
            return "?", "?"
        terms = self._export.specs[both[0].terms]
        old, new = (hashlib.sha256(bytes_out(job, self._class[job], terms, e)).hexdigest() for e in both)
        return old, new


def _told(line: EventLine, **changes: Any) -> EventLine:
    body = json.dumps({**json.loads(line.body or ""), **changes}, separators=(",", ":"), ensure_ascii=False)
    return replace(line, body=body, body_hash=hash_body(bytes.fromhex(line.salt), body.encode()).hex())
