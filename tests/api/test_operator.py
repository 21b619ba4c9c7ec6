"""Health, readiness, providers, what is in force, metrics, the OpenAPI document."""

from __future__ import annotations

import json

import httpx
from fastapi import FastAPI

from orchestrator.model.documents.views import JobView, ProblemView
from orchestrator.model.job import LedgerRow
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
