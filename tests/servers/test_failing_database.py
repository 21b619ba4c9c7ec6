"""The database restarts, is cut off in the middle of a commit, or is full: callers come back, jobs are left alone."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from orchestrator.ports.ledger import Batch, LedgerUnavailable
from orchestrator.testing.check_ledger import new_event, row
from tests.ledger.postgres import Cluster, leading, name_of
from tests.servers.pair import Replica, assert_whole, calls, until
from tests.servers.proxy import proxied

COMMIT = b"COMMIT\0"  # not the one of READ COMMITTED
pytestmark = pytest.mark.timeout(300)


@contextmanager
def server(tmp_path: Path, place: Path | str) -> Iterator[Replica]:
    replica = Replica(tmp_path / "home", tmp_path / "shared", place)
    try:
        yield replica.up()
    finally:
        replica.end()


@pytest.mark.postgresql
async def test_a_commit_whose_answer_was_lost_is_found_and_one_that_was_not_made_is_not(postgres: Cluster) -> None:
    url = postgres.new()
    with proxied(postgres.folder / ".s.PGSQL.5432") as proxy:
        ledger = await leading(
            f"postgresql://postgres@127.0.0.1:{proxy.port}/{name_of(url)}?sslmode=disable", 30_000_000
        )
        await ledger.commit(Batch(events=[new_event(1)]))
        proxy.lose_answer_to(COMMIT)
        done = await ledger.commit(Batch(events=[new_event(2)], rows=[row("J2")], counters={"c": 1}))
        assert (proxy.lost, done.first_seq, (await ledger.head())[1]) == (1, 2, done.head)
        proxy.lose(COMMIT)
        with pytest.raises(LedgerUnavailable, match="read back before anything else"):
            await ledger.commit(Batch(events=[new_event(3)], rows=[row("J3")], counters={"c": 1}))
        assert (proxy.lost, await ledger.row("J3"), await ledger.counters()) == (2, None, {"c": 1})
        assert (await ledger.commit(Batch(events=[new_event(3)]))).first_seq == 3
        await ledger.close()


@pytest.mark.postgresql
def test_a_database_that_crashes_and_restarts(tmp_path: Path, postgres: Cluster) -> None:
    url, accepted = postgres.new(), dict[str, str]()
    with server(tmp_path, url) as replica:
        accepted |= {key: replica.submit(key).json()["id"] for key in map(str, range(5))}
        until(lambda: sum(len(c["of"]) for c in calls(tmp_path / "shared", "launch")) == 5, 20)
        (pid,) = postgres.ask("postgres", f"SELECT pid FROM pg_stat_activity WHERE datname = '{name_of(url)}' LIMIT 1")[
            0
        ]
        os.kill(int(str(pid)), signal.SIGKILL)  # the database ends all others, recovers and starts again
        told = [replica.try_submit(f"crashed-{n}") for n in range(3)]
        took = until(lambda: replica.leads(2), 40)
        print(
            f"the database crashed: {told.count('')} of 3 wishes were told to come back; led again after {took:.1f} s"
        )
        for n in range(3):
            until(lambda n=n: accepted.setdefault(f"crashed-{n}", replica.try_submit(f"crashed-{n}")), 30)
        until(lambda: sum(len(c["of"]) for c in calls(tmp_path / "shared", "launch")) >= 8, 30)
    assert not calls(tmp_path / "shared", "stop"), "running jobs are left alone"
    assert_whole(url, tmp_path / "shared", accepted)


def test_a_full_disk(tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    with server(tmp_path, place) as replica:
        job = replica.submit("before").json()["id"]
        until(lambda: calls(tmp_path / "shared", "launch"), 20)
        most = max(place.stat().st_size, Path(f"{place}-wal").stat().st_size)
        resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        until(lambda: refused(replica), 30)
        assert replica.http.get(f"/v1/jobs/{job}").status_code == 200, "what is there can still be read"
        assert replica.process.poll() is None
        resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        took = until(lambda: replica.leads(2), 30)
        print(f"there is room again: led again after {took:.1f} s")
        accepted = {"before": job, "full": replica.submit("full").json()["id"]}
    assert not calls(tmp_path / "shared", "stop"), "running jobs are left alone"
    assert_whole(place, tmp_path / "shared", accepted)


def refused(replica: Replica) -> bool:
    reply: httpx.Response = replica.submit("full")
    assert reply.status_code in (200, 201, 503), reply.text
    return reply.status_code == 503 and int(reply.headers["Retry-After"]) >= 1
