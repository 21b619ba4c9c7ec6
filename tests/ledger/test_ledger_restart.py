"""A restart sees the same rows, counters and chain, whatever was committed; both ledgers tell the same story."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.ports.ledger import Batch, Ledger, LiveRow, NewEvent
from orchestrator.testing.ledgers import MemoryDisk, MemoryLedger
from tests.ledger.postgres import Cluster, leading

texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)  # PostgreSQL takes no NUL
jobs = st.sampled_from(["", "J1", "J2", "J3"])
rows = st.builds(LiveRow, job=jobs, project=texts, state=texts, body=st.binary(max_size=20), live=st.booleans())
events = st.builds(NewEvent, at=st.just(5), kind=texts, project=texts, job=jobs, body=st.binary(max_size=9))
batches = st.builds(
    Batch,
    events=st.lists(
        st.builds(NewEvent, at=st.just(5), kind=texts, project=texts, job=jobs, body=st.binary(max_size=9))
    ),
    rows=st.lists(rows, max_size=4),
    specs=st.dictionaries(texts, st.binary(max_size=9), max_size=2),
    counters=st.dictionaries(texts, st.integers(-(2**40), 2**40), max_size=3),
    presence=st.none() | st.integers(0, 2**62),
)


async def seen(ledger: Ledger) -> Mapping[str, Any]:
    """Everything but what is drawn by chance."""
    events = [(e.seq, e.at, e.kind, e.project, e.job, e.body) async for e in ledger.events()]
    return {
        "rows": list(await ledger.live_rows()),
        "each": [await ledger.row(job) for job in ("", "J1", "J2", "J3")],
        "counters": await ledger.counters(),
        "presence": await ledger.presence(),
        "events": events,
        "last": await ledger.last_at(),
    }


async def live_through(place: Place, groups: list[list[Batch]]) -> None:
    disk = await leading(place, life_us=30_000_000)
    story = MemoryLedger(MemoryDisk())
    for group in groups:
        await asyncio.gather(*(disk.commit(batch) for batch in group))
        for batch in group:
            await story.commit(batch)
    before, head = await seen(disk), await disk.head()
    assert before == await seen(story)
    await disk.close()
    again = await leading(place, life_us=30_000_000)
    assert (await seen(again), await again.head()) == (before, head)
    await again.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(batches, max_size=4), max_size=4))
def test_a_restart_sees_the_same(groups: list[list[Batch]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live_through(Path(folder) / "l.db", groups))


@pytest.mark.postgresql
def test_a_restart_on_postgresql_sees_the_same(postgres: Cluster) -> None:
    @settings(max_examples=10, deadline=None, database=None)
    @given(st.lists(st.lists(batches, max_size=4), max_size=4))
    def lived(groups: list[list[Batch]]) -> None:
        asyncio.run(live_through(postgres.new(), groups))

    lived()
