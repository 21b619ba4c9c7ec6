"""Is this contract set the one that decides? What a ContractSet object's status says. Pure.

Called by `handlers` when the object or what is in force at the server changed. A server reads its contract set when it
starts; that an applied object does not change it yet is said here in so many words.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.controller.mirror import FALSE, TRUE, UNKNOWN, Fact, Status, changed, conditions
from orchestrator.controller.objects import contracts_of, refusal
from orchestrator.model.documents import DocumentError, digest
from orchestrator.model.documents.views import InForceView

REMEDY = (
    "An applied object does not change what decides yet: give the server this document "
    "(ORCHESTRATOR_CONTRACTS, or the chart's value `contracts`) and restart it"
)


def judged(
    status: Mapping[str, Any], body: Mapping[str, Any], force: InForceView | None, away: str, now: datetime
) -> Status:
    """What changes in the status of this object."""
    try:
        own = digest(contracts_of(body))
        valid = Fact("Accepted", TRUE, "Valid", "it is well-formed, and this version enforces all of it")
    except DocumentError as error:  # it was there before its admission was, or before this version
        own, valid = "", Fact("Accepted", FALSE, "Refused", refusal(error.problems))
    fact = _in_force(own, force, away)
    generation = int(body["metadata"].get("generation", 1))
    new: Status = {
        "digest": own or None,
        "inForce": fact.status,
        "reason": fact.reason,
        "version": force.contract if force and fact.status == TRUE else None,
        "observedGeneration": generation,
    }
    new["conditions"] = conditions(status.get("conditions") or (), [valid, fact], now, generation)
    return changed(status, new)


def _in_force(own: str, force: InForceView | None, away: str) -> Fact:
    if away or force is None:
        return Fact("InForce", UNKNOWN, "ServerUnreachable", away)
    if own and own == force.contract_digest:
        message = f"the server decides by this set, as version {force.contract}"
        return Fact("InForce", TRUE, "Loaded", message)
    if not force.contract_digest:
        return Fact("InForce", FALSE, "NoneLoaded", f"the server decides without any contract set. {REMEDY}")
    message = f"the server decides by another set, sha256 {force.contract_digest} (version {force.contract}). {REMEDY}"
    return Fact("InForce", FALSE, "AnotherLoaded", message)
