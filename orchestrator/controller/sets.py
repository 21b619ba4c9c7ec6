"""Is this contract set the one that decides? What a ContractSet object's status says, and how it takes effect.

Called by `handlers` when the object or what is in force at the server changed. Each change of an object is put to the
server until it says yes or no, and then never again: two objects never take turns, the one that was applied last
decides, also of several that waited for the server. What else is in force there (its own file after a restart, a set
applied by hand) is left alone and said in so many words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.controller.mirror import FALSE, TRUE, UNKNOWN, Fact, Status, changed, condition, conditions
from orchestrator.controller.objects import contracts_of, plain_set, refusal
from orchestrator.controller.server import SAFETY_S, Server, Watch
from orchestrator.model.documents import DocumentError, digest
from orchestrator.model.documents.views import InForceView
from orchestrator.sdk.errors import Busy, Forbidden, Invalid, OrchestratorError, Unauthenticated, Unreachable

AGAIN = "apply it again, changed, or run `orchestrator contracts apply`"
SOON_S, LATER_S = 5.0, 60.0
LASTING = ("Refused", "TokenLacksScope")
"""Why a change of an object is not tried again."""


def notice(server: Server, watch: Watch, body: Mapping[str, Any], *, listed: bool) -> None:
    """Hear of the object as it is now. `listed`: it came in a list, and only its own times say when it was changed."""
    server.noticed(watch, _generation(body), _changed_at(body) if listed else None)
    if watch.status.get("reason") == "Loaded" and watch.status.get("appliedGeneration") == watch.generation:
        server.newest_set = max(server.newest_set, watch.order)


def _changed_at(body: Mapping[str, Any]) -> datetime:
    """When somebody last wrote its spec, by the API server's clock; at the earliest when it was made."""
    meta = body["metadata"]
    writes = [one for one in meta.get("managedFields") or () if "f:spec" in (one.get("fieldsV1") or {})]
    moments = [meta["creationTimestamp"], *(one["time"] for one in writes if one.get("time"))]
    return max(datetime.fromisoformat(one) for one in moments)


async def look(server: Server, watch: Watch, body: Mapping[str, Any], now: datetime) -> Status:
    """Put the object to the server if this change of it was not yet; what changes in its status."""
    watch.pause_s = SAFETY_S
    async with server.amending:
        said = await _put(server, watch, body) if _is_due(server, watch, body) else None
        change = judged(watch.status, body, server.in_force, server.away, now, said=said)
        watch.status = watch.status | change
        if server.in_force and server.in_force.contract_digest == watch.status.get("digest"):
            server.newest_set = max(server.newest_set, watch.order)
    return change


async def _put(server: Server, watch: Watch, body: Mapping[str, Any]) -> Fact | None:
    """Put the object to the server; what came of it, if not well."""
    try:
        async with server.asked() as client:
            server.in_force = await client.apply_contracts(json.dumps(plain_set(body), default=str).encode())
            return None
    except OrchestratorError as error:
        watch.pause_s = SOON_S if isinstance(error, Busy | Unreachable) else LATER_S
        return _not_applied(error)


def _is_due(server: Server, watch: Watch, body: Mapping[str, Any]) -> bool:
    """Whether this change of the object has still to be put to the server, and no later one of another took effect."""
    if server.away or server.in_force is None or watch.status.get("appliedGeneration") == _generation(body):
        return False
    try:
        return digest(contracts_of(body)) != server.in_force.contract_digest and watch.order >= server.newest_set
    except DocumentError:
        return False


def _not_applied(error: OrchestratorError) -> Fact:
    """Only what trying again cannot mend is a no; anything else leaves it unknown, and is tried again."""
    if isinstance(error, Forbidden):
        message = f"the controller's token may not do that: {error}. Give it the scope operator, then {AGAIN}"
        return Fact("InForce", FALSE, "TokenLacksScope", message)
    if isinstance(error, Invalid):
        return Fact("InForce", FALSE, "Refused", str(error))
    away = "ServerUnreachable" if isinstance(error, Busy | Unreachable) else "NotApplied"
    reason = "TokenUnknown" if isinstance(error, Unauthenticated) else away
    why = str(error).split("\n")[0]
    return Fact("InForce", UNKNOWN, reason, f"{why}; it is tried again")


def _lasting(status: Mapping[str, Any], generation: int) -> Fact | None:
    """The no that this change of the object had."""
    told = condition(status, "InForce")
    if status.get("appliedGeneration") != generation or told.get("reason") not in LASTING:
        return None
    return Fact("InForce", FALSE, told["reason"], told["message"])


def _generation(body: Mapping[str, Any]) -> int:
    return int(body["metadata"].get("generation", 1))


def judged(
    status: Mapping[str, Any],
    body: Mapping[str, Any],
    force: InForceView | None,
    away: str,
    now: datetime,
    *,
    said: Fact | None = None,
) -> Status:
    """What changes in the status of this object. `said`: what became of putting it to the server, if not well."""
    try:
        own = digest(contracts_of(body))
        valid = Fact("Accepted", TRUE, "Valid", "it is well-formed, and this version enforces all of it")
    except DocumentError as error:  # it was there before its admission was, or before this version
        own, valid = "", Fact("Accepted", FALSE, "Refused", refusal(error.problems))
    generation = _generation(body)
    fact = said or _in_force(own, force, away)
    if not said and fact.status != TRUE:
        fact = _lasting(status, generation) or fact
    new: Status = {
        "digest": own or None,
        "inForce": fact.status,
        "reason": fact.reason,
        "version": force.contract if force and fact.status == TRUE else None,
        "observedGeneration": generation,
    }
    if fact.status != UNKNOWN and own:
        new["appliedGeneration"] = generation
    new["conditions"] = conditions(status.get("conditions") or (), [valid, fact], now, generation)
    return changed(status, new)


def _in_force(own: str, force: InForceView | None, away: str) -> Fact:
    if away or force is None:
        return Fact("InForce", UNKNOWN, "ServerUnreachable", away)
    if own and own == force.contract_digest:
        message = f"the server decides by this set, as version {force.contract}"
        return Fact("InForce", TRUE, "Loaded", message)
    if not force.contract_digest:
        return Fact("InForce", FALSE, "NoneLoaded", f"the server decides without any contract set; {AGAIN}")
    message = f"the server decides by another set, sha256 {force.contract_digest} (version {force.contract}); {AGAIN}"
    return Fact("InForce", FALSE, "AnotherLoaded", message)
