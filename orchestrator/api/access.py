"""Who is asking, and may they? Bearer tokens with named scopes, and the Host allow-list against DNS rebinding.

`AccessMiddleware` stands before every route but the health checks, on loopback too; a route states the scope that
it needs with `needs`, or, where it holds to the projects that a token is good for, with what `projects` has. Tokens
live in one 0600 file, read again when it changes, so that a token is revoked by editing it; a file of another owner, a
mounted secret, reaches us through our group and may be 0640. Never logs or repeats a token.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from orchestrator.api.problems import Denied
from orchestrator.model.documents.job import PROJECT

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
bearer = HTTPBearer(auto_error=False, description="a token of the server's tokens file")


class Scope(StrEnum):
    """What a token allows. None includes another: a token lists all that it may do."""

    VIEWER = "viewer"  # read
    SUBMITTER = "submitter"  # packages, submit, cancel, resume
    ATTESTER = "attester"  # record evidence
    OPERATOR = "operator"  # act on providers
    PROVIDER = "provider"  # answer offers as a supplier


class TokensError(Exception):
    """The tokens file cannot be used; the operator must act, and the message says how."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A token's bearer: a name for the ledger, and what it may do."""

    name: str
    scopes: frozenset[Scope]
    projects: frozenset[str] | None = None
    """Where; None: in all. `api.projects` decides what that means."""
    provider: str | None = None
    """Whose people it is given to, of the scope `provider`; None: nobody's, and it answers no offer."""


def parse_tokens(text: str, where: str) -> dict[bytes, Caller]:
    """sha256 of each token → its caller. Raises TokensError."""
    try:
        said = json.loads(text)
        if not isinstance(said, dict) or not isinstance(rows := said.get("tokens"), list):
            raise ValueError("there is no list under `tokens`")
        pairs = [(row["token"], _caller(row)) for row in rows]
        if odd := {key for row in rows for key in row} - {"name", "token", "scopes", "projects", "provider"}:
            raise ValueError(f"{min(odd)!r} is not known, and would limit nothing")
        if twice := [name for name, count in Counter(caller.name for _, caller in pairs).items() if count > 1]:
            raise ValueError(f"two tokens are named {twice[0]!r}; the ledger could not tell them apart")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        shape = (
            '{"tokens": [{"name": …, "token": …, "scopes": […]}]}, with "projects": […], or "provider": …, or without'
        )
        raise TokensError(f"{where} does not look like {shape}: {error}; scopes are {', '.join(Scope)}") from error
    if weak := [caller.name for token, caller in pairs if len(token) < 32]:
        raise TokensError(f"{where}: tokens of {', '.join(weak)} are shorter than 32 characters; use random ones")
    return {sha256(token.encode()).digest(): caller for token, caller in pairs}


def _caller(row: Any) -> Caller:
    for field in ("name", "token"):
        if not isinstance(row[field], str):
            raise ValueError(f"a {field} is no text; put it in quotes")
        row[field].encode()  # a lone surrogate is half a character, and raises
    projects = row.get("projects")
    if "projects" in row:
        if not isinstance(projects, list) or not projects:
            raise ValueError(f"projects of {row['name']} is no list of names; leave it out for all projects")
        if odd := [name for name in projects if not isinstance(name, str) or not re.fullmatch(PROJECT, name)]:
            raise ValueError(f"{odd[0]!r} of {row['name']} is no project's name: a-z, 0-9 and -, at most 63")
    scopes, provider = frozenset(map(Scope, row["scopes"])), row.get("provider")
    if "provider" in row and (not isinstance(provider, str) or not provider or scopes != {Scope.PROVIDER}):
        raise ValueError(f"{row['name']} is a provider's: its `provider` is a name, and `provider` its only scope")
    return Caller(row["name"], scopes, frozenset(projects) if projects else None, provider)


def too_open(mode: int, *, ours: bool) -> bool:
    """Whether a tokens file of this mode says too much. One that is not `ours` can only reach us through our group."""
    return bool(stat.S_IMODE(mode) & (0o077 if ours else 0o037))


