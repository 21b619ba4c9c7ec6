"""Who may do what: a table of every route and the scopes that it lets in, which a new route must enter."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orchestrator.api.access import OPEN_PATHS, Scope
from orchestrator.api.app import Front, create_app
from orchestrator.testing.desk import FakeDesk
from orchestrator.testing.stores import MemoryStore
from tests.api.conftest import token_of, write_tokens
from tests.served import Served, served

WHO = {
    "GET /healthz": "anybody",
    "GET /readyz": "anybody",
    "GET /metrics": "viewer",
    "GET /v1/providers": "viewer",
    "POST /v1/providers/check": "operator",
    "POST /v1/stores/check": "operator",
    "GET /v1/contracts": "viewer",
    "POST /v1/contracts": "operator",
    "GET /v1/capacity": "viewer",
    "POST /v1/capacity": "operator",
    "GET /v1/offers": "provider",
    "POST /v1/offers/{offer}/answer": "provider",
    "GET /v1/records": "viewer",
    "POST /v1/records": "attester",
    "GET /v1/jobs": "viewer",
    "POST /v1/jobs": "submitter",
    "GET /v1/jobs/{job}": "viewer",
    "GET /v1/jobs/{job}/offers": "viewer",
    "GET /v1/jobs/{job}/explain": "viewer",
    "GET /v1/jobs/{job}/events": "viewer",
    "GET /v1/jobs/{job}/logs": "viewer",
    "GET /v1/events": "viewer",
    "POST /v1/jobs/{job}/cancel": "submitter",
    "POST /v1/jobs/{job}/resume": "submitter",
    "POST /v1/jobs/{job}/scale": "submitter",
    "POST /v1/jobs/{job}/dump": "submitter operator",
    "PUT /v1/packages/{digest}": "submitter",
    "GET /v1/packages/{digest}": "viewer",
    "HEAD /v1/packages/{digest}": "viewer",
    "SOCKET /v1/jobs/{job}/exec": "submitter operator",
    "SOCKET /v1/jobs/{job}/forward": "submitter operator",
    "SOCKET /v1/jobs/{job}/forward/{ticket}": "submitter operator",
}
"""Route → scopes, any of which is enough."""
JOB, DIGEST = "01K9Z3M5W2T8Q4N6R7VXYBCD0E", "0" * 64
ELSEWHERE = ["GET /openapi.json", "HEAD /openapi.json", "GET /nothing/here", "DELETE /v1/jobs", "GET /", "GET /docs"]
"""No routes of ours, or none that the document names."""


def sockets(routes: list[Any]) -> Iterator[str]:
    """Paths of WebSockets, which an OpenAPI document cannot describe."""
    for route in routes:
        if isinstance(route, WebSocketRoute):
            yield f"SOCKET {route.path}"
        else:
            inside = getattr(route, "original_router", None) or getattr(route, "app", None)
            yield from sockets(getattr(inside, "routes", []))


def described(app: FastAPI) -> Iterator[str]:
    for path, item in app.openapi()["paths"].items():
        yield from (f"{verb.upper()} {path}" for verb in item if verb != "parameters")


def filled(path: str) -> str:
    known = {"{job}": JOB, "{digest}": DIGEST, "{ticket}": "1"}
    return re.sub(r"\{\w+\}", lambda name: known.get(name[0], "x"), path) + ("?port=1" if "forward" in path else "")


@pytest.fixture
def app() -> FastAPI:
    return create_app(FakeDesk(), Front(find=lambda _: None, files=MemoryStore(), metrics=lambda: b""))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        write_tokens(tmp_path / "tokens.json")
        yield running


@pytest.fixture
async def client(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url) as one:
        yield one


async def status(client: httpx.AsyncClient, route: str, scope: str = "") -> int:
    """What a bearer of this scope's token is answered; 101: the socket is open."""
    verb, path = route.split()
    headers = {"Authorization": f"Bearer {token_of(scope)}"} if scope else {}
    if verb != "SOCKET":
        return (await client.request(verb, filled(path), headers=headers)).status_code
    try:
        async with connect(str(client.base_url.join(filled(path)).copy_with(scheme="ws")), additional_headers=headers):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_the_table_names_every_route(app: FastAPI) -> None:
    assert sorted([*described(app), *sockets(app.routes)]) == sorted(WHO)


async def test_every_route_but_health_answers_401_without_a_token(app: FastAPI, client: httpx.AsyncClient) -> None:
    for route in [*described(app), *sockets(app.routes), *ELSEWHERE]:
        wanted = 200 if route.split()[1] in OPEN_PATHS else 401
        assert await status(client, route) == wanted, route


@pytest.mark.parametrize("scope", [scope.value for scope in Scope])
async def test_every_route_asks_for_its_scope(client: httpx.AsyncClient, scope: str) -> None:
    for route, who in WHO.items():
        turned_away = await status(client, route, scope) == 403
        assert turned_away == (who != "anybody" and scope not in who.split()), f"{scope}: {route}"


async def test_the_document_says_which_routes_want_a_token(app: FastAPI) -> None:
    for path, item in app.openapi()["paths"].items():
        for verb, operation in item.items():
            assert bool(operation.get("security")) == (path not in OPEN_PATHS), f"{verb} {path}"


@pytest.mark.parametrize("route", [route for route in WHO if route.split()[0] in ("POST", "PUT")])
async def test_of_a_body_without_end_no_more_is_read_than_a_document_has(tmp_path: Path, route: str) -> None:
    find, read, (verb, path) = write_tokens(tmp_path / "tokens.json").find, 0, route.split()
    front = Front(find=find, files=MemoryStore(), metrics=lambda: b"", package_limit=2**20)

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 2**24:
            read += 2**16
            yield b" " * 2**16

    transport = httpx.ASGITransport(create_app(FakeDesk(), front))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        headers = {"Authorization": f"Bearer {token_of(WHO[route].split()[0])}"}
        reply = await client.request(verb, filled(path), content=body(), headers=headers)
    assert read <= 2**20 + 2**16, reply.text
    assert not read or (reply.status_code, reply.json()["type"].rpartition(":")[2]) == (413, "too-large")


async def test_a_body_is_not_read_before_its_sender_is_known(tmp_path: Path) -> None:
    find, kept = write_tokens(tmp_path / "tokens.json").find, MemoryStore()
    app = create_app(FakeDesk(), Front(find=find, files=kept, metrics=lambda: b""))
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for n in range(3):
            read.append(n)
            yield b"x"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        for token in ("nobody", token_of("viewer")):
            headers = {"Authorization": f"Bearer {token}"}
            reply = await client.put(f"/v1/packages/{DIGEST}", content=body(), headers=headers)
            assert reply.status_code in (401, 403) and reply.json()["remedy"]
    assert not kept.objects and not read
