"""Health, readiness, providers, what is in force, metrics, the OpenAPI document."""

from __future__ import annotations

import json

import httpx
import pytest
from fastapi import FastAPI
from msgspec.structs import replace

from orchestrator.model.documents import canonical_bytes, load_providers
from orchestrator.model.documents.views import JobView, ProblemView
from orchestrator.model.job import LedgerRow
from orchestrator.simulate.world import provider_document
from orchestrator.testing.desk import FakeDesk


async def test_health_and_readiness_need_no_token(anyone: httpx.AsyncClient, desk: FakeDesk) -> None:
    assert [(await anyone.get(path)).text for path in ("/healthz", "/readyz")] == ["ok\n", "ready\n"]
    desk.not_ready = "another server holds this ledger"
    reply = await anyone.get("/readyz")
    assert (reply.status_code, reply.json()["detail"]) == (503, desk.not_ready)


async def test_providers_and_what_they_lack(owner: httpx.AsyncClient) -> None:
    names = [item["name"] for item in (await owner.get("/v1/providers")).json()["items"]]
    assert names == ["azure", "oracle"]
    missing = {i["provider"]: i["missing"] for i in (await owner.post("/v1/providers/check")).json()["items"]}
    assert missing == {"azure": [], "oracle": ["no credentials; set ORACLE_KEY"]}


async def test_what_is_in_force_is_shown_with_its_document(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    assert (await owner.get("/v1/contracts")).json()["contractDigest"] == ""
    digest = desk.keep(json.dumps({"kind": "ContractSet"}).encode())
    desk.force = LedgerRow(contract=3, contract_digest=digest, providers=1, providers_digest="0" * 64)
    shown = (await owner.get("/v1/contracts")).json()
    assert (shown["contract"], shown["contractDocument"]) == (3, {"kind": "ContractSet"})


SET = """\
apiVersion: orchestrator.dev/v1alpha1
kind: ContractSet
metadata: {name: mine}
spec:
  contracts:
    - {id: c, holder: azure, term: {from: 2026-01-01, to: 2026-12-31}, clauses: [{id: k, TEXT}]}
"""


def contracts_of(clause: str) -> bytes:
    return SET.replace("TEXT", clause).encode()


async def test_an_applied_set_takes_effect_once(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    replies = [
        await owner.post("/v1/contracts", content=contracts_of("type: first_right, window: 1m")) for _ in range(2)
    ]
    assert [(r.status_code, r.json()["contract"]) for r in replies] == [(200, 1)] * 2
    assert replies[0].json()["contractDocument"]["metadata"] == {"name": "mine"}
    (told,) = [e.body async for e in desk.events(None, 0, False) if e.kind == "ContractInForce"]
    assert b'"by":"owner"' in (told or b"")


@pytest.mark.parametrize(
    ("clause", "field", "said"),
    [
        ("type: first_right", "spec.contracts[0].clauses[0].window", "Field required"),
        ("type: precedence", "spec.contracts[0].clauses[0]", "precedence of one supplier is not enforced"),
        ("type: first_right, window: 1m, window: 2m", "spec.contracts[0].clauses[0].window", "twice"),
    ],
)
async def test_a_set_that_is_refused_changes_nothing(
    owner: httpx.AsyncClient, desk: FakeDesk, clause: str, field: str, said: str
) -> None:
    reply = await owner.post("/v1/contracts", content=contracts_of(clause))
    errors = {error["field"]: error["reason"] for error in reply.json()["errors"]}
    assert reply.status_code == 422 and said in errors[field] and desk.force.contract == 0


async def test_a_set_must_agree_with_the_operators_providers(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    operators = load_providers(json.dumps(provider_document(["oracle"])))
    desk.force = replace(desk.force, providers=1, providers_digest=desk.keep(canonical_bytes(operators)))
    reply = await owner.post("/v1/contracts", content=contracts_of("type: first_right, window: 1m"))
    assert reply.status_code == 422 and "none of the operator's providers" in reply.json()["errors"][0]["reason"]


async def test_metrics_are_handed_through(owner: httpx.AsyncClient) -> None:
    reply = await owner.get("/metrics")
    assert (reply.text, reply.headers["content-type"].split(";")[0]) == ("up 1\n", "text/plain")


async def test_the_openapi_document_describes_every_route(owner: httpx.AsyncClient, app: FastAPI) -> None:
    document = (await owner.get("/openapi.json")).json()
    operations = [op for item in document["paths"].values() for op in item.values()]
    assert all(op.get("description") for op in operations)
    assert document["components"]["securitySchemes"]
    assert (
        "TrainingJob" in document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/yaml"]["example"]
    )


async def test_every_refusal_is_a_problem(owner: httpx.AsyncClient) -> None:
    for verb, path in (("GET", "/nothing"), ("DELETE", "/v1/jobs"), ("GET", "/v1/jobs?limit=x")):
        reply = await owner.request(verb, path)
        assert reply.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "fault", "remedy"} <= reply.json().keys()


async def test_its_examples_are_what_it_says(owner: httpx.AsyncClient) -> None:
    schemas = (await owner.get("/openapi.json")).json()["components"]["schemas"]
    assert JobView.model_validate(schemas["JobView"]["examples"][0]).attempts[0].provider == "coreweave"
    assert ProblemView.model_validate(schemas["ProblemView"]["examples"][0]).errors[0].remedy
