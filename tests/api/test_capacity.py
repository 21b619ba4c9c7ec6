"""Owned capacity over HTTP: what may be applied, by whom, what is wrong with a document, how blocks are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.model.contract import DAY_US
from orchestrator.model.documents import Problem
from orchestrator.model.documents.base import canonical_bytes
from orchestrator.model.documents.capacity import load_capacity
from orchestrator.model.documents.providers import load_providers
from orchestrator.simulate.world import provider_document
from orchestrator.testing.desk import FakeDesk
from tests.api.conftest import token_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "contracts"
BLOCK = {
    "provider": "azure", "accelerator": "H100", "gpus": 64, "region": "eu-1", "from": "2026-01-01", "to": "2026-03-31",
    "priceUsdPerGpuHour": 2.1, "contract": "msft-2025",
}  # fmt: skip


def capacity(**changes: Any) -> bytes:
    block = {key: value for key, value in {**BLOCK, **changes}.items() if value is not None}
    head = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "Capacity", "metadata": {"name": "mine"}}
    return json.dumps(head | {"spec": {"blocks": {"q1": block}}}).encode()


async def test_what_is_applied_is_listed_and_its_last_day_is_whole(owner: httpx.AsyncClient) -> None:
    applied = await owner.post("/v1/capacity", content=capacity())
    assert applied.status_code == 200
    (shown,) = (await owner.get("/v1/capacity")).json()["items"]
    assert applied.json()["items"] == [shown] == [
        {"name": "q1", "provider": "azure", "accelerator": "H100", "gpus": 64, "region": "eu-1",
         "since": "2026-01-01T00:00:00Z", "until": "2026-04-01T00:00:00Z", "price": 2_100_000, "contract": "msft-2025",
         "taken": None}
    ]  # fmt: skip


async def test_a_moment_is_taken_as_it_is_and_the_next_document_takes_the_place_of_all(
    owner: httpx.AsyncClient,
) -> None:
    await owner.post("/v1/capacity", content=capacity(to="2026-03-31T12:00:00Z"))
    assert (await owner.get("/v1/capacity")).json()["items"][0]["until"] == "2026-03-31T12:00:00Z"
    nothing = capacity().replace(b'"q1"', b'"q2"')
    await owner.post("/v1/capacity", content=nothing)
    assert [b["name"] for b in (await owner.get("/v1/capacity")).json()["items"]] == ["q2"]


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"to": "2025-12-31"}, "spec.blocks.q1.to", "ends before it begins"),
        ({"gpus": 0}, "spec.blocks.q1.gpus", "greater than 0"),
        ({"region": None}, "spec.blocks.q1.region", "required"),
        ({"region": "moon-1"}, "spec.blocks.q1.region", "azure has no region moon-1"),
        ({"accelerator": "TPU"}, "spec.blocks.q1.accelerator", "azure has no accelerator TPU"),
        ({"provider": "aws"}, "spec.blocks.q1.provider", "aws is no provider"),
        ({"renew": True}, "spec.blocks.q1.renew", "not known"),
    ],
)
async def test_everything_wrong_is_said_and_nothing_changes(
    owner: httpx.AsyncClient, desk: FakeDesk, changes: dict[str, Any], path: str, reason: str
) -> None:
    digest = desk.keep(canonical_bytes(load_providers(json.dumps(provider_document(["azure"])))))
    desk.force = type(desk.force)(providers=1, providers_digest=digest)
    reply = await owner.post("/v1/capacity", content=capacity(**changes))
    assert reply.status_code == 422
    assert [e["field"] for e in reply.json()["errors"]] == [path] and reason in reply.json()["errors"][0]["reason"]
    assert desk.force.blocks == ()


async def test_of_several_mistakes_all_are_said_at_once(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    digest = desk.keep(canonical_bytes(load_providers(json.dumps(provider_document(["azure"])))))
    desk.force = type(desk.force)(providers=1, providers_digest=digest)
    reply = await owner.post("/v1/capacity", content=capacity(gpus=-2, region="moon", to="2025-01-01"))
    assert {e["field"].rpartition(".")[2] for e in reply.json()["errors"]} == {"gpus", "region", "to"}


async def test_a_block_to_which_somebody_has_a_right_is_refused_like_anything_wrong(
    owner: httpx.AsyncClient, desk: FakeDesk
) -> None:
    desk.forbids = [Problem("spec.blocks.q1.to", "c/k gives azure the first right to it", "offer it to azure")]
    reply = await owner.post("/v1/capacity", content=capacity())
    assert (reply.status_code, reply.json()["title"]) == (422, "invalid capacity")
    said = {
        "field": "spec.blocks.q1.to",
        "reason": "c/k gives azure the first right to it",
        "remedy": "offer it to azure",
    }
    assert reply.json()["errors"] == [said] and desk.force.blocks == ()


def test_the_example_agrees_with_the_providers_beside_it() -> None:
    operators = load_providers((EXAMPLES / "providers.yaml").read_bytes())
    half, week = load_capacity((EXAMPLES / "capacity.yaml").read_bytes(), operators)
    assert (half.ref, half.price, half.until_us - half.from_us) == ("coreweave/first-half", 2_100_000, 181 * DAY_US)
    assert (week.ref, week.price, week.until_us - week.from_us) == ("azure/launch-week", None, 7 * DAY_US)


@pytest.mark.parametrize("name", ["viewer", "submitter", "attester", "provider"])
async def test_only_an_operator_applies(anyone: httpx.AsyncClient, name: str) -> None:
    as_of = {"Authorization": f"Bearer {token_of(name)}"}
    assert (await anyone.post("/v1/capacity", content=capacity(), headers=as_of)).status_code == 403
