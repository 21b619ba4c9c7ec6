"""How do the cloud's documents become ours, and ours the cloud's? Pure.

Called by the mock provider. Times of the cloud's own clock are passed on as evidence only; whatever we compare is on
our clock, counted from `now` (microseconds UTC).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import msgspec

from orchestrator.adapters.providers.mock.errors import meaning
from orchestrator.model.offer import (
    Answer,
    Capabilities,
    Charge,
    Firmness,
    LaunchOrder,
    Notice,
    OfferOut,
    PriceRow,
    Sighting,
    SightingState,
)
from orchestrator.model.wire import AttemptEnv, StoreRef

MANAGED = "orchestrator.dev/managed"
LEDGER = "orchestrator.dev/ledger"
ENDPOINTS = ("endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url")
"""Settings by which a store's address is named."""

_STATES = {
    "provisioning": SightingState.PROVISIONING,
    "running": SightingState.RUNNING,
    "ended": SightingState.ENDED,
    "deleting": SightingState.STOPPING,
    "terminated": SightingState.GONE,
}
_ALIVE_FIRST = (
    SightingState.RUNNING,
    SightingState.PROVISIONING,
    SightingState.ENDED,
    SightingState.STOPPING,
    SightingState.GONE,
)


def capabilities(doc: Mapping[str, Any]) -> Capabilities:
    """What the cloud says about itself."""
    return Capabilities(
        firm=Firmness(doc["firm"]),
        idempotency=bool(doc["idempotency"]),
        list_by_label=True,
        list_lag_us=int(doc["listLagMs"]) * 1000,
        delete_after=bool(doc["deleteAfter"]),
        max_open_offers=int(doc["maxOpenOffers"]),
        answers_itself=False,
        store_url=doc["storeUrl"],
    )


def offer_body(offer: OfferOut) -> dict[str, Any]:
    """An offer as the cloud takes it: the allow-list, and nothing else."""
    return {
        "id": offer.offer,
        "clause": offer.clause,
        "contractVersion": offer.contract_version,
        "version": offer.version,
        "workload": offer.workload,
        "trigger": offer.trigger,
        "terms": offer.terms.decode(),
        "termsHash": offer.terms_hash,
        "windowUs": offer.window_us,
        "ledgerHead": offer.ledger_head,
        "ordinal": offer.ordinal,
    }


def answer(doc: Mapping[str, Any], cloud: str, now: int) -> Answer:
    """A yes as it is; a no with the reason, scope and end that its code stands for."""
    if doc["accepted"]:
        return Answer(
            offer=doc["offer"],
            accepted=True,
            terms_hash=doc["termsHash"],
            price=doc["price"],
            region=doc["region"],
            accelerator=doc["accelerator"],
            workers=doc["workers"],
            ttl_us=doc["ttlMs"] * 1000,
            provider_at=doc["at"],
            spot=doc["spot"],
        )
    means = meaning(cloud, doc["code"], doc["message"], 400)
    hold_off_us = means.hold_off_s * 1_000_000 if doc["holdOffMs"] is None else doc["holdOffMs"] * 1000
    return Answer(
        offer=doc["offer"],
        accepted=False,
        reason=means.reason,
        scope=means.scope,
        until=now + hold_off_us,
        detail=f"{doc['code']}: {doc['message']}",
        provider_at=doc["at"],
    )


def cluster_body(order: LaunchOrder, ledger: str) -> dict[str, Any]:
    """A launch as the cloud takes it; the whole order goes along as user data."""
    return {
        "key": order.key,
        "offer": order.offer,
        "region": order.region,
        "accelerator": order.accelerator if order.gpus else "",
        "workers": order.workers,
        "gpus": order.gpus,
        "cpus": order.cpus,
        "memory": order.memory,
        "deleteAfterMs": order.delete_after_ms,
        "requirements": list(order.requirements),
        "tags": {
            MANAGED: "true",
            LEDGER: order.ledger or ledger,
            "orchestrator.dev/project": order.project,
            "orchestrator.dev/job": order.job,
            "orchestrator.dev/epoch": str(order.epoch),
        },
        "userData": msgspec.json.encode(order).decode(),
    }


def order_of(user_data: str) -> LaunchOrder:
    """The order that a cluster was made for. Raises `msgspec.MsgspecError`."""
    return msgspec.json.decode(user_data, type=LaunchOrder)


def ours(doc: Mapping[str, Any]) -> bool:
    """Whether it carries our label and a ledger id."""
    return doc["tags"].get(MANAGED) == "true" and bool(doc["tags"].get(LEDGER))


def sightings(docs: Iterable[Mapping[str, Any]], seen_at: int) -> tuple[Sighting, ...]:
    """One per key of ours, whatever was made under it; the liveliest state wins."""
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for doc in docs:
        if ours(doc):
            by_key.setdefault(doc["key"], []).append(doc)
    return tuple(_sighting(key, some, seen_at) for key, some in by_key.items())


def _sighting(key: str, docs: list[Mapping[str, Any]], seen_at: int) -> Sighting:
    states = {_STATES[doc["state"]] for doc in docs}
    return Sighting(
        key=key,
        state=next(state for state in _ALIVE_FIRST if state in states),
        seen_at=seen_at,
        ledger=docs[-1]["tags"][LEDGER],
        machines=tuple(name for doc in docs for name in doc["machines"]),
        gpus=sum(doc["gpus"] for doc in docs if doc["state"] != "terminated"),
        detail="; ".join(filter(None, (doc["detail"] for doc in docs))),
    )


def charge(doc: Mapping[str, Any]) -> Charge:
    """A bill."""
    return Charge(doc["id"], doc["key"], doc["microdollars"], doc["gpuSeconds"], doc["final"])


def notice(doc: Mapping[str, Any], now: int) -> Notice:
    """Anything else. What is to come some time after it is reckoned by how old the cloud's own clock makes it."""
    until = now - (doc["asOf"] - doc["at"]) + doc["inMs"] * 1000 if "inMs" in doc else None
    return Notice(doc["kind"], doc.get("offer", ""), doc.get("detail", ""), doc.get("key", ""), until)


def price(doc: Mapping[str, Any]) -> PriceRow:
    """A price."""
    return PriceRow(doc["accelerator"], doc["region"], doc["price"])


def through(attempt: str, store_url: str | None) -> str:
    """The attempt's environment with its store behind the cloud's forwarder, if it has an address at all."""
    env = AttemptEnv.from_json(attempt)
    if store_url is None or urlsplit(env.store.url).scheme == "file":
        return attempt
    kept = {name: value for name, value in env.store.options.items() if name.lower() not in ENDPOINTS}
    options = {**kept, "endpoint": store_url, "allow_http": "true"}
    store = StoreRef(
        name=env.store.name,
        url=env.store.url,
        jurisdiction=env.store.jurisdiction,
        options=options,
        secrets=env.store.secrets,
    )
    return replace(env, store=store).to_json()