class TokensFile:
    """The tokens of one server."""

    def __init__(self, path: Path) -> None:
        """Reads it at once, so that a bad file fails at the start. Raises TokensError."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._callers: dict[bytes, Caller] = {}
        self._refresh()

    def strangers(self, providers: Collection[str]) -> list[str]:
        """What is wrong with tokens that are bound to none of these providers: their bearers would see nothing."""
        known = ", ".join(providers)
        return [
            f"the token {caller.name!r} is bound to {caller.provider!r}, which is none of the providers ({known})"
            for caller in self._callers.values()
            if caller.provider is not None and caller.provider not in providers
        ]

    def find(self, token: str) -> Caller | None:
        """Whose token this is; None: nobody's."""
        self._refresh()
        presented = sha256(token.encode()).digest()
        found = None
        for known, caller in self._callers.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known, presented):
                found = caller
        return found

    def _refresh(self) -> None:
        try:
            now = self._path.stat()
            if self._seen == (now.st_ino, now.st_mtime_ns, now.st_size):
                return
            if too_open(now.st_mode, ours=now.st_uid == os.geteuid()):
                raise TokensError(f"{self._path} may be read by others; `chmod 600 {self._path}`")
            self._callers = parse_tokens(self._path.read_text(), str(self._path))
        except UnicodeDecodeError as error:
            raise TokensError(f"{self._path} is no UTF-8; save it as that") from error
        except OSError as error:
            raise TokensError(f"{self._path} cannot be read: {error}; `orchestrator serve` writes it") from error
        self._seen = (now.st_ino, now.st_mtime_ns, now.st_size)


class AccessMiddleware:
    """Turns away wrong hosts (421) and unknown bearers (401) before anything else looks at the request."""

    def __init__(self, app: ASGIApp, find: Callable[[str], Caller | None], hosts: Iterable[str]) -> None:
        self._app, self._find = app, find
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK, *hosts))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            headers = dict(scope["headers"])
            self._check_host(headers.get(b"host", b"").decode("latin-1"))
            if scope["path"] not in OPEN_PATHS:
                scope.setdefault("state", {})["caller"] = self._bearer(headers.get(b"authorization", b""))
        except Denied as denied:
            await denied.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, host: str) -> None:
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in self._hosts:
            remedy = "use the address in server.json, or add the name to ORCHESTRATOR_ALLOWED_HOSTS"
            raise Denied(421, "wrong-host", "this server does not answer under that Host", remedy=remedy)

    def _bearer(self, header: bytes) -> Caller:
        kind, _, token = header.decode("latin-1").partition(" ")
        try:
            caller = self._find(token.strip()) if kind.lower() == "bearer" and token.strip() else None
        except TokensError as error:
            raise Denied(503, "no-tokens", str(error), fault="operator", remedy="mend the tokens file") from error
        if caller is None:
            remedy = "send one of its tokens file: ORCHESTRATOR_TOKEN, or the header `Authorization: Bearer <token>`"
            challenge = {"WWW-Authenticate": 'Bearer realm="orchestrator"'}
            raise Denied(401, "unauthenticated", "no token, or an unknown one", remedy=remedy, headers=challenge)
        return caller


def allowed(caller: Caller, scopes: Collection[Scope]) -> Caller:
    """The caller, who must have one of these scopes. Raises Denied."""
    if not caller.scopes & set(scopes):
        either = " or ".join(f"`{scope}`" for scope in scopes)
        remedy = f"ask the operator for a token with the scope {either}"
        raise Denied(403, "forbidden", f"the token `{caller.name}` lacks the scope {either}", remedy=remedy)
    return caller


def needs(*scopes: Scope) -> Any:
    """A dependency: the caller, who must have one of these scopes, and in all projects."""

    async def check(request: Request, _: Any = Depends(bearer)) -> Caller:
        caller = allowed(request.state.caller, scopes)
        if caller.projects is not None:
            what = f"the token `{caller.name}` is good for some projects only, and this is about all of them"
            raise Denied(403, "forbidden", what, remedy="ask the operator for a token without `projects`")
        return caller

    return Depends(check)
