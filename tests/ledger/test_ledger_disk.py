"""What a full disk, a second server and a newer version do to a ledger file."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from orchestrator.adapters.ledger.sql import SqlLedger, reading
from orchestrator.adapters.ledger.sql.tables import metadata
from orchestrator.ports.ledger import Batch, IdempotencyKey, LedgerError, LedgerLocked, LedgerUnavailable
from orchestrator.testing.check_ledger import new_event, row


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The system refuses to let any file grow beyond `size`, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_keeps_nothing_of_a_batch_and_later_ones_work(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "l.db")
    await ledger.commit(Batch(events=[new_event(1)]))
    before = await ledger.head()
    with files_no_larger_than(100_000), pytest.raises(LedgerUnavailable, match="Free disk space"):
        await ledger.commit(Batch(events=[new_event(2, body=b"x" * 500_000)], rows=[row("J2")], counters={"c": 1}))
    assert (await ledger.head(), await ledger.row("J2"), await ledger.counters()) == (before, None, {})
    assert (await ledger.commit(Batch(events=[new_event(2)]))).first_seq == 2
    await ledger.close()


async def test_all_who_shared_the_failed_transaction_are_told(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "l.db")
    with files_no_larger_than(100_000):
        big = [ledger.commit(Batch(events=[new_event(1, body=b"x" * 300_000)])) for _ in range(3)]
        outcomes = await asyncio.gather(*big, return_exceptions=True)
    assert [type(o) for o in outcomes] == [LedgerUnavailable] * 3
    assert [e async for e in ledger.events()] == []
    await ledger.close()


async def test_a_number_that_somebody_else_has_taken_ends_the_whole_transaction(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "l.db")
    await ledger.commit(Batch(events=[new_event(1)]))
    with closing(sqlite3.connect(tmp_path / "l.db")) as intruder, intruder:
        intruder.execute("INSERT INTO events SELECT 400, at, project, job, kind, body_hash, chain FROM events")
    with pytest.raises(LedgerUnavailable, match="UNIQUE"):
        await ledger.commit(Batch(events=[new_event(2)] * 600, rows=[row("J2")], counters={"c": 1}))
    assert [event.seq async for event in ledger.events()] == [1, 400]
    assert (await ledger.row("J2"), await ledger.counters()) == (None, {})
    assert (await ledger.commit(Batch(events=[new_event(2)] * 600))).first_seq == 401
    await ledger.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nobody_waits_for_a_writer_that_died_of_a_fault(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "l.db")
    wrong: Any = ["no row"]
    waiting = [ledger.commit(Batch(events=[new_event(1)])), ledger.commit(Batch(events=[], rows=wrong))]
    assert [type(o) for o in await asyncio.gather(*waiting, return_exceptions=True)] == [LedgerUnavailable] * 2
    with pytest.raises(LedgerUnavailable, match="Restart the server"):
        await ledger.touch(1)
    await ledger.close()


async def test_a_second_server_is_refused_but_may_read(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "l.db")
    await ledger.commit(Batch(events=[new_event(1)], rows=[row("J1")], counters={"c": 1}, specs={"d": b"x"}))
    with pytest.raises(LedgerLocked, match="Stop that server first"):
        await SqlLedger.open(tmp_path / "l.db")
    with reading(tmp_path / "l.db") as seen:
        await ledger.commit(Batch(events=[new_event(2)]))
        assert [e.seq for e in seen.events()] == [1], "a snapshot is one moment"
        assert (list(seen.rows()), seen.counters(), seen.spec("d")) == ([row("J1")], {"c": 1}, b"x")
        assert seen.ledger_id == ledger.ledger_id
    await ledger.close()


async def test_it_says_how_durable_it_is(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "l.db")
    assert await ledger.durability() == {"journal_mode": "wal", "synchronous": "full"}
    await ledger.close()
    with pytest.raises(LedgerError, match="closed its ledger"):
        await ledger.touch(1)


async def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    await (await SqlLedger.open(tmp_path / "l.db")).close()
    with create_engine(f"sqlite:///{tmp_path / 'l.db'}").begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="newer version"):
        await SqlLedger.open(tmp_path / "l.db")


async def test_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    await (await SqlLedger.open(tmp_path / "l.db")).close()
    with create_engine(f"sqlite:///{tmp_path / 'l.db'}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


async def test_expired_keys_are_forgotten_when_the_next_server_leads(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "l.db")
    keys = [IdempotencyKey("p", "old", "d", "J1", 9), IdempotencyKey("p", "new", "d", "J2", 11)]
    await ledger.commit(Batch(events=[], keys=keys, presence=10))
    await ledger.close()
    again = await SqlLedger.open(tmp_path / "l.db")
    await again.next_term()
    assert (await again.find_key("p", "old"), await again.find_key("p", "new")) == (None, keys[1])
    await again.close()


def test_reading_where_no_ledger_is(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger at"), reading(tmp_path / "none.db"):
        pass
