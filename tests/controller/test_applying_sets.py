"""What one look at a ContractSet object comes to, without a cluster: it takes effect once, or says why it does not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator.controller import sets
from orchestrator.controller.mirror import condition
from orchestrator.controller.objects import plain_set
from orchestrator.controller.server import SAFETY_S, Server, Watch
from orchestrator.model.job import LedgerRow
from orchestrator.ports.desk import DeskError, Mistaken, Refused
from orchestrator.sdk import AsyncClient
from tests.controller.test_admission import FIRST, contract_set
from tests.controller.test_turns import NOW, reached
from tests.served import TOKEN, Served


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


def failing(error: DeskError) -> Callable[[bytes, str], Awaitable[LedgerRow]]:
    async def amend(document: bytes, by: str) -> LedgerRow:
        raise error

    return amend


async def test_what_cannot_be_mended_by_trying_again_keeps_its_reason(desk: Served) -> None:
    """It is said as long as the object stays as it is, whatever becomes of the server meanwhile."""
    desk.tell(lambda d: setattr(d, "amend", failing(Mistaken("it says otherwise"))))
    async with reached(desk) as server:
        watch = Watch({})
        for away in ("", "it restarts", ""):
            server.away = away
            await sets.look(server, watch, object_of(), NOW)
            assert (watch.status["reason"], watch.status["inForce"]) == ("Refused", "False")
            assert "it says otherwise" in condition(watch.status, "InForce")["message"]


async def test_a_token_that_is_being_rotated_costs_no_set_its_effect(desk: Served) -> None:
    file = desk.home / "tokens.json"
    async with reached(desk) as server:
        watch, tokens = Watch({}), file.read_text()
        file.write_text(tokens.replace(TOKEN, "n" * 43))
        await sets.look(server, watch, object_of(), NOW)
        assert (watch.status["reason"], watch.pause_s) == ("TokenUnknown", sets.LATER_S)
        assert watch.status["inForce"] == "Unknown" and "appliedGeneration" not in watch.status
        file.write_text(tokens + " ")
        await sets.look(server, watch, object_of(), NOW)
    assert (watch.status["reason"], watch.status["appliedGeneration"]) == ("Loaded", 1)


async def test_any_other_failure_is_tried_again(desk: Served) -> None:
    well = desk.desk.amend
    async with reached(desk) as server:
        watch = Watch({})
        for amend, reason in ((failing(Refused("not now")), "NotApplied"), (well, "Loaded")):
            desk.tell(lambda d, amend=amend: setattr(d, "amend", amend))
            await sets.look(server, watch, object_of(), NOW)
            assert watch.status["reason"] == reason


JANUARY = "2026-01-01T00:00:00Z"


def heard(
    server: Server, name: str, made: str = JANUARY, wrote: str = JANUARY, listed: bool = False, **status: Any
) -> dict[str, Any]:
    """An object, as the controller hears of it. Its status was written long after its spec."""
    body = object_of(window="30m" if name == "earlier" else "45m")
    spec = {"manager": "kubectl", "time": wrote, "fieldsV1": {"f:spec": {"f:window": {}}}}
    since = {"manager": "us", "time": "2027-01-01T00:00:00Z", "fieldsV1": {"f:status": {}}}
    body["metadata"] |= {"name": name, "uid": name, "creationTimestamp": made, "managedFields": [spec, since]}
    sets.notice(server, server.watch(name, status), body, listed=listed)
    return body


@pytest.mark.parametrize("first", ["earlier", "later"])
async def test_of_several_that_waited_the_one_applied_last_decides(desk: Served, first: str) -> None:
    async with reached(desk) as server:
        bodies = [heard(server, "earlier"), heard(server, "later")]
        for body in bodies if first == "earlier" else reversed(bodies):
            await sets.look(server, server.watch(body["metadata"]["name"], {}), body, NOW)
    assert (await desk.desk.in_force()).contract_digest == server.watch("later", {}).status["digest"]
    assert server.watch("earlier", {}).status["appliedGeneration"] == 1, "and nobody tries again"


@pytest.mark.parametrize("field", ["creationTimestamp", "f:spec"])
async def test_of_several_that_are_found_the_api_server_says_which_is_newest(desk: Served, field: str) -> None:
    """Heard of and looked at in the wrong order."""
    at = "2026-02-01T00:00:00Z"
    async with reached(desk) as server:
        found = [
            heard(server, "later", listed=True, **({"made": at} if field == "creationTimestamp" else {"wrote": at})),
            heard(server, "earlier", listed=True),
        ]
        for body in found:
            await sets.look(server, server.watch(body["metadata"]["name"], {}), body, NOW)
    assert (await desk.desk.in_force()).contract_digest == server.watch("later", {}).status["digest"]


async def test_a_set_that_took_effect_before_a_restart_is_not_undone_by_an_earlier_one(desk: Served) -> None:
    async with reached(desk) as server:
        body = heard(server, "later")
        await sets.look(server, server.watch("later", {}), body, NOW)
        status = server.watch("later", {}).status
    async with reached(desk) as again:
        heard(again, "later", wrote="2026-02-01T00:00:00Z", listed=True, **status)
        await sets.look(again, again.watch("earlier", {}), heard(again, "earlier", listed=True), NOW)
    assert desk.desk.force.contract == 1


async def test_while_the_server_is_away_nothing_is_known(desk: Served) -> None:
    server = Server(lambda: AsyncClient(desk.url, "x" * 40))
    watch = Watch({})
    await sets.look(server, watch, object_of(), NOW)
    assert watch.status["inForce"] == "Unknown" and "appliedGeneration" not in watch.status
    assert watch.pause_s == SAFETY_S
