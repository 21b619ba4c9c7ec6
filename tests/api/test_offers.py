"""Suppliers at `/v1/offers`: their own open offers by their own token, one answer each, nothing of anybody else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest

from orchestrator.api.access import TokensError, parse_tokens
from orchestrator.api.projections import moment
from orchestrator.model import event as kinds
from orchestrator.model.job import LedgerRow
from orchestrator.model.offer import OfferOut
from orchestrator.testing.builders import an_offer, job_id
from orchestrator.testing.desk import FakeDesk
from tests.api.conftest import LEAST, YAML, token_of


@pytest.fixture
def offer(desk: FakeDesk) -> OfferOut:
    made = an_offer(clause="agreement/rofr")
    desk.laid_out = {"azure": [made], "oracle": [an_offer(job_id(2))]}
    return made


def of(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(name)}"}


async def test_what_is_open_is_the_allow_list_of_the_tokens_own_provider(
    anyone: httpx.AsyncClient, offer: OfferOut
) -> None:
    [seen] = (await anyone.get("/v1/offers", headers=of("provider"))).json()["items"]
    assert seen == {
        "offer": offer.offer, "clause": "agreement/rofr", "contractVersion": 0, "version": 1, "workload": "training",
        "trigger": "new", "terms": offer.terms.decode(), "termsHash": offer.terms_hash, "windowUs": 60_000_000,
        "ledgerHead": offer.ledger_head, "ordinal": 1, "due": None,
    }  # fmt: skip


async def test_an_offer_that_was_delivered_says_until_when_an_answer_counts(
    anyone: httpx.AsyncClient, owner: httpx.AsyncClient, desk: FakeDesk
) -> None:
    job = (await owner.post("/v1/jobs", content=LEAST, headers=YAML)).json()["id"]
    desk.laid_out = {"azure": [an_offer(job)]}
    opened = kinds.OfferOpened(
        n=1, provider="azure", episode=1, round=1, contract=1, providers=1, terms="0" * 64, window=60_000_000
    )
    at = desk.tell(job, opened, kinds.OfferDelivered(n=1, ref="r", sent="0" * 64)).offer.delivered_at
    desk.force = LedgerRow(absences=((at + 1, at + 5_000_001),))
    [seen] = (await anyone.get("/v1/offers", headers=of("provider"))).json()["items"]
    assert datetime.fromisoformat(seen["due"]) == moment(at + 65_000_000)


async def test_an_answer_is_taken_with_its_authors_name(
    anyone: httpx.AsyncClient, desk: FakeDesk, offer: OfferOut
) -> None:
    body = {"accepted": True, "termsHash": offer.terms_hash, "priceMicrousd": 2_500_000, "ttlMs": 600_000, "workers": 2}
    reply = await anyone.post(f"/v1/offers/{offer.offer}/answer", json=body, headers=of("provider"))
    assert (reply.status_code, reply.json()["outcome"]) == (200, "accepted")
    said = desk.said[offer.offer]
    assert (said.accepted, said.terms_hash, said.price, said.ttl_us, said.by, said.workers) == (
        True, offer.terms_hash, 2_500_000, 600_000_000, "provider", 2,
    )  # fmt: skip


async def test_an_answer_that_came_too_late_is_closed(anyone: httpx.AsyncClient, offer: OfferOut) -> None:
    path = f"/v1/offers/{offer.offer}/answer"
    first = {"accepted": False, "reason": "capacity", "until": "2026-01-02T00:00:00Z"}
    assert (await anyone.post(path, json=first, headers=of("provider"))).json()["outcome"] == "declined"
    second = {"accepted": True, "termsHash": offer.terms_hash}
    assert (await anyone.post(path, json=second, headers=of("provider"))).json()["outcome"] == "closed"


async def test_another_providers_offer_is_not_there(anyone: httpx.AsyncClient, desk: FakeDesk, offer: OfferOut) -> None:
    other, nobodys = desk.laid_out["oracle"][0].offer, f"{job_id(9)}-o1"
    replies = [
        await anyone.post(
            f"/v1/offers/{one}/answer", json={"accepted": False, "reason": "price"}, headers=of("provider")
        )
        for one in (other, nobodys)
    ]
    assert [reply.status_code for reply in replies] == [404, 404] and desk.said == {}
    assert replies[0].json() | {"detail": ""} == replies[1].json() | {"detail": ""}


@pytest.mark.parametrize(
    "body",
    [{}, {"accepted": True}, {"accepted": False}, {"accepted": False, "reason": "mood"}, {"accepted": True, "x": 1},
     {"accepted": False, "reason": "price", "until": "2026-01-02T00:00:00"}],
)  # fmt: skip
async def test_an_answer_that_is_not_whole_is_refused(
    anyone: httpx.AsyncClient, desk: FakeDesk, offer: OfferOut, body: dict[str, Any]
) -> None:
    reply = await anyone.post(f"/v1/offers/{offer.offer}/answer", json=body, headers=of("provider"))
    assert reply.status_code == 422 and desk.said == {}


async def test_a_token_that_is_bound_to_nobody_answers_for_nobody(anyone: httpx.AsyncClient, offer: OfferOut) -> None:
    reply = await anyone.get("/v1/offers", headers=of("owner"))
    assert reply.status_code == 403 and "bound to no provider" in reply.json()["detail"]
    assert (await anyone.get("/v1/jobs", headers=of("provider"))).status_code == 403


@pytest.mark.parametrize(
    "row", [{"scopes": ["viewer"]}, {"scopes": ["provider", "viewer"]}, {"scopes": ["provider"], "provider": ""}]
)
def test_a_suppliers_token_is_good_for_nothing_else(row: dict[str, Any]) -> None:
    text = str({"tokens": [{"name": "a", "token": "x" * 40, "provider": "azure", **row}]}).replace("'", '"')
    with pytest.raises(TokensError, match="a provider's"):
        parse_tokens(text, "file")


def test_a_tokens_file_that_is_a_bare_list_is_told_what_is_missing() -> None:
    with pytest.raises(TokensError, match="there is no list under `tokens`"):
        parse_tokens("[]", "file")


@pytest.mark.parametrize("said", [
    {"priceMicrousd": 10**12 + 1}, {"priceMicrousd": 10**4000}, {"ttlMs": 10**4000},
    {"ttlMs": 100 * 366 * 86_400_000 + 1}, {"region": "r" * 65}, {"accelerator": "a" * 65}, {"termsHash": "0" * 65},
])  # fmt: skip
async def test_an_answer_without_bounds_is_refused(
    anyone: httpx.AsyncClient, desk: FakeDesk, offer: OfferOut, said: dict[str, Any]
) -> None:
    body = {"accepted": True, "termsHash": offer.terms_hash, **said}
    reply = await anyone.post(f"/v1/offers/{offer.offer}/answer", json=body, headers=of("provider"))
    assert (reply.status_code, desk.said) == (422, {})
