"""Short ways to the values that tests need: offers, orders, attempts, shapes. Called by tests and the kit; pure.

Each builder has one plausible value for every field, so that a test names only what it is about.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from orchestrator.model.ids import launch_key, new_job_id, offer_id
from orchestrator.model.offer import LaunchOrder, OfferOut
from orchestrator.model.placement import Shape, Terms, terms_bytes, terms_hash
from orchestrator.model.wire import AttemptEnv, Isolation, StoreRef
from orchestrator.testing.clock import STORY_BEGINS_US

SECOND = 1_000_000
"""Microseconds."""


def job_id(number: int = 1) -> str:
    """The number-th job of a story."""
    return new_job_id(STORY_BEGINS_US, number.to_bytes(10, "big"))


def fresh_job() -> str:
    """A job that no other run on this machine has: real processes are found, and ended, by its launch key."""
    return new_job_id(STORY_BEGINS_US, secrets.token_bytes(10))


def a_shape(**changes: Any) -> Shape:
    """Two workers of four H100 for at most an hour."""
    shape = Shape(
        job_class="training",
        accelerators=("H100",),
        gpus_per_worker=4,
        workers=2,
        cpus=8,
        memory=0,
        max_runtime_ms=3_600_000,
    )
    return msgspec.structs.replace(shape, **changes)


def some_terms(**changes: Any) -> Terms:
    """What an offer of `a_shape()` says to a provider in eu-1, without a ceiling."""
    terms = Terms(
        accelerators=("H100",),
        gpus_per_worker=4,
        workers=2,
        cpus=8,
        memory=0,
        ceiling_microusd=None,
        max_runtime_ms=3_600_000,
        start_by_ms=None,
        regions=("eu-1",),
        residency=None,
    )
    return msgspec.structs.replace(terms, **changes)


def an_offer(job: str | None = None, n: int = 1, terms: Terms | None = None, **changes: Any) -> OfferOut:
    """A job's n-th offer, gated by nothing, with a window of a minute."""
    said = terms or some_terms()
    offer = OfferOut(
        offer=offer_id(job or job_id(), n),
        clause=None,
        contract_version=0,
        version=1,
        workload="training",
        trigger="new",
        terms=terms_bytes(said),
        terms_hash=terms_hash(said),
        window_us=60 * SECOND,
        ledger_head="5e" * 32,
        ordinal=n,
    )
    return msgspec.structs.replace(offer, **changes)


def an_attempt(job: str | None = None, epoch: int = 1, **changes: Any) -> AttemptEnv:
    """What the agent of this attempt is told: check 2 s, limit 20 s, grace 3 s."""
    told: dict[str, Any] = {
        "job": job or job_id(),
        "project": "default",
        "epoch": epoch,
        "provider": "anybody",
        "region": "eu-1",
        "store": StoreRef(name="main", url="memory:"),
        "isolation": Isolation(check_ms=2_000, limit_ms=20_000, grace_ms=3_000),
        "command": ("python", "train.py"),
    }
    return AttemptEnv(**{**told, **changes})


def an_order(job: str | None = None, epoch: int = 1, offer: int = 1, **changes: Any) -> LaunchOrder:
    """The launch of that attempt, on what `some_terms()` asks for; it may live for an hour."""
    job = job or job_id()
    order = LaunchOrder(
        key=launch_key(job, epoch),
        job=job,
        project="default",
        epoch=epoch,
        offer=offer_id(job, offer),
        region="eu-1",
        accelerator="H100",
        workers=2,
        gpus=4,
        cpus=8,
        memory=0,
        delete_after_ms=3_600_000,
        attempt=an_attempt(job, epoch).to_json(),
        ledger="ledger-1",
        term=1,
    )
    return msgspec.structs.replace(order, **changes)
