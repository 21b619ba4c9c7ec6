"""Two servers on one PostgreSQL: one leads, the other serves; whatever happens to the leader, the other leads soon.

Real processes, a real database, a cloud that writes down every call with who made it. Nothing that a client was told is
lost, nothing is done twice, and a leader that comes back from the dead calls nobody.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from orchestrator.model.documents import job_from
from orchestrator.simulate.world import job_document
from tests.ledger.postgres import Cluster
from tests.servers.pair import Replica, Start, assert_whole, calls, until
from tests.servers.proxy import proxied

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]
SOON_S = 10.0
CAPACITY = """
apiVersion: orchestrator.dev/v1alpha1
kind: Capacity
metadata: {name: mine}
spec: {blocks: {b: {provider: cloud, accelerator: H100, gpus: 64, region: eu-1, from: 2020-01-01, to: 2099-12-31}}}
"""


def submit_until(replica: Replica, key: str, seconds: float = 60) -> str:
    """As a client does: again under the same key, until it is taken."""
    end = time.monotonic() + seconds
    while not (job := replica.try_submit(key)):
        assert time.monotonic() < end, f"{key} was not taken within {seconds} s"
        time.sleep(0.1)
    return job


def test_the_one_that_follows_serves_reads_and_takes_wishes(start: Start, tmp_path: Path) -> None:
    leader, follower = start(), start()
    assert leader.leads() and not follower.leads()
    made = follower.submit("one")
    assert made.status_code == 201, made.text
    job, seq = made.json()["id"], made.headers["Orchestrator-Seq"]
    for replica in (follower, leader):
        assert replica.http.get(f"/v1/jobs/{job}", params={"min_seq": seq}).json()["id"] == job
    assert [leader.submit("one").status_code, follower.submit("one").status_code] == [200, 200]
    assert {leader.submit("one").json()["id"], follower.submit("one").json()["id"]} == {job}
    assert [r.submit("one", priority=5).status_code for r in (leader, follower)] == [409, 409], "another body"
    until(lambda: calls(tmp_path / "shared", "launch"), 20)
    cancelled = follower.http.post(f"/v1/jobs/{job}/cancel")
    assert cancelled.status_code == 202 and cancelled.json()["state"] in ("stopping", "cancelled")
    refused = follower.http.post(f"/v1/jobs/{job}/resume")
    assert (refused.status_code, "not held" in refused.text) == (409, True)
    assert follower.http.get("/v1/providers").json()["items"][0]["name"] == "cloud"
    owned = [replica.http.post("/v1/capacity", content=CAPACITY) for replica in (follower, leader)]
    assert [reply.json()["items"][0]["taken"] for reply in owned] == [0, 0]
    assert follower.http.get("/readyz").status_code == leader.http.get("/readyz").status_code == 200
    assert follower.http.get(f"/v1/jobs/{job}", params={"min_seq": 10_000}).status_code == 412


@pytest.mark.fault("two controllers")
def test_a_leader_that_is_killed(start: Start, tmp_path: Path) -> None:
    leader, follower = start(), start()
    accepted = {key: job for key in map(str, range(20)) if (job := leader.try_submit(key))}
    leader.send(signal.SIGKILL)
    took = until(lambda: follower.leads(), SOON_S)
    accepted |= {key: submit_until(follower, key) for key in map(str, range(15, 30))}
    print(f"killed: the other led after {took:.1f} s")
    until(lambda: sum(len(c["of"]) for c in calls(tmp_path / "shared", "launch")) >= 30, 30)
    assert len(accepted) == 30
    assert_whole(follower.place, tmp_path / "shared", accepted)


@pytest.mark.fault("a frozen ex-leader that wakes between commit and call")
@pytest.mark.parametrize("kind", ["OfferOpened", "Intended"])
def test_a_leader_frozen_between_commit_and_call_does_not_call_when_it_wakes(
    start: Start, tmp_path: Path, kind: str
) -> None:
    verb = {"OfferOpened": "place_offers", "Intended": "launch"}[kind]
    leader, follower = start(FREEZE=kind), start()
    began, job = time.monotonic(), submit_until(follower, "frozen")
    took = until(lambda: follower.leads(), SOON_S)
    print(f"frozen after {kind}: the other led within {time.monotonic() - began:.1f} s (waited {took:.1f} s)")
    until(lambda: calls(tmp_path / "shared", "launch"), 20)
    leader.send(signal.SIGCONT)
    until(lambda: leader.said("this server does not lead"), 20)
    with leader.client() as client:
        accepted = {"frozen": job, "woken": client.submit(job_from(job_document())).id}
    time.sleep(2)
    assert {call["pid"] for call in calls(tmp_path / "shared", verb)} == {follower.process.pid}
    launched = sorted(key for call in calls(tmp_path / "shared", "launch") for key, _ in call["of"])
    assert launched == sorted(f"{taken.lower()}-e1" for taken in accepted.values())
    assert leader.submit("frozen").json()["id"] == job, "the woken one serves again, as a follower"
    assert_whole(follower.place, tmp_path / "shared", accepted)


@pytest.mark.fault("two controllers")
def test_a_leader_cut_off_from_the_database(start: Start, tmp_path: Path, postgres: Cluster) -> None:
    with proxied(postgres.folder / ".s.PGSQL.5432") as proxy:
        follower_url = ""
        seed = start()
        follower_url = seed.place
        seed.end()
        name = follower_url.partition("@/")[2].partition("?")[0]
        leader = start(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable")
        follower = start()
        assert leader.leads() and not follower.leads()
        accepted = {key: job for key in map(str, range(5)) if (job := leader.try_submit(key))}
        proxy.cut()
        took = until(lambda: follower.leads(), SOON_S)
        print(f"cut off: the other led after {took:.1f} s")
        accepted |= {key: submit_until(follower, key) for key in map(str, range(5, 10))}
        until(lambda: leader.said("this server does not lead"), 20)
        assert leader.submit("away").status_code == 503
        proxy.mend()
        accepted["back"] = submit_until(leader, "back")
        assert not leader.leads(2)
    assert len(accepted) == 11
    assert_whole(follower_url, tmp_path / "shared", accepted)
