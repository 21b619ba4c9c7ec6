"""Records over HTTP: who may make them, what they need, how they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from orchestrator.testing.desk import FakeDesk
from tests.api.conftest import token_of

CONSENT = {"what": "consent", "holder": "azure"}
EVENT = {"what": "event", "name": "agi.declared"}


def as_of(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(name)}"}


async def test_a_record_names_its_attester_and_is_listed(anyone: httpx.AsyncClient) -> None:
    sent = {**CONSENT, "project": "vision", "until": "2027-01-01", "approver": "A. Counsel", "document": "ab" * 32}
    made = await anyone.post("/v1/records", json=sent, headers=as_of("attester"))
    assert (made.status_code, made.json()["by"], made.json()["until"]) == (201, "attester", "2027-01-01T00:00:00Z")
    listed = await anyone.get("/v1/records", headers=as_of("viewer"))
    assert listed.json()["items"] == [made.json()]


async def test_a_record_may_be_about_a_block(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    sent = {"what": "waiver", "holder": "azure", "gpus": 64, "until": "2030-01-01", "block": "oracle/q1",
            "to": "2026-12-31"}  # fmt: skip
    shown = (await owner.post("/v1/records", json=sent)).json()
    assert (shown["block"], shown["blockTo"]) == ("oracle/q1", "2027-01-01T00:00:00Z"), "the last day is whole"
    assert desk.force.records[0].block == "oracle/q1"
    assert desk.force.records[0].cited and not shown["cited"], "a version without blocks counts it for no job"


@pytest.mark.parametrize("name", ["viewer", "submitter", "operator", "provider"])
async def test_only_an_attester_makes_records(anyone: httpx.AsyncClient, name: str) -> None:
    assert (await anyone.post("/v1/records", json=CONSENT, headers=as_of(name))).status_code == 403


async def test_the_same_record_again_is_the_same_record(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    one, again = [(await owner.post("/v1/records", json=EVENT)).json()["id"] for _ in range(2)]
    assert one == again and len(desk.force.records) == 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"what": "consent"}, "lacks holder"),
        ({"what": "evidence"}, "lacks name"),
        ({"what": "waiver", "holder": "azure"}, "lacks gpus, until"),
        ({"what": "class", "name": "research"}, "lacks job"),
        ({"what": "override", "clause": "a/b"}, "lacks approver, why"),
        ({"what": "override", "clause": "a/b", "approver": " ", "why": "outage"}, "says nothing"),
        ({**EVENT, "until": "2027-01-01"}, "no use for until"),
        ({**EVENT, "project": "vision"}, "no use for project"),
        ({**CONSENT, "gpus": 8}, "no use for gpus"),
        ({"what": "waiver", "holder": "azure", "gpus": 10**19, "until": "2030-01-01"}, "gpus"),
        ({**CONSENT, "job": "x"}, "is no job id"),
        ({**CONSENT, "by": "somebody else"}, "by"),
        ({**CONSENT, "block": "q1"}, "block"),
        ({**CONSENT, "block": "oracle/q1", "to": "2026-12-31", "class": ["training"]}, "about a block is about no job"),
        ({**CONSENT, "block": "oracle/q1"}, "by block and to"),
        ({**CONSENT, "to": "2026-12-31"}, "by block and to"),
        ({**EVENT, "block": "oracle/q1"}, "no use for block"),
        ({"what": "rumour"}, "what"),
    ],
)
async def test_what_is_wrong_with_a_record_is_said(
    owner: httpx.AsyncClient, sent: dict[str, object], said: str
) -> None:
    reply = await owner.post("/v1/records", json=sent)
    assert reply.status_code == 422 and said in json.dumps(reply.json()["errors"])


async def test_a_job_that_is_none_is_told_by_its_field(owner: httpx.AsyncClient) -> None:
    reply = await owner.post("/v1/records", json={**CONSENT, "job": "01XX"})
    assert [error["field"] for error in reply.json()["errors"]] == ["job"]


async def test_a_record_that_nests_without_end_is_refused(owner: httpx.AsyncClient) -> None:
    reply = await owner.post("/v1/records", content=b"[" * 60_000)
    assert (reply.status_code, reply.json()["fault"]) == (422, "caller")


async def test_a_token_of_some_projects_attests_only_about_these(anyone: httpx.AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    tokens = json.loads(file.read_text())
    mine = {"name": "mine", "token": token_of("mine"), "scopes": ["attester"], "projects": ["vision"]}
    file.write_text(json.dumps({"tokens": [*tokens["tokens"], mine]}))
    codes = []
    for about in (
        {"project": "vision"},
        {"project": "other"},
        {},
        {"block": "a/b", "to": "2026-12-31"},
        {"job": "01K9Z3M5W2T8Q4N6R7VXYBCD0E"},
    ):
        codes.append((await anyone.post("/v1/records", json=CONSENT | about, headers=as_of("mine"))).status_code)
    assert codes == [201, 403, 403, 403, 404]
