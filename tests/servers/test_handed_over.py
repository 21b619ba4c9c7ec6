"""Whatever is asked of the server that follows is granted by the one that leads, and seen at both."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.follower import ERRORS
from orchestrator.model.wire import Checkpoint, Claim
from orchestrator.model.wire import Start as Begun
from orchestrator.ports.desk import DeskError
from orchestrator.runlog.log import append_attempt
from orchestrator.runlog.rules import EMPTY
from orchestrator.simulate.world import first_right
from tests.servers.pair import PEOPLE, Replica, Start, assert_whole, run_log, until

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]
CONSENT = {"what": "consent", "holder": PEOPLE, "approver": "A. Counsel"}
BLOCK = {
    "provider": PEOPLE,
    "accelerator": "H100",
    "gpus": 8,
    "region": "eu-1",
    "from": "2026-01-01",
    "to": "2026-12-31",
}
CAPACITY = {
    "apiVersion": "orchestrator.dev/v1alpha1", "kind": "Capacity", "metadata": {"name": "owned"},
    "spec": {"blocks": {"q1": BLOCK}},
}  # fmt: skip


def seen_alike(replicas: list[Replica], path: str, seq: str) -> Any:
    """What both show once they see this event."""
    [one, other] = [replica.http.get(path, params={"min_seq": seq}).json() for replica in replicas]
    assert one == other
    return one


def test_a_contract_set_owned_capacity_and_records(start: Start, tmp_path: Path) -> None:
    both = leader, follower = [start(PEOPLE="1"), start(PEOPLE="1")]
    applied = follower.http.post("/v1/contracts", json=first_right(PEOPLE))
    assert (applied.status_code, applied.json()["contract"]) == (200, 2), applied.text
    assert seen_alike(both, "/v1/contracts", applied.headers["Orchestrator-Seq"]) == applied.json()
    assert leader.http.post("/v1/contracts", json=first_right(PEOPLE)).json()["contract"] == 2, "the same again"
    made = follower.http.post("/v1/records", json=CONSENT)
    assert made.status_code == 201, made.text
    assert seen_alike(both, "/v1/records", made.headers["Orchestrator-Seq"])["items"] == [made.json()]
    assert [r.http.post("/v1/records", json=CONSENT).json()["id"] for r in both] == [made.json()["id"]] * 2
    nowhere = {**CONSENT, "job": "01K9Z3M5W2T8Q4N6R7VXYBCD0E"}
    assert [r.http.post("/v1/records", json=nowhere).status_code for r in both] == [404, 404]
    owned = follower.http.post("/v1/capacity", json=CAPACITY)
    assert [block["name"] for block in owned.json()["items"]] == ["q1"], owned.text
    assert seen_alike(both, "/v1/capacity", owned.headers["Orchestrator-Seq"]) == owned.json()
    leader.send(signal.SIGKILL)
    until(follower.leads, 15)
    assert follower.http.get("/v1/capacity").json() == owned.json()
    assert follower.http.get("/v1/contracts").json()["contract"] == 2, "what was applied outlives who granted it"
    assert follower.http.get("/v1/records").json()["items"] == [made.json()]
    assert_whole(follower.place, tmp_path / "shared", {})


def test_a_renewal_is_refused_alike_and_granted_once_its_holder_has_waived(start: Start, tmp_path: Path) -> None:
    both = leader, follower = [start(PEOPLE="1"), start(PEOPLE="1")]
    agreed = first_right(PEOPLE, select={"trigger": ["renew"]})
    assert leader.http.post("/v1/contracts", json=agreed).status_code == 200

    def lasting(to: str) -> dict[str, Any]:
        return {**CAPACITY, "spec": {"blocks": {"q1": {**BLOCK, "provider": "cloud", "to": to}}}}

    assert follower.http.post("/v1/capacity", json=lasting("2097-12-31")).status_code == 200
    refused = [replica.http.post("/v1/capacity", json=lasting("2098-12-31")) for replica in both]
    assert [reply.status_code for reply in refused] == [422, 422]
    [[at_leader], [at_follower]] = [reply.json()["errors"] for reply in refused]
    assert at_leader["field"] == at_follower["field"] == "spec.blocks.q1.to"
    assert at_leader["reason"] == at_follower["reason"] and f"gives {PEOPLE} the first right" in at_leader["reason"]
    assert "`orchestrator record waiver " in at_follower["remedy"]
    waiver = {"what": "waiver", "holder": PEOPLE, "gpus": 8, "until": "2099-01-01", "block": "cloud/q1",
              "to": "2098-12-31"}  # fmt: skip
    assert follower.http.post("/v1/records", json=waiver).status_code == 201
    granted = follower.http.post("/v1/capacity", json=lasting("2098-12-31"))
    assert [block["until"] for block in granted.json()["items"]] == ["2099-01-01T00:00:00Z"], granted.text
    assert_whole(leader.place, tmp_path / "shared", {})


def test_a_server_whose_file_would_be_refused_does_not_even_follow(start: Start, tmp_path: Path) -> None:
    def lasting(to: str) -> str:
        (file := tmp_path / f"{to}.json").write_text(
            json.dumps({**CAPACITY, "spec": {"blocks": {"q1": {**BLOCK, "provider": "cloud", "to": to}}}})
        )
        return str(file)

    leader = start(PEOPLE="1", ORCHESTRATOR_CAPACITY=lasting("2097-12-31"))
    agreed = first_right(PEOPLE, select={"trigger": ["renew"]})
    assert leader.http.post("/v1/contracts", json=agreed).status_code == 200
    with pytest.raises(AssertionError, match=r"spec\.blocks\.q1\.to: agreement/rofr gives people the first right"):
        start(PEOPLE="1", ORCHESTRATOR_CAPACITY=lasting("2098-12-31"))
    assert start(PEOPLE="1", ORCHESTRATOR_CAPACITY=lasting("2097-12-31")).http.get("/readyz").status_code == 200


def test_answers_by_hand(start: Start, tmp_path: Path) -> None:
    both = leader, follower = [start(PEOPLE="1"), start(PEOPLE="1")]
    ann = [replica.as_people() for replica in both]
    assert follower.http.post("/v1/contracts", json=first_right(PEOPLE)).status_code == 200
    job = follower.try_submit("one")

    def laid_out() -> list[list[dict[str, Any]]]:
        return [r.http.get("/v1/offers", headers=a).json()["items"] for r, a in zip(both, ann, strict=True)]

    until(lambda: laid_out()[0], 10)
    [[offer], [same]] = laid_out()
    assert offer == same and offer["offer"] == f"{job}-o1" and offer["clause"] == "agreement/rofr"
    where, yes = f"/v1/offers/{offer['offer']}/answer", {"accepted": True, "termsHash": offer["termsHash"]}
    said = follower.http.post(where, json=yes, headers=ann[1])
    assert said.status_code == 200, said.text
    assert said.json()["outcome"] == "accepted"
    assert "Orchestrator-Seq" not in said.headers, "a supplier is not told how much happens elsewhere"
    assert laid_out() == [[], []]
    assert leader.http.post(where, json=yes, headers=ann[0]).json()["outcome"] == "accepted", "the same again"
    no = {"accepted": False, "reason": "capacity"}
    assert follower.http.post(where, json=no, headers=ann[1]).json()["outcome"] == "closed"
    unknown = follower.http.post(where.replace("-o1", "-o9"), json=yes, headers=ann[1])
    assert (unknown.status_code, unknown.json()["title"]) == (404, "unknown offer")
    until(lambda: leader.http.get(f"/v1/jobs/{job}").json()["attempts"], 10)
    assert_whole(leader.place, tmp_path / "shared", {"one": job})


def test_where_a_job_would_go_on_from(start: Start, tmp_path: Path) -> None:
    both = leader, _ = [start(), start()]
    job = leader.try_submit("one")
    log, made = run_log(tmp_path / "shared", job), EMPTY
    saved = Checkpoint(epoch=1, step=70, store="main", manifest="m", sha256="0" * 64, id="c" * 16, nonce="a" * 16)
    claim = Claim(epoch=1, id="b" * 16, nonce="a" * 16, provider="cloud", limit_ms=900_000, grace_ms=30_000)
    for entry in (claim, Begun(epoch=1, waited=False, id="d" * 16, nonce="a" * 16), saved):
        made = append_attempt(log, made, 1, entry).state
    until(lambda: leader.http.get(f"/v1/jobs/{job}").json()["attempts"], 10)
    steps = [r.http.get(f"/v1/jobs/{job}").json()["progress"]["checkpointStep"] for r in both]
    assert steps == [70, 70]


def test_every_error_of_a_desk_has_its_name_on_the_way_back() -> None:
    assert set(ERRORS.values()) == set(DeskError.__subclasses__())


def test_a_refusal_is_the_same_at_both(start: Start) -> None:
    both = leader, follower = [start(), start()]
    job = leader.try_submit("one")
    for replica in both:
        conflict = replica.submit("one", priority=5)
        assert (conflict.status_code, conflict.json()["job"]) == (409, job)
        assert replica.submit("two", policy="none").status_code == 422
        uncited = replica.submit("three", evidence=["evidence-nowhere"])
        assert uncited.status_code == 422 and "there is no record" in uncited.text
    assert follower.http.get("/v1/jobs").json()["items"][0]["id"] == job
