"""What is Kueue asked for an offer, and what does it say to it?

Called by `reservations`. Pure. An offer is a Workload that no job owns yet: quota that is reserved for it is the yes,
and our admission check keeps it from being admitted before the launch. Everything needed to go on after a restart is in
its annotation. A workload that was evicted once never starts again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.adapters.providers.kubernetes import asking
from orchestrator.adapters.providers.kubernetes.objects import Runtime, name_of
from orchestrator.adapters.providers.kubernetes.resources import LEDGER, MANAGED_BY, OFFER, US, WORKLOAD, Workload
from orchestrator.model.offer import Answer, Reason, Scope

ASKED = "orchestrator.dev/asked"
"""Annotation: what an answer needs, as JSON."""
READY = "Ready"
CHECK_SAYS = "ordered"


class Asked(Struct, frozen=True, kw_only=True):
    """An offer that Kueue is being asked about. Times are microseconds UTC, of ours."""

    offer: str
    terms_hash: str
    accelerator: str
    region: str
    until: int
    """The end of the window."""
    price: int | None = None
    """What a yes asks, micro-dollars per GPU-hour."""
    runtime: Runtime | None = None
    """For whose pods quota is asked; None: an earlier version did not say."""


def workload_name(offer: str) -> str:
    """The Workload's name."""
    return offer.lower()


def document(
    asked: Asked, sets: Sequence[Mapping[str, Any]], namespace: str, queue: str, ledger: str
) -> dict[str, Any]:
    """The Workload of an offer."""
    meta = {
        "name": workload_name(asked.offer),
        "namespace": namespace,
        "labels": {MANAGED_BY: US, LEDGER: ledger, OFFER: asked.offer},
        "annotations": {ASKED: msgspec.json.encode(asked).decode()},
    }
    spec = {"queueName": queue, "podSets": [dict(one) for one in sets]}
    return {"apiVersion": WORKLOAD.api_version, "kind": WORKLOAD.name, "metadata": meta, "spec": spec}


def asked_of(workload: Workload) -> Asked | None:
    """What the annotation says; None: nothing of ours."""
    text = (workload.metadata.annotations or {}).get(ASKED, "")
    try:
        return msgspec.json.decode(text, type=Asked) if text and workload.metadata.ours else None
    except msgspec.MsgspecError:
        return None


def reserved(workload: Workload) -> bool:
    """Whether quota is set aside for it, and nothing has ever been taken back."""
    found = workload.condition("QuotaReserved")
    return found is not None and found.status == "True" and not evicted(workload) and workload.spec.active


def evicted(workload: Workload) -> str:
    """Why its quota was taken back, at any time since it was made; empty: it never was."""
    found = workload.condition("Evicted")
    return "" if found is None else f"evicted by Kueue: {found.reason}: {found.message}"


def inactive(workload: Workload) -> bool:
    """Whether Kueue says that its queue takes nothing: it is stopped, or lacks a check, or nobody serves one."""
    found = workload.condition("QuotaReserved")
    return found is not None and found.status != "True" and "inactive" in found.message


def key_of(workload: Workload) -> str:
    """The launch that has used it; empty: none yet."""
    for owner in workload.metadata.owner_references:
        if owner.name.startswith(name_of("")):
            return owner.name.removeprefix(name_of(""))
    return ""


def yes(asked: Asked, ttl_us: int, now_us: int) -> Answer:
    """Quota is reserved."""
    return Answer(
        offer=asked.offer, accepted=True, terms_hash=asked.terms_hash, region=asked.region,
        accelerator=asked.accelerator, price=asked.price, ttl_us=ttl_us, provider_at=now_us,
    )  # fmt: skip


_WORDS: tuple[tuple[str, Reason], ...] = (
    (r"maximum capacity|not.*covered|no.*flavor.*for|resource .* unavailable", Reason.SPEC),
    (r"untolerated taint|doesn't match node affinity|topology", Reason.SPEC),
    (r"insufficient (unused )?quota|unused quota|Waiting for", Reason.CAPACITY),
    (r"inactive|doesn't exist|not found|stopped|namespace", Reason.POLICY),
)
"""Kueue's own reasons, tried in order."""


def no(asked: Asked, workload: Workload | None, now_us: int) -> Answer:
    """The window is over: Kueue's own words, and what they mean."""
    if workload is None:
        detail = "its Workload was deleted, and not by us"
        return asking.no(asked.offer, Reason.ERROR, detail, Scope.PROVIDER, now_us + asking.FULL_US, now_us)
    found = workload.condition("QuotaReserved")
    said = evicted(workload) or (f"{found.reason}: {found.message}" if found else "Kueue has not looked at it yet")
    reason = next((reason for words, reason in _WORDS if re.search(words, said)), Reason.CAPACITY)
    hold_off = asking.NEVER_US if reason is Reason.SPEC else asking.FULL_US
    scope = Scope.ACCELERATOR if asked.accelerator or re.search(r"quota for \S+/", said) else Scope.PROVIDER
    return asking.no(asked.offer, reason, f"Kueue: {said}"[:1000], scope, now_us + hold_off, now_us)


def ready(workload: dict[str, Any], checks: Collection[str], now: str) -> dict[str, Any]:
    """The change that lets it be admitted: our checks, as they stand in its status, set Ready."""
    states = []
    for state in workload.get("status", {}).get("admissionChecks", ()):
        if state["name"] in checks:
            state = {**state, "state": READY, "message": CHECK_SAYS, "lastTransitionTime": now}
        states.append(state)
    version = workload["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version}, "status": {"admissionChecks": states}}


def unready(workload: dict[str, Any], checks: Collection[str]) -> list[str]:
    """Our checks that are not Ready; those that Kueue has not put there yet are among them."""
    there = {state["name"]: state["state"] for state in workload.get("status", {}).get("admissionChecks", ())}
    return [check for check in checks if there.get(check) != READY]
