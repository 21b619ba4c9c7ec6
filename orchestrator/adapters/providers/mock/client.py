"""How is one call made to a mock cloud, and what does its reply mean? HTTP and nothing else.

Called by the mock provider. It may repeat one call that got no reply (every call carries its own id or key, so that a
repetition is the same call), reads credentials again when they are turned down, and raises what the port knows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from orchestrator.adapters.providers.mock.errors import Kind, Meaning, meaning
from orchestrator.certificates import Authorities
from orchestrator.ports.provider import Misconfigured, Throttled, Unreachable

TIMEOUT = httpx.Timeout(10.0, connect=2.0)
AGAIN = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""Worth a second try at once; a timeout has cost enough."""
GIVE = "give url and token (file:/path or env:NAME), or file: the cloud's connection.json"
RETRY_AFTER_S = 1.0
"""Where a cloud that throttles does not say."""


class Refused(Exception):
    """The cloud said no to one request, in its own words, for good."""

    def __init__(self, code: str, message: str, means: Meaning) -> None:
        super().__init__(f"{code}: {message}")
        self.means = means


class Absent(Exception):
    """The cloud knows nothing of this name."""


class Connection:
    """Where the cloud is and what opens it; read again whenever it is turned down.

    `{"url": …, "token": …}`, the token as `file:/path` or `env:NAME` (or itself, for tests), or `{"file": path}` of a
    `connection.json` that holds both.
    """

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        self._name = name
        self._given = given
        self.url = ""
        self.token = ""

    def read(self) -> None:
        """Raises `Misconfigured`."""
        try:
            doc = {**self._given}
            if "file" in doc:
                doc |= json.loads(Path(str(doc["file"])).read_text())
            self.url, self.token = str(doc["url"]).rstrip("/"), _by_reference(str(doc["token"]))
        except KeyError as error:
            raise Misconfigured(f"provider {self._name}: its connection has no {error.args[0]}; {GIVE}") from error
        except (OSError, ValueError) as error:
            raise Misconfigured(f"provider {self._name}: its connection cannot be read ({error}); {GIVE}") from error


class CloudClient:
    """The calls of one cloud."""

    def __init__(self, name: str, connection: Mapping[str, Any], term: Callable[[], int]) -> None:
        self.name = name
        self._connection = Connection(name, connection)
        self._term = term
        self._http = httpx.AsyncClient(timeout=TIMEOUT, verify=Authorities(trust_env=False), trust_env=False)
        self._cloud: str | None = None

    async def about(self) -> dict[str, Any]:
        """What the cloud says about itself. Raises as `call`."""
        doc = await self.call("GET", "/v1")
        self._cloud = str(doc["cloud"])
        return doc

    async def call(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None, wait_s: float = 0
    ) -> dict[str, Any]:
        """The reply's document. `wait_s`: how long the cloud was asked to wait.

        Raises `Unreachable`, `Throttled`, `Misconfigured`, `Refused`, `Absent`.
        """
        if self._cloud is None and path != "/v1":
            await self.about()
        reply = await self._send(method, path, body, params, wait_s)
        if reply.status_code == 401 and self._means(reply)[2].kind is Kind.UNAUTHORIZED:
            self._connection.url = ""
            reply = await self._send(method, path, body, params, wait_s)
        if reply.is_success:
            return self._document(reply)
        raise self._problem(reply, f"{method} {path}")

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _send(
        self, method: str, path: str, body: Any, params: Mapping[str, Any] | None, wait_s: float
    ) -> httpx.Response:
        retry = AsyncRetrying(
            stop=stop_after_attempt(2), wait=wait_fixed(0.05), retry=retry_if_exception_type(AGAIN), reraise=True
        )
        if not self._connection.url:
            self._connection.read()
        url, headers = (
            self._connection.url + path,
            {
                "Authorization": f"Bearer {self._connection.token}",
                "X-Orchestrator-Term": str(self._term()),
            },
        )
        timeout = httpx.Timeout(10.0 + wait_s, connect=2.0)
        try:
            return await retry(
                self._http.request, method, url, json=body, params=params, headers=headers, timeout=timeout
            )
        except httpx.HTTPError as error:
            self._connection.url = ""  # it may have come back elsewhere
            raise Unreachable(f"provider {self.name} gave no reply to {method} {path}: {error!r}") from error

    def _problem(self, reply: httpx.Response, what: str) -> Exception:
        code, message, means = self._means(reply)
        said = f"provider {self.name} answered {reply.status_code} {code} to {what}: {message}"
        match means.kind:
            case Kind.THROTTLED:
                return Throttled(said, round(_retry_after(reply) * 1_000_000))
            case Kind.UNAUTHORIZED:
                return Misconfigured(f"{said}; check the provider's token in providers.yaml")
            case Kind.ABSENT:
                return Absent(said)
            case Kind.REFUSED:
                return Refused(code, message, means)
            case Kind.NOTHING:
                return Unreachable(said)

    def _means(self, reply: httpx.Response) -> tuple[str, str, Meaning]:
        try:
            error = reply.json()["error"]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, KeyError, TypeError):
            code, message = "", reply.text[:200]
            return code, message, meaning(self._cloud or "", code, message, reply.status_code)
        means = meaning(self._cloud or "", code, message, reply.status_code)
        said_ms = error.get("holdOffMs")
        return code, message, means if said_ms is None else means._replace(hold_off_s=math.ceil(said_ms / 1000))

    def _document(self, reply: httpx.Response) -> dict[str, Any]:
        try:
            doc = reply.json()
        except ValueError as error:
            raise Unreachable(f"provider {self.name} replied with something that is no JSON") from error
        if not isinstance(doc, dict):
            raise Unreachable(f"provider {self.name} replied with something that is no object")
        return doc


def _by_reference(secret: str) -> str:
    kind, _, where = secret.partition(":")
    if kind == "file":
        return Path(where).read_text().strip()
    if kind == "env" and where not in os.environ:
        raise ValueError(f"{where} is not set")
    return os.environ[where] if kind == "env" else secret


def _retry_after(reply: httpx.Response) -> float:
    try:
        return float(reply.headers.get("Retry-After", RETRY_AFTER_S))
    except ValueError:
        return RETRY_AFTER_S
