"""One writer, several terms in one process: what was decided before the lead was taken anew is not written after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.adapters.ledger.sql import schema
from orchestrator.adapters.ledger.sql.database import database
from orchestrator.adapters.ledger.sql.writer import Writer
from orchestrator.ports.ledger import Batch, Deposed
from orchestrator.testing.check_ledger import new_event


async def test_a_batch_that_still_waits_when_the_lead_is_taken_again_is_refused(tmp_path: Path) -> None:
    kept = database(tmp_path / "ledger.db")
    engine = kept.connect(writes=True)
    schema.upgrade(engine)
    writer = Writer(engine, schema.identity(engine), kept.lead(1_000_000))
    old, term, new = (writer.submit(b) for b in (Batch(events=[new_event(1)]), None, Batch(events=[new_event(2)])))
    writer.start()  # all three are there: one group
    with pytest.raises(Deposed, match="earlier term"):
        await old
    assert await term == 1
    assert (await new).first_seq == 1
    writer.stop()
    engine.dispose()
