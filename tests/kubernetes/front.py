"""A front before a real API server that misbehaves on command: away, silent, 429, 401, 410, watches cut.

It serves HTTP on loopback and speaks to the API server as the administrator of the cluster's kubeconfig. A kubeconfig
of its own, with a token, is what the provider under test is given.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

Mishap = Callable[[web.Request], web.Response | None]
HOP = {"host", "authorization", "content-length", "transfer-encoding", "connection", "content-encoding"}


class Front:
    """What it does at the moment, and what was asked of it."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self.upstream, self.session = upstream, session
        self.away = False
        self.tokens = {"one"}
        self.mishaps: list[Mishap] = []
        self.asked: list[str] = []
        self._lost: list[tuple[str, str]] = []
        self._under_way: set[asyncio.Task[Any]] = set()
        self.url = ""

    def cut(self) -> None:
        """End everything that is under way, in the middle."""
        for task in self._under_way:
            task.cancel()

    def leave(self, gone: bool) -> None:
        """Answer nobody, and cut what is under way; or come back."""
        self.away = gone
        if gone:
            self.cut()

    def once(self, method: str, part: str, status: int, reason: str = "Test", **headers: str) -> None:
        """The next request like this is turned away."""

        def mishap(request: web.Request) -> web.Response | None:
            if request.method != method or part not in str(request.rel_url) or mishap not in self.mishaps:
                return None
            self.mishaps.remove(mishap)
            text = json.dumps({"kind": "Status", "code": status, "reason": reason, "message": "as the test wants it"})
            return web.Response(status=status, text=text, headers=headers, content_type="application/json")

        self.mishaps.append(mishap)

    def expire(self, part: str) -> None:
        """The next watch like this begins well, and says that the version to go on from is too old."""

        def mishap(request: web.Request) -> web.Response | None:
            if "watch=true" not in request.query_string or part not in request.path or mishap not in self.mishaps:
                return None
            self.mishaps.remove(mishap)
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (2)"}
            return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n")

        self.mishaps.append(mishap)

    def lose_reply(self, method: str, part: str) -> None:
        """The next request like this is done, and its reply is lost."""
        self._lost.append((method, part))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.asked.append(f"{request.method} {request.rel_url}")
        if self.away:
            _abort(request)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.Response(status=401, text="{}")
        for mishap in [*self.mishaps]:
            reply = mishap(request)
            if reply is not None:
                return reply
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await self._pass_on(request)
        except (asyncio.CancelledError, aiohttp.ClientError):
            _abort(request)
        finally:
            self._under_way.discard(task)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
        url, body = self.upstream + str(request.rel_url), await request.read()
        async with self.session.request(request.method, url, headers=headers, data=body) as reply:
            for method, part in self._lost:
                if method == request.method and part in str(request.rel_url):
                    self._lost.remove((method, part))
                    _abort(request)
            kept = {k: v for k, v in reply.headers.items() if k.lower() not in HOP}
            out = web.StreamResponse(status=reply.status, headers=kept)
            await out.prepare(request)
            async for chunk in reply.content.iter_any():
                await out.write(chunk)
            await out.write_eof()
            return out


def _abort(request: web.Request) -> Any:
    if request.transport is not None:
        request.transport.abort()
    raise web.HTTPServiceUnavailable


@asynccontextmanager
async def a_front(kubeconfig: Path) -> AsyncIterator[Front]:
    """A front before the cluster of this kubeconfig (its current context)."""
    upstream, context, token = _administrator(yaml.safe_load(kubeconfig.read_text()))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=timeout, auto_decompress=False
    ) as session:
        front = Front(upstream, session)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", front.serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        front.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield front
        finally:
            front.cut()
            await runner.cleanup()


def write_kubeconfig(path: Path, url: str, user: dict[str, Any]) -> Path:
    """A kubeconfig for the front."""
    doc = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "front",
        "clusters": [{"name": "front", "cluster": {"server": url}}],
        "users": [{"name": "front", "user": user}],
        "contexts": [{"name": "front", "context": {"cluster": "front", "user": "front"}}],
    }
    path.write_text(json.dumps(doc))
    return path


def _administrator(doc: dict[str, Any]) -> tuple[str, ssl.SSLContext, str]:
    used = next(c["context"] for c in doc["contexts"] if c["name"] == doc["current-context"])
    cluster = next(c["cluster"] for c in doc["clusters"] if c["name"] == used["cluster"])
    user = next(u["user"] for u in doc["users"] if u["name"] == used["user"])
    authority = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(cadata=base64.b64decode(authority).decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if "client-certificate-data" in user:
        with tempfile.TemporaryDirectory() as folder:
            cert, key = Path(folder) / "cert", Path(folder) / "key"
            cert.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            context.load_cert_chain(cert, key)
    return cluster["server"], context, user.get("token", "")
