"""What must be remembered of a launch when everything else of it may have been deleted? One ConfigMap per launch key.

Called when launching, stopping and looking. While its main object is there, that object's name is what makes a key
taken. A record is made when there is something that the object cannot say or may not outlive: machines that were bound,
so that no server of ours takes a pod for gone that was deleted while its node did not answer; that it was made, where
somebody else deleted it; and, before anything is deleted, that we stopped it. It outlives the launch, so that its key
starts nothing again: a launch reads it first. `open` records are watched; a record is closed once nothing of its launch
is left, and a closed one is deleted after `KEPT_S`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.adapters.providers.kubernetes import billing, machines
from orchestrator.adapters.providers.kubernetes.machines import Machine
from orchestrator.adapters.providers.kubernetes.resources import KEY, LEDGER, MANAGED_BY, OURS, US, Record
from orchestrator.adapters.providers.kubernetes.sightings import LAUNCHED, MADE, STATE, STOPPED
from orchestrator.model.offer import Charge

MARK = "orchestrator.dev/record"
OPEN, CLOSED = "open", "closed"
SELECTOR = f"{OURS},{MARK}={OPEN}"
OLD = f"{OURS},{MARK}={CLOSED}"
MACHINES = "machines"
WHY = "why"
CLOSED_AT = "closedAt"
"""Microseconds UTC, of ours."""
KEPT_S = 7 * 24 * 3600
"""How long a closed record stays, so that its key starts nothing again."""


def new(key: str, ledger: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """A record that begins with this change."""
    labels = {MANAGED_BY: US, LEDGER: ledger, KEY: key, MARK: OPEN} | change.get("metadata", {}).get("labels", {})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": key, "labels": labels},
        "data": {STATE: LAUNCHED, MACHINES: "{}"} | change["data"],
    }


def of(uid: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The change, of that very record and no other of its name."""
    return {**change, "metadata": {**change.get("metadata", {}), "uid": uid}}


def with_state(state: str, *, why: str = "") -> dict[str, Any]:
    """A change of what we mean to do under the key."""
    return {"data": {STATE: state} | ({WHY: why} if why else {})}


def with_machines(found: Mapping[str, Machine]) -> dict[str, Any]:
    """A change of the machines that were seen."""
    return {"data": {MACHINES: machines.to_text(found)}}


def with_seen(found: Mapping[str, Machine]) -> dict[str, Any]:
    """The same of a launch that surely was made."""
    return {"data": with_machines(found)["data"] | {MADE: "true"}}


def closed(now_us: int, *, why: str = "", bill: Charge | None = None) -> dict[str, Any]:
    """The last change: nothing of the launch is left, and nothing will be."""
    data = {STATE: STOPPED, CLOSED_AT: str(now_us)} | ({WHY: why} if why else {}) | billing.closing(bill)
    return {"metadata": {"labels": {MARK: CLOSED}}, "data": data}


def closes(change: Mapping[str, Any]) -> bool:
    """Whether this is the last change."""
    return CLOSED_AT in change["data"]


def outlived(record: Record, now_us: int) -> bool:
    """Whether a closed record has been kept for long enough."""
    return 0 < closed_at(record) < now_us - KEPT_S * 1_000_000


def closed_at(record: Record) -> int:
    """When it was closed; 0: it was not."""
    at = (record.data or {}).get(CLOSED_AT, "")
    return int(at) if at.isdigit() else 0


def made(record: Record) -> bool:
    """Whether it says that there was a main object."""
    return MADE in (record.data or {}) or bool(machines_of(record))


def machines_of(record: Record) -> dict[str, Machine]:
    """The machines that were seen."""
    return machines.from_text((record.data or {}).get(MACHINES, ""))
