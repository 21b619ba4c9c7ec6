"""A story's ledger as a file that a server could have written: the same id, salts and chain."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from orchestrator.adapters.ledger.sql import SqlLedger
from orchestrator.core.audit.export import Export
from orchestrator.ports.ledger import Batch, LiveRow


async def written(path: Path, story: Export) -> Path:
    """The story at `path`."""
    kept = await SqlLedger.open(path)
    rows = [LiveRow(r.job, r.project, r.state, r.body.encode(), r.live) for r in story.rows]
    await kept.commit(Batch(events=(), rows=rows, specs=story.specs, counters=story.counters))
    await kept.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'ledger_id'", (story.ledger,))
        for e in story.events:
            names = e.seq, e.at, e.project, e.job, e.kind, bytes.fromhex(e.body_hash), bytes.fromhex(e.chain)
            connection.execute("INSERT INTO events (seq, at, project, job, kind, body_hash, chain) "
                               "VALUES (?, ?, ?, ?, ?, ?, ?)", names)  # fmt: skip
            body = e.seq, bytes.fromhex(e.salt), (e.body or "").encode()
            connection.execute("INSERT INTO bodies (seq, salt, bytes) VALUES (?, ?, ?)", body)
    connection.close()
    return path
