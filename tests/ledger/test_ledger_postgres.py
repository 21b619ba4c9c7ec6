"""A ledger on PostgreSQL: what its operator is told, what a snapshot sees, and how durable it is."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from orchestrator.adapters.ledger.sql import SqlLedger, reading
from orchestrator.adapters.ledger.sql.database import database
from orchestrator.adapters.ledger.sql.tables import metadata
from orchestrator.bootstrap import ledger_place, notices, this_machine
from orchestrator.model.documents import DocumentError
from orchestrator.ports.inbox import Reply
from orchestrator.ports.ledger import Batch, Deposed, LedgerError, LedgerLocked, LedgerUnavailable
from orchestrator.settings import Settings
from orchestrator.testing.check_ledger import new_event, row
from tests.ledger.postgres import Cluster, leading, name_of

pytestmark = pytest.mark.postgresql


async def test_a_second_server_does_not_lead_but_may_read(postgres: Cluster) -> None:
    url = postgres.new()
    ledger, second = await leading(url, life_us=30_000_000), await SqlLedger.open(url)
    await ledger.commit(Batch(events=[new_event(1)], rows=[row("J1")], counters={"c": 1}, specs={"d": b"x"}))
    with pytest.raises(LedgerLocked, match="Another server leads"):
        await second.next_term()
    with pytest.raises(Deposed, match="does not lead"):
        await second.commit(Batch(events=[new_event(2)]))
    assert await second.row("J1") == row("J1")
    with reading(url) as seen:
        await ledger.commit(Batch(events=[new_event(2)]))
        assert [e.seq for e in seen.events()] == [1], "a snapshot is one moment"
        assert (list(seen.rows()), seen.counters(), seen.spec("d")) == ([row("J1")], {"c": 1}, b"x")
        assert seen.ledger_id == ledger.ledger_id == second.ledger_id
    await ledger.close()
    await second.next_term()
    assert (await second.commit(Batch(events=[new_event(3)]))).first_seq == 3
    await second.close()


async def test_a_batch_of_a_deposed_leader_is_refused_whole(postgres: Cluster) -> None:
    url = postgres.new()
    old = await leading(url, life_us=100_000)
    await old.commit(Batch(events=[new_event(1)]))
    new = await leading(url, life_us=30_000_000, wait_s=5)
    for late in (Batch(events=[new_event(2)], rows=[row("J9")], counters={"c": 1}), Batch(events=[], presence=9)):
        with pytest.raises(Deposed, match="does not lead any more"):
            await old.commit(late)
    with pytest.raises(Deposed, match="Another server leads"):
        await old.renew()
    await old.resign()
    assert (await new.commit(Batch(events=[new_event(3)]))).first_seq == 2
    assert (await new.row("J9"), await new.counters(), await new.presence()) == (None, {}, None)
    await old.close()
    await new.renew()
    await new.close()


async def test_a_lease_lasts_as_long_as_it_is_renewed(postgres: Cluster) -> None:
    url = postgres.new()
    ledger, second = await leading(url, life_us=600_000), await SqlLedger.open(url)
    for _ in range(6):
        await asyncio.sleep(0.2)
        await ledger.renew()
        with pytest.raises(LedgerLocked):
            await second.next_term()
    await asyncio.sleep(0.7)
    await ledger.renew()  # over, but nobody took it
    await ledger.close()
    await second.close()


async def test_a_leader_frozen_inside_a_transaction_holds_nobody_up(postgres: Cluster) -> None:
    url = postgres.new()
    old = await leading(url, life_us=100_000)
    frozen = database(url).connect(writes=True).connect()
    frozen.exec_driver_sql("UPDATE lead SET seq = seq WHERE id = 1")
    began = time.monotonic()
    new = await leading(url, wait_s=10)
    print(f"led {time.monotonic() - began:.1f} s after another froze inside its transaction")
    assert time.monotonic() - began < 10
    await new.close()
    await old.close()


async def test_a_read_that_hangs_ends_no_lead(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.new()
    ledger = await leading(url, life_us=30_000_000)
    await ledger.commit(Batch(events=[new_event(1)]))
    await ledger.row("J1")
    blocker = database(url).connect(writes=True).connect()
    blocker.exec_driver_sql("LOCK TABLE jobs_live IN ACCESS EXCLUSIVE MODE")
    monkeypatch.setattr("orchestrator.adapters.ledger.sql.ledger._READ_S", 0.5)
    with pytest.raises(LedgerUnavailable, match="no answer"):
        await ledger.row("J1")
    await ledger.renew()
    assert (await ledger.commit(Batch(events=[new_event(2)]))).first_seq == 2
    blocker.close()
    await ledger.row("J1")
    await ledger.close()


async def test_whoever_waits_for_a_database_that_never_answers_is_let_go(postgres: Cluster) -> None:
    url = postgres.new()
    ledger = await leading(url, life_us=100_000)
    blocker = database(url).connect(writes=True).connect()
    blocker.exec_driver_sql("LOCK TABLE events")
    stuck = asyncio.ensure_future(ledger.commit(Batch(events=[new_event(1)])))
    await asyncio.sleep(0.3)
    await ledger.resign()
    with pytest.raises(LedgerUnavailable, match="read back before anything else"):
        await stuck
    blocker.close()
    await ledger.next_term()
    assert (await ledger.commit(Batch(events=[new_event(1)]))).first_seq == 1
    await ledger.close()


async def test_a_connection_that_was_lost_meanwhile_costs_nobody_an_answer(postgres: Cluster) -> None:
    url = postgres.new()
    ledger = await leading(url, life_us=30_000_000)
    assert ledger.inbox is not None
    wishes = [await ledger.inbox.put("cancel", b"{}")]
    await ledger.resign()
    wishes.append(await ledger.inbox.put("cancel", b"{}"))
    await ledger.next_term()
    name = name_of(url)
    ours = f"FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    assert postgres.ask(name, f"SELECT pg_terminate_backend(pid) {ours}"), "an operator's hand, or a firewall's"
    wishes.append(await ledger.inbox.put("cancel", b"{}"))
    await ledger.renew()
    assert [wished.id for wished in await ledger.inbox.take()] == wishes
    await ledger.close()


async def test_a_number_that_somebody_else_has_taken_ends_the_whole_transaction(postgres: Cluster) -> None:
    url = postgres.new()
    ledger = await leading(url, life_us=30_000_000)
    await ledger.commit(Batch(events=[new_event(1)]))
    name = name_of(url)
    postgres.ask(name, "INSERT INTO events SELECT 400, at, project, job, kind, body_hash, chain FROM events")
    with pytest.raises(LedgerUnavailable, match="duplicate key"):
        await ledger.commit(Batch(events=[new_event(2)] * 600, rows=[row("J2")], counters={"c": 1}))
    assert [event.seq async for event in ledger.events()] == [1, 400]
    assert (await ledger.row("J2"), await ledger.counters()) == (None, {})
    with pytest.raises(Deposed, match="no longer ends at"):
        await ledger.commit(Batch(events=[new_event(2)]))
    await ledger.next_term()
    assert (await ledger.commit(Batch(events=[new_event(2)] * 600))).first_seq == 401
    await ledger.close()


async def test_a_wish_is_heard_taken_once_a_term_and_answered_with_the_commit(postgres: Cluster) -> None:
    url = postgres.new()
    leader, follower = await leading(url, life_us=30_000_000), await SqlLedger.open(url)
    there, here = follower.inbox, leader.inbox
    assert there is not None and here is not None
    await asyncio.sleep(1)  # both have begun to listen
    began = time.monotonic()
    heard = asyncio.ensure_future(here.wait(20))
    await asyncio.sleep(0)
    wish = await there.put("cancel", b"{}")
    await heard
    assert time.monotonic() - began < 10, "nobody rang"
    assert await follower.inbox.take() == [], "only the leader takes"
    assert [(w.id, w.kind, w.body, w.tries) for w in await here.take()] == [(wish, "cancel", b"{}", 1)]
    await leader.next_term()
    assert [(w.id, w.tries) for w in await here.take()] == [(wish, 2)], "taken again in another term, and counted"
    assert (await here.take(), await there.withdraw(wish)) == ([], False)
    await leader.commit(Batch(events=[new_event(1)], replies=[Reply(wish, b"yes")]))
    assert await there.reply(wish, 5) == b"yes"
    late = await there.put("cancel", b"{}")
    assert (await there.reply(late, 0), await there.withdraw(late), await here.take()) == (None, True, [])
    await leader.close()
    await follower.close()


async def test_fifty_wishes_at_once_are_all_answered_however_often_it_rings(postgres: Cluster) -> None:
    """Their patience is time, not rings: each put and each answer of the others rings too."""
    url = postgres.new()
    leader, follower = await leading(url, life_us=30_000_000), await SqlLedger.open(url)
    there, here = follower.inbox, leader.inbox
    assert there is not None and here is not None
    wishes = await asyncio.gather(*(there.put("cancel", b"%d" % n) for n in range(50)))
    waiting = [asyncio.ensure_future(there.reply(wish, 30)) for wish in wishes]
    for taken in await here.take():
        await asyncio.sleep(0.02)
        await leader.commit(Batch(events=(), replies=[Reply(taken.id, taken.body)]))
    assert await asyncio.gather(*waiting) == [b"%d" % n for n in range(50)]
    await leader.close()
    await follower.close()


async def test_it_is_durable_whatever_the_database_s_default_is(postgres: Cluster) -> None:
    url = postgres.new()
    name = name_of(url)
    postgres.ask("postgres", f"ALTER DATABASE {name} SET synchronous_commit = off")
    ledger = await SqlLedger.open(url)
    assert await ledger.durability() == {"synchronous_commit": "on", "fsync": "on"}
    await ledger.close()


async def test_migrations_make_exactly_the_tables(postgres: Cluster) -> None:
    url = postgres.new()
    await (await SqlLedger.open(url)).close()
    with database(url).connect(writes=False).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


async def test_a_ledger_of_a_newer_version_is_refused(postgres: Cluster) -> None:
    url = postgres.new()
    await (await SqlLedger.open(url)).close()
    postgres.ask(name_of(url), "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match="newer version"):
        await SqlLedger.open(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://here:none/ledger", "cannot be read. Write postgresql://"),
        ("postgresql://here", "names no PostgreSQL database"),
        ("postgresql://u:hidden@127.0.0.1:1/ledger", "Check that the database runs and can be reached"),
    ],
)
async def test_a_url_that_leads_nowhere(url: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said) as told:
        await SqlLedger.open(url)
    assert "hidden" not in str(told.value)


async def test_a_database_that_is_not_there(postgres: Cluster) -> None:
    with pytest.raises(LedgerUnavailable, match="database"):
        await SqlLedger.open(postgres.url("nowhere"))
    with pytest.raises(LedgerError, match="no ledger in this database"), reading(postgres.new()):
        pass


async def test_the_driver_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'first-refusal\[postgresql\]'"):
        await SqlLedger.open("postgresql://here/ledger")


def test_the_setting_that_names_it(tmp_path: Path) -> None:
    url = "postgresql://user@db/ledger"
    assert ledger_place(Settings(home=tmp_path, database_url=url)) == url
    assert ledger_place(Settings(home=tmp_path)) == tmp_path / "ledger.db"
    with pytest.raises(DocumentError, match="mysql"):
        ledger_place(Settings(home=tmp_path, database_url="mysql://user@db/ledger"))


def test_a_store_that_only_this_server_sees_is_told_of(tmp_path: Path) -> None:
    def told(**given: str) -> list[str]:
        settings = Settings(home=tmp_path, **given)
        return list(notices(settings, None, this_machine(settings)))

    url = "postgresql://user@db/ledger"
    assert [("where no other server sees it" in said) for said in told(database_url=url)] == [True]
    assert told(database_url=url, store="s3://runs") == told() == []
