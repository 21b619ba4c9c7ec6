"""Tokens and hosts: wrong ones are turned away. Which route wants which scope is in tests/security."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from orchestrator.api.access import TokensError, TokensFile, too_open
from tests.api.conftest import token_of, write_tokens


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", f"Basic {token_of('owner')}", f"Bearer {token_of('owner')}x"]
)
async def test_a_wrong_token_is_challenged(anyone: httpx.AsyncClient, header: str) -> None:
    reply = await anyone.get("/v1/jobs", headers={"Authorization": header})
    assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, 'Bearer realm="orchestrator"')
    assert token_of("owner") not in reply.text


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


def test_a_tokens_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_bytes(b'{"tokens": [{"name": "M\xfcller"}]}')
    (tmp_path / "tokens.json").chmod(0o600)
    with pytest.raises(TokensError, match="UTF-8"):
        TokensFile(tmp_path / "tokens.json")


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"tokens": [{"name": "a"}]}', '{"tokens": [{"name": "a", "token": "short", "scopes": []}]}',
     '{"tokens": [{"name": "a", "token": "' + "x" * 40 + '", "scopes": ["root"]}]}',
     '{"tokens": [{"name": "a", "token": "' + "x" * 40 + '", "scopes": [], "cost": 1}]}',
     '{"tokens": [{"name": "a", "token": 12345678901234567890123456789012, "scopes": []}]}',
     '{"tokens": [{"name": "a", "token": "\\ud800' + "x" * 40 + '", "scopes": []}]}',
     '{"tokens": [{"name": "\\ud800", "token": "' + "x" * 40 + '", "scopes": []}]}',
     '{"tokens": [{"name": 7, "token": "' + "x" * 40 + '", "scopes": []}]}', "[" * 100_000],
)  # fmt: skip
def test_a_tokens_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    (tmp_path / "tokens.json").chmod(0o600)
    with pytest.raises(TokensError):
        TokensFile(tmp_path / "tokens.json")
