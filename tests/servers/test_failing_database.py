"""The database restarts, is cut off in the middle of a commit, or is full: callers come back, jobs are left alone."""

from __future__ import annotations

import os
import resource
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from orchestrator.model.wire import Beat, Claim, Start
from orchestrator.ports.ledger import Batch, LedgerUnavailable
from orchestrator.runlog.log import JobLog, append_attempt, read, write_beat
from orchestrator.runlog.rules import EMPTY
from orchestrator.testing.check_ledger import new_event, row
from tests.ledger.postgres import Cluster, leading, name_of
from tests.servers.pair import Replica, assert_whole, calls, run_log, until
from tests.servers.proxy import proxied

NONCE = "a" * 16
SEGMENT = 16 * 2**20
"""Bytes of a file of the database's log, which is as large from the first; only what holds rows can still grow."""
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
        accepted["runs"] = running(replica, tmp_path / "shared")
        accepted |= {key: replica.submit(key).json()["id"] for key in map(str, range(5))}
        until(lambda: sum(len(c["of"]) for c in calls(tmp_path / "shared", "launch")) == 6, 20)
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
        until(lambda: sum(len(c["of"]) for c in calls(tmp_path / "shared", "launch")) >= 9, 30)
        assert_runs_on(replica, tmp_path / "shared", accepted["runs"])
    assert_whole(url, tmp_path / "shared", accepted)


@pytest.mark.postgresql
def test_a_submission_whose_commit_is_cut_is_told_to_come_back_and_gives_one_job(
    tmp_path: Path, postgres: Cluster
) -> None:
    url = postgres.new()
    with (
        proxied(postgres.folder / ".s.PGSQL.5432") as proxy,
        server(tmp_path, f"postgresql://postgres@127.0.0.1:{proxy.port}/{name_of(url)}?sslmode=disable") as replica,
    ):
        runs = running(replica, tmp_path / "shared")
        proxy.cut_at(COMMIT)
        cut = replica.submit("cut")
        assert (cut.status_code, "again with the same key" in cut.json()["detail"]) == (503, True), cut.text
        assert int(cut.headers["Retry-After"]) >= 1
        assert proxy.lost == 1
        proxy.mend()
        accepted = {"runs": runs, "cut": ""}
        until(lambda: accepted.update(cut=replica.try_submit("cut")) or accepted["cut"], 40)
        assert replica.submit("cut").json()["id"] == accepted["cut"]
        assert_runs_on(replica, tmp_path / "shared", runs)
    assert_whole(url, tmp_path / "shared", accepted)


def test_a_full_disk(tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    with server(tmp_path, place) as replica:
        job = running(replica, tmp_path / "shared")
        most = max(place.stat().st_size, Path(f"{place}-wal").stat().st_size)
        resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        until(lambda: refused(replica), 30)
        assert replica.http.get(f"/v1/jobs/{job}").status_code == 200, "what is there can still be read"
        assert replica.process.poll() is None
        resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        took = until(lambda: replica.leads(2), 30)
        print(f"there is room again: led again after {took:.1f} s")
        accepted = {"runs": job, "full": replica.submit("full").json()["id"]}
        assert_runs_on(replica, tmp_path / "shared", job)
    assert_whole(place, tmp_path / "shared", accepted)


@pytest.mark.postgresql
def test_a_full_disk_under_postgresql(tmp_path: Path, postgres: Cluster) -> None:
    url, accepted = postgres.new(), dict[str, str]()
    with server(tmp_path, url) as replica:
        accepted["runs"] = running(replica, tmp_path / "shared")
        with files_no_larger_than(SEGMENT, postgres):
            for n in range(200):
                large = {"run": {"command": ["python", *(secrets.token_hex(32_000) for _ in range(3))]}}
                reply = replica.submit(f"large-{n}", **large)
                if reply.status_code != 201:
                    break
                accepted[f"large-{n}"] = reply.json()["id"]
            assert reply.status_code == 503 and int(reply.headers["Retry-After"]) >= 1, reply.text
            assert replica.said("could not extend file"), "it was for want of room"
            until(lambda: replica.http.get(f"/v1/jobs/{accepted['runs']}").status_code == 200, 20)  # it leads anew
        until(lambda: replica.submit(f"large-{n}", **large).status_code in (200, 201), 40)
        accepted[f"large-{n}"] = replica.submit(f"large-{n}", **large).json()["id"]
        assert_runs_on(replica, tmp_path / "shared", accepted["runs"])
    assert_whole(url, tmp_path / "shared", accepted)


@contextmanager
def files_no_larger_than(size: int, postgres: Cluster) -> Iterator[None]:
    """No process of the database can let a file grow beyond that, nor can those that it starts meanwhile."""
    try:
        limit(size, postgres)
        yield
    finally:
        limit("unlimited", postgres)


def limit(size: int | str, postgres: Cluster) -> None:
    """As the database's own user, who alone may."""
    mine = postgres.folder / "postmaster.pid"
    first, owner = mine.read_text().split()[0], mine.stat()
    for pid in (first, *Path(f"/proc/{first}/task/{first}/children").read_text().split()):
        command = ["prlimit", "--pid", pid, f"--fsize={size}:"]
        done = subprocess.run(command, user=owner.st_uid, group=owner.st_gid, capture_output=True, text=True)
        assert not done.returncode or not Path(f"/proc/{pid}").exists(), done.stderr


def running(replica: Replica, shared: Path) -> str:
    """A job that has claimed, started and beats; seen so by the server."""
    job = replica.submit("runs").json()["id"]
    until(lambda: calls(shared, "launch"), 20)
    log, state = run_log(shared, job), EMPTY
    claim = Claim(epoch=1, id="b" * 16, nonce=NONCE, provider="cloud", limit_ms=900_000, grace_ms=30_000)
    for entry in (claim, Start(epoch=1, waited=False, id="d" * 16, nonce=NONCE)):
        state = append_attempt(log, state, 1, entry).state
    beats(log, 1)
    until(lambda: attempts(replica, job) == [(1, "running")], 40)
    return job


def beats(log: JobLog, n: int) -> None:
    write_beat(log, Beat(epoch=1, nonce=NONCE, n=n, phase="running", ran_ms=n, at_us=0))


def attempts(replica: Replica, job: str) -> list[tuple[int, str]]:
    return [(one["epoch"], one["state"]) for one in replica.http.get(f"/v1/jobs/{job}").json()["attempts"]]


def assert_runs_on(replica: Replica, shared: Path, job: str) -> None:
    """The attempt of before, which nobody has fenced, stopped or followed with another."""
    beats(run_log(shared, job), 2)
    assert attempts(replica, job) == [(1, "running")]
    assert replica.http.get(f"/v1/jobs/{job}").json()["state"] == "running"
    assert [type(entry) for entry in read(run_log(shared, job)).state.entries] == [Claim, Start]
    assert not calls(shared, "stop"), "running jobs are left alone"


def refused(replica: Replica) -> bool:
    reply: httpx.Response = replica.submit("full")
    assert reply.status_code in (200, 201, 503), reply.text
    return reply.status_code == 503 and int(reply.headers["Retry-After"]) >= 1
