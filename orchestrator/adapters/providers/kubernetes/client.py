"""How is one call made to a cluster's API server, and what does its reply mean? HTTP and nothing else.

Called by the mirrors and by every verb of the provider. It reads credentials again when they are turned down, never
repeats a call by itself otherwise, and raises what the port knows (`Unreachable`, `Throttled`, `Misconfigured`) or one
of `errors` (`Absent`, `Taken`, `Expired`, `Refused`). Bodies go out and come in as they are: no typed models between.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec

from orchestrator.adapters.providers.kubernetes import errors
from orchestrator.adapters.providers.kubernetes.credentials import connect
from orchestrator.adapters.providers.kubernetes.resources import Many, Thing
from orchestrator.ports.provider import Misconfigured, Unreachable

T = TypeVar("T")
M = TypeVar("M")

PAGE = 500
"""Items of a list that come at a time."""
CONNECT_S = 3.0
TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=CONNECT_S)
HEARTBEAT_S = 20.0
CHANNELS = "v4.channel.k8s.io"
"""How commands and ports share a WebSocket: the first byte of each message is its channel."""
JSON = "application/json"
METADATA = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}"
"""What a reply to a change holds where nobody reads more: the server need not write the object out, nor we read it."""
UNWARNED = {"fieldValidation": "Ignore"}
"""What the server does not know is dropped, as by default; without a second reading for warnings that nobody hears."""
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
Params = Mapping[str, str | int]


class _Request(NamedTuple):
    """One request, as it may be sent again."""

    method: str
    path: str
    params: Params
    body: Any = None
    content: str = JSON
    accept: str = JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Client:
    """The calls of one cluster."""

    def __init__(self, name: str, kubeconfig: str | None, context: str | None) -> None:
        self.name = name
        self._kubeconfig, self._context = kubeconfig, context
        self._api: Any = None
        self._retired: Any = None
        self._connecting = asyncio.Lock()
        self.calls = 0
        """Requests sent so far."""
        self.replies = 0
        """Requests that succeeded so far."""

    async def get(self, path: str, kind: type[T], **params: str | int) -> T:
        """Read something."""
        return self._decode(await self._call("GET", path, params=params), kind, path)

    async def pages(self, path: str, kind: type[Many[M]], **params: str | int) -> AsyncIterator[Many[M]]:
        """Read a list, part by part."""
        while True:
            page = await self.get(path, kind, limit=PAGE, **params)
            yield page
            if not page.metadata.continue_:
                return
            params["continue"] = page.metadata.continue_

    async def items(self, path: str, kind: type[Many[M]], **params: str | int) -> list[M]:
        """Read a list, whole."""
        return [item async for page in self.pages(path, kind, **params) for item in page.items]

    async def create(self, path: str, body: Any, kind: type[T]) -> T:
        """Make something. Raises `Taken` where its name is taken."""
        return self._decode(await self._call("POST", path, body, params=UNWARNED, accept=_accept(kind)), kind, path)

    async def judge(self, path: str, body: Any) -> None:
        """Have the server say whether it would make this, field by field; nothing is made. Raises `Refused`."""
        await self._call("POST", path, body, params={"dryRun": "All", "fieldValidation": "Strict"}, accept=METADATA)

    async def merge(self, path: str, body: Any, kind: type[T]) -> T:
        """Change the fields that are named, and no other."""
        data = await self._call("PATCH", path, body, params=UNWARNED, content=MERGE, accept=_accept(kind))
        return self._decode(data, kind, path)

    async def replace(self, path: str, body: Any, kind: type[T]) -> T:
        """Put this in its place. Raises `Taken` where it is not any more what was read (`resourceVersion`)."""
        return self._decode(await self._call("PUT", path, body, params=UNWARNED, accept=_accept(kind)), kind, path)

    async def apply(self, path: str, body: Any, kind: type[T]) -> T:
        """Make it so, whether it is there or not: our fields, taken from whoever held them."""
        params = {"fieldManager": "orchestrator", "force": "true"}
        return self._decode(await self._call("PATCH", path, body, params=params, content=APPLY), kind, path)

    async def delete(self, path: str, *, uid: str = "", version: str = "", policy: str = "Background") -> bool:
        """Have it deleted: whether there was anything. `uid`, `version`: only that one; else `Taken`."""
        given = {"uid": uid, "resourceVersion": version}
        options = {"propagationPolicy": policy, "preconditions": {k: v for k, v in given.items() if v}}
        try:
            await self._call("DELETE", path, options, accept=METADATA)
        except errors.Absent:
            return False
        return True

    async def delete_all(self, path: str, selector: str) -> None:
        """Have everything deleted that a label selector selects."""
        options = {"propagationPolicy": "Background"}
        await self._call("DELETE", path, options, params={"labelSelector": selector})

    async def alive(self) -> None:
        """Raises unless the API server answers us."""
        await self._call("GET", "/version")

    async def lines(
        self, path: str, params: Params, silence_s: float, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[bytes]:
        """A reply that goes on for long, line by line; cut off where nothing comes for `silence_s`.

        `opened` is called when it begins, before there is a line.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
        response = await self._open(_Request("GET", path, params), timeout)
        try:
            opened()
            rest = b""
            async for chunk in response.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line
            if rest:
                yield rest
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(f"GET {path}", error) from error
        finally:
            response.close()

    async def socket(self, path: str, params: Params | Sequence[tuple[str, str]]) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket of channels (commands, ports). Raises `NoWayIn` where we may not, `NotThere` where nothing is."""
        for again in (True, False):
            api = await self._connected()
            token = await api.configuration.get_api_key_with_prefix("BearerToken")
            headers = {"User-Agent": "orchestrator"} | ({"Authorization": token} if token else {})
            pool = _pool(api)
            url = f"{api.configuration.host}{path}?{urlencode(params)}"
            self.calls += 1
            try:
                opened: aiohttp.ClientWebSocketResponse = await pool.ws_connect(
                    url, headers=headers, protocols=(CHANNELS,), max_msg_size=0, heartbeat=HEARTBEAT_S,
                    **_ways(api.configuration),
                )  # fmt: skip
                return opened
            except aiohttp.WSServerHandshakeError as error:
                if error.status != 401 or not again:
                    raise errors.shut(error.status, f"provider {self.name}: {path}") from error
                await self._forget(api)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._unreachable(path, error) from error
        raise AssertionError("the second time it returned or raised")

    async def aclose(self) -> None:
        """Let go of connections."""
        for api in (self._api, self._retired):
            if api is not None:
                await api.close()
        self._api = self._retired = None

    # ---- one request -----------------------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Params | None = None,
        content: str = JSON,
        accept: str = JSON,
    ) -> bytes:
        request = _Request(method, path, params or {}, body, content, accept)
        response = await self._open(request, TIMEOUT)
        try:
            return await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(f"{method} {path}", error) from error

    async def _open(self, request: _Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """The reply to one request, its body not read yet; a success. With new credentials once, if need be."""
        for again in (True, False):
            api = await self._connected()
            response = await self._send(api, request, timeout)
            if response.status < 300:
                self.replies += 1
                return response
            said = await self._read(response, str(request))
            if response.status != 401 or not again:
                break
            await self._forget(api)
        wait, what = response.headers.get("Retry-After"), f"provider {self.name}: {request}"
        raise errors.problem(response.status, said, wait, what, making=request.method == "POST")

    async def _send(self, api: Any, request: _Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        headers = {"Accept": request.accept, "Content-Type": request.content, "User-Agent": "orchestrator"}
        if request.method != "GET":
            headers["Accept-Encoding"] = "identity"  # one object is short; the API server need not weigh it
        token = await api.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = api.configuration.host + request.path + (f"?{urlencode(request.params)}" if request.params else "")
        data = None if request.body is None else msgspec.json.encode(request.body)
        self.calls += 1
        try:
            response: aiohttp.ClientResponse = await _pool(api).request(
                request.method, url, headers=headers, data=data, timeout=timeout, **_ways(api.configuration)
            )
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError) as error:
            remedy = "correct certificate-authority in the kubeconfig"
            raise Misconfigured(
                f"provider {self.name}: {api.configuration.host} is not who it says ({error}); {remedy}"
            ) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(str(request), error) from error
        return response

    async def _read(self, response: aiohttp.ClientResponse, what: str) -> bytes:
        try:
            return await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(what, error) from error

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._api is None:
                self._api = await connect(self.name, self._kubeconfig, self._context)
            return self._api

    async def _forget(self, api: Any) -> None:
        """These credentials were turned down. What is under way with them goes on until they are turned down again."""
        if self._api is api:
            self._api, before, self._retired = None, self._retired, api
            if before is not None:
                await before.close()

    def _decode(self, data: bytes, kind: type[T], path: str) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"provider {self.name}: {path} replied with something unreadable ({error})") from error

    def _unreachable(self, what: str, error: Exception) -> Unreachable:
        return Unreachable(f"provider {self.name}: no reply to {what}: {error or type(error).__name__}")


def _accept(kind: type[Any]) -> str:
    """What to ask for where only this is read."""
    return METADATA if kind is Thing else JSON


def _pool(api: Any) -> Any:
    """The official client's connections, without what it does around each request."""
    if api.rest_client.pool_manager is None:
        api.rest_client.pool_manager = api.rest_client._create_pool_manager()
    return api.rest_client.pool_manager


def _ways(configuration: Any) -> dict[str, Any]:
    """How to get there, as the official client would."""
    named = {"server_hostname": configuration.tls_server_name, "proxy": configuration.proxy}
    return {name: value for name, value in (named | {"proxy_headers": configuration.proxy_headers}).items() if value}
