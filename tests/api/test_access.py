"""Who may ask: every route but health wants a token, every scope is asked for, foreign hosts are turned away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.api.access import OPEN_PATHS, TokensError, TokensFile, too_open
from tests.api.conftest import token_of, write_tokens

VERBS = {"get", "put", "post", "head", "delete", "patch"}
SCOPES = {
    ("post", "/v1/jobs"): "submitter",
    ("post", "/v1/jobs/{job}/cancel"): "submitter",
    ("post", "/v1/jobs/{job}/resume"): "submitter",
    ("put", "/v1/packages/{digest}"): "submitter",
    ("post", "/v1/providers/check"): "operator",
    ("post", "/v1/jobs/{job}/dump"): "submitter operator",
    ("get", "/v1/offers"): "provider",
    ("post", "/v1/offers/{offer}/answer"): "provider",
}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for path, item in app.openapi()["paths"].items():
        yield from ((verb, path) for verb in item if verb in VERBS)


def filled(path: str) -> str:
    return re.sub(r"\{job\}", "01K9Z3M5W2T8Q4N6R7VXYBCD0E", path).replace("{digest}", "0" * 64)


async def test_every_route_but_health_answers_401_without_a_token(app: FastAPI, anyone: httpx.AsyncClient) -> None:
    for verb, path in [*routes(app), ("get", "/openapi.json"), ("get", "/nothing/here"), ("delete", "/v1/jobs")]:
        status = (await anyone.request(verb, filled(path))).status_code
        assert status == (200 if path in OPEN_PATHS else 401), f"{verb} {path}"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", f"Basic {token_of('owner')}", f"Bearer {token_of('owner')}x"]
)
async def test_a_wrong_token_is_challenged(anyone: httpx.AsyncClient, header: str) -> None:
    reply = await anyone.get("/v1/jobs", headers={"Authorization": header})
    assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, 'Bearer realm="orchestrator"')
    assert token_of("owner") not in reply.text


async def test_every_route_asks_for_its_scope(app: FastAPI, anyone: httpx.AsyncClient) -> None:
    for verb, path in routes(app):
        if path in OPEN_PATHS:
            continue
        allowed = SCOPES.get((verb, path), "viewer")
        for scope in ("viewer", "submitter", "attester", "operator", "provider"):
            headers = {"Authorization": f"Bearer {token_of(scope)}"}
            status = (await anyone.request(verb, filled(path), headers=headers)).status_code
            assert (status == 403) == (scope not in allowed.split()), f"{scope}: {verb} {path} answers {status}"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7380", "127.0.0.1.evil.example", "", "[::2]:1"])
async def test_a_foreign_host_is_turned_away(owner: httpx.AsyncClient, host: str) -> None:
    for path in ("/v1/jobs", "/healthz"):
        assert (await owner.get(path, headers={"Host": host})).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:7380", "[::1]"])
async def test_loopback_is_home(owner: httpx.AsyncClient, host: str) -> None:
    assert (await owner.get("/v1/jobs", headers={"Host": host})).status_code == 200


async def test_no_other_site_may_read_us(owner: httpx.AsyncClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = await owner.options("/v1/jobs", headers=asked)
    assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_a_token_is_revoked_by_editing_the_file(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.json")
    assert tokens.find(token_of("viewer"))
    text = (tmp_path / "tokens.json").read_text()
    (tmp_path / "tokens.json").write_text(text.replace(token_of("viewer"), "another-token".ljust(50, "y")))
    assert tokens.find(token_of("viewer")) is None


def test_a_tokens_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens.json")
    (tmp_path / "tokens.json").chmod(0o644)
    with pytest.raises(TokensError, match="chmod 600"):
        TokensFile(tmp_path / "tokens.json")


@pytest.mark.parametrize(("mode", "ours", "open_"), [
    (0o600, True, False), (0o640, True, True), (0o604, True, True),
    (0o440, False, False), (0o640, False, False), (0o660, False, True), (0o444, False, True),
])  # fmt: skip
def test_a_mounted_secret_may_be_read_by_our_group(mode: int, ours: bool, open_: bool) -> None:
    assert too_open(mode, ours=ours) is open_


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"tokens": [{"name": "a"}]}', '{"tokens": [{"name": "a", "token": "short", "scopes": []}]}',
     '{"tokens": [{"name": "a", "token": "' + "x" * 40 + '", "scopes": ["root"]}]}',
     '{"tokens": [{"name": "a", "token": "' + "x" * 40 + '", "scopes": [], "cost": 1}]}'],
)  # fmt: skip
def test_a_tokens_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    (tmp_path / "tokens.json").chmod(0o600)
    with pytest.raises(TokensError):
        TokensFile(tmp_path / "tokens.json")
