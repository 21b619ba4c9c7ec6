"""A ledger in a file: whole, checked, and put back where there is none, whatever database it comes from or goes to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.adapters.ledger.sql.copying import backup, opened, restore, unopened
from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.ports.ledger import Batch, IdempotencyKey, LedgerError, LedgerLocked
from orchestrator.testing.check_ledger import new_event, row
from tests.ledger.postgres import Cluster, leading
from tests.ledger.test_ledger_restart import seen

KEY = IdempotencyKey("default", "k", "d", "J1", 2**50)
LIFE_US = 30_000_000


async def filled(place: Place) -> None:
    ledger = await leading(place, LIFE_US)
    for n in range(1, 4):
        await ledger.commit(
            Batch(events=[new_event(n)] * 700, rows=[row("J1"), row("")], counters={"c": n}, keys=[KEY])
        )
    await ledger.commit(Batch(events=(), specs={"d": b"x"}, presence=7))
    await ledger.close()


async def carried(here: Place, file: Path, there: Place) -> None:
    """From one place to another, the same in all that a ledger is."""
    assert backup(here, file) == 2100
    with opened(file) as copied:
        restore(copied, there)
    before, after = [await leading(place, LIFE_US) for place in (here, there)]
    assert await seen(before) == await seen(after)
    assert (before.ledger_id, await before.head()) == (after.ledger_id, await after.head())
    assert await after.find_key("default", "k") == KEY
    assert await after.spec("d") == b"x"
    assert (await after.commit(Batch(events=[new_event(9)]))).first_seq == 2101
    assert await after.next_term() > 2, "terms go on from where they were"
    for ledger in (before, after):
        await ledger.close()


async def test_there_and_back(new_place: Callable[[], Place], tmp_path: Path) -> None:
    here = new_place()
    await filled(here)
    await carried(here, tmp_path / "kept", new_place())


@pytest.mark.postgresql
async def test_from_one_database_to_the_other_and_back(postgres: Cluster, tmp_path: Path) -> None:
    here, there = tmp_path / "here.db", postgres.new()
    await filled(here)
    await carried(here, tmp_path / "one", there)
    assert backup(there, tmp_path / "two") == 2101, "what was appended since, too"
    with opened(tmp_path / "two") as copied:
        restore(copied, tmp_path / "back.db")
    back = await leading(tmp_path / "back.db")
    assert (await back.head())[0] == 2101
    await back.close()


async def test_it_is_one_moment_of_a_server_that_runs_on(new_place: Callable[[], Place], tmp_path: Path) -> None:
    ledger = await leading(place := new_place(), LIFE_US)
    await ledger.commit(Batch(events=[new_event(1)], rows=[row("J1")]))
    assert backup(place, tmp_path / "kept") == 1
    await ledger.commit(Batch(events=[new_event(2)], rows=[row("J1")]))
    await ledger.close()
    with opened(tmp_path / "kept"):
        pass


async def test_nobody_else_can_read_a_ledger_nor_one_that_was_put_back(tmp_path: Path) -> None:
    def modes(name: str) -> dict[str, str]:
        return {file.name.removeprefix(name): oct(file.stat().st_mode & 0o777) for file in tmp_path.glob(f"{name}*")}

    alone = dict.fromkeys(("", "-wal", "-shm", ".lock"), "0o600")
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        made = await leading(tmp_path / "made.db")
        await made.commit(Batch(events=[new_event(1)]))
        assert modes("made.db") == alone
        backup(tmp_path / "made.db", tmp_path / "kept")
        with opened(tmp_path / "kept") as copied:
            restore(copied, tmp_path / "back.db")
        assert set(modes("back.db").values()) == {"0o600"}
        back = await leading(tmp_path / "back.db")
        assert modes("back.db") == alone
    finally:
        os.umask(before)
    for ledger in (made, back):
        await ledger.close()


async def test_nothing_is_overwritten(new_place: Callable[[], Place], tmp_path: Path) -> None:
    here = new_place()
    await filled(here)
    backup(here, tmp_path / "kept")
    before = (tmp_path / "kept").read_bytes()
    with pytest.raises(LedgerError, match="There is a file"):
        backup(here, tmp_path / "kept")
    with opened(tmp_path / "kept") as copied, pytest.raises(LedgerError, match="There is a ledger"):
        restore(copied, here)
    assert (tmp_path / "kept").read_bytes() == before
    ledger = await leading(here, LIFE_US)
    assert (await ledger.head())[0] == 2100
    await ledger.close()


async def test_not_under_a_server_that_runs(tmp_path: Path) -> None:
    await filled(tmp_path / "here.db")
    backup(tmp_path / "here.db", tmp_path / "kept")
    running = await leading(tmp_path / "there.db")
    with opened(tmp_path / "kept") as copied, pytest.raises(LedgerLocked, match="Stop it first"):
        restore(copied, tmp_path / "there.db")
    await running.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE bodies SET bytes = x'00' WHERE seq = 5",
        "UPDATE events SET at = at + 1 WHERE seq = 5",
        "DELETE FROM events WHERE seq = 5",
        "UPDATE meta SET value = '00112233445566778899aabbccddeeff' WHERE name = 'ledger_id'",
    ],
)
async def test_a_damaged_backup_is_refused(tmp_path: Path, damage: str) -> None:
    await filled(tmp_path / "here.db")
    backup(tmp_path / "here.db", tmp_path / "kept")
    with closing(sqlite3.connect(tmp_path / "kept")) as connection:
        connection.execute(damage)
        connection.commit()
    with pytest.raises(LedgerError, match="kept: The ledger's chain breaks at event"), opened(tmp_path / "kept"):
        pass


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kept").write_bytes(content)
    with pytest.raises(LedgerError, match=r"kept is damaged, or no|kept: This is no"), opened(tmp_path / "kept"):
        pass


async def test_half_a_backup_is_named_as_damaged(tmp_path: Path) -> None:
    await filled(tmp_path / "here.db")
    backup(tmp_path / "here.db", tmp_path / "kept")
    (tmp_path / "half").write_bytes((tmp_path / "kept").read_bytes()[:3000])
    with pytest.raises(LedgerError, match=r"half is damaged, or no backup: .*Take another"), opened(tmp_path / "half"):
        pass


@pytest.mark.parametrize(
    ("code", "said"), [(sqlite3.SQLITE_FULL, "Make room"), (sqlite3.SQLITE_CORRUPT, "is damaged"), (None, "is damaged")]
)
def test_a_backup_is_not_called_damaged_for_want_of_room_for_its_copy(code: int | None, said: str) -> None:
    cause = sqlite3.OperationalError("database or disk is full")
    if code is not None:
        cause.sqlite_errorcode = code
    assert said in unopened(Path("kept"), cause)


def test_there_must_be_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="There is no ledger"):
        backup(tmp_path / "none.db", tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []
