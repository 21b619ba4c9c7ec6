"""What one look at a ContractSet object comes to, without a cluster: it takes effect once, or says why it does not."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.controller import sets
from orchestrator.controller.mirror import condition
from orchestrator.controller.objects import plain_set
from orchestrator.controller.server import SAFETY_S, Server, Watch
from orchestrator.sdk import AsyncClient
from tests.controller.test_admission import FIRST, contract_set
from tests.controller.test_turns import NOW, reached
from tests.served import Served


def object_of(generation: int = 1, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = contract_set(FIRST | changes)
    body["metadata"] |= {"uid": "u-1", "generation": generation}
    return body


async def test_it_takes_effect_and_says_so(desk: Served) -> None:
    async with reached(desk) as server:
        watch = Watch({})
        await sets.look(server, watch, object_of(), NOW)
        assert (watch.status["reason"], watch.status["version"], watch.status["appliedGeneration"]) == ("Loaded", 1, 1)
        await sets.look(server, watch, object_of(2, window="30m"), NOW)
    assert (watch.status["version"], desk.desk.force.contract) == (2, 2)


async def test_each_change_is_put_to_the_server_once(desk: Served) -> None:
    """Another set was applied since: the object says so, and does not fight."""
    async with reached(desk) as server:
        watch = Watch({})
        await sets.look(server, watch, object_of(), NOW)
        async with server.asked() as client:
            await client.apply_contracts(json.dumps(plain_set(object_of(window="45m"))).encode())
            server.in_force = await client.in_force()
        for _ in range(2):
            await sets.look(server, watch, object_of(), NOW)
    assert (watch.status["reason"], desk.desk.force.contract) == ("AnotherLoaded", 2)


async def test_a_token_that_lacks_the_scope_is_told_so(desk: Served) -> None:
    file = desk.home / "tokens.json"
    weak = {"name": "weak", "token": "w" * 40, "scopes": ["viewer", "submitter"]}
    file.write_text(json.dumps({"tokens": [*json.loads(file.read_text())["tokens"], weak]}))
    server = Server(lambda: AsyncClient(desk.url, "w" * 40, patience_s=0.2, waiting_patience_s=0.2))
    async with server._connected() as client:
        await server._reached(client)
        watch = Watch({})
        await sets.look(server, watch, object_of(), NOW)
    assert watch.status["reason"] == "TokenLacksScope" and desk.desk.force.contract == 0
    assert "scope operator" in condition(watch.status, "InForce")["message"]


async def test_while_the_server_is_away_nothing_is_known(desk: Served) -> None:
    server = Server(lambda: AsyncClient(desk.url, "x" * 40))
    watch = Watch({})
    await sets.look(server, watch, object_of(), NOW)
    assert watch.status["inForce"] == "Unknown" and "appliedGeneration" not in watch.status
    assert watch.pause_s == SAFETY_S
