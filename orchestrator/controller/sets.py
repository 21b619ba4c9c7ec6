"""Is this contract set the one that decides? What a ContractSet object's status says, and how it takes effect.

Called by `handlers` when the object or what is in force at the server changed. Each change of an object is put to the
server once: two objects never take turns, the one that was applied last decides. What else is in force at the server
(its own file after a restart, a set applied by hand) is left alone and said in so many words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.controller.mirror import FALSE, TRUE, UNKNOWN, Fact, Status, changed, conditions
from orchestrator.controller.objects import contracts_of, plain_set, refusal
from orchestrator.controller.server import SAFETY_S, Server, Watch
from orchestrator.model.documents import DocumentError, digest
from orchestrator.model.documents.views import InForceView
from orchestrator.sdk.errors import Busy, Forbidden, Invalid, OrchestratorError, Unreachable

AGAIN = "apply it again, changed, or run `orchestrator contracts apply`"
SOON_S = 5.0


async def look(server: Server, watch: Watch, body: Mapping[str, Any], now: datetime) -> Status:
    """Put the object to the server if this change of it was not yet; what changes in its status."""
    watch.pause_s = SAFETY_S
    said: Fact | None = None
    if _is_due(server, watch.status, body):
        try:
            async with server.asked() as client:
                server.in_force = await client.apply_contracts(json.dumps(plain_set(body), default=str).encode())
        except (Busy, Unreachable) as error:
            watch.pause_s = SOON_S
            said = Fact("InForce", UNKNOWN, "ServerUnreachable", str(error).split("\n")[0])
        except OrchestratorError as error:
            said = _not_applied(error)
    change = judged(watch.status, body, server.in_force, server.away, now, said=said)
    watch.status.update(change)
    return change


def _is_due(server: Server, status: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Whether this change of the object has still to be put to the server."""
    if server.away or server.in_force is None or status.get("appliedGeneration") == _generation(body):
        return False
    try:
        return digest(contracts_of(body)) != server.in_force.contract_digest
    except DocumentError:
        return False


def _not_applied(error: OrchestratorError) -> Fact:
    if isinstance(error, Forbidden):
        message = f"the controller's token may not do that: {error}. Give it the scope operator, then {AGAIN}"
        return Fact("InForce", FALSE, "TokenLacksScope", message)
    reason = "Refused" if isinstance(error, Invalid) else "NotApplied"
    return Fact("InForce", FALSE, reason, str(error))


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
    fact = said or _in_force(own, force, away)
    generation = _generation(body)
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
