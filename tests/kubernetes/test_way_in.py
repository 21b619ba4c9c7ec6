"""Every call takes the way to the API server that the kubeconfig names: through its proxy, to a server of that name."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from orchestrator.adapters.providers.kubernetes.client import CHANNELS, Client

SERVER, NAME = "far.test:6443", "kubernetes.test"
"""Where the proxy has to go, an address that nobody else knows; and what the server's certificate says."""


class Proxy:
    """An HTTP proxy that opens tunnels (CONNECT), all to one port of loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for NAME alone, signed by itself, and its key."""
    cert, key = str(folder / "cert"), str(folder / "key")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-days", "2"]
    made += ["-addext", f"subjectAltName=DNS:{NAME}", "-out", cert, "-keyout", key]
    subprocess.run(made, check=True, capture_output=True)
    return cert, key


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=(CHANNELS,))
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(message.data)
    return socket


async def version(request: web.Request) -> web.Response:
    return web.json_response({})


@asynccontextmanager
async def an_api_server(cert: str, key: str) -> AsyncIterator[int]:
    """The port of a TLS server that has a version, and a pod that says what it hears."""
    app = web.Application()
    app.add_routes([web.get("/version", version), web.get("/exec", echo)])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    async with an_api_server(*certificate(tmp_path)) as port:
        made = Proxy(port)
        async with await asyncio.start_server(made.join, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            cluster = {"server": f"https://{SERVER}", "certificate-authority": str(tmp_path / "cert")}
            cluster |= {"proxy-url": url, "tls-server-name": NAME}
            context = {"context": {"cluster": "far", "user": "me"}, "name": "far"}
            doc = {"current-context": "far", "clusters": [{"name": "far", "cluster": cluster}], "contexts": [context]}
            (tmp_path / "config").write_text(json.dumps(doc | {"users": [{"name": "me", "user": {"token": "t"}}]}))
            yield made


async def test_a_call_and_a_way_into_a_pod_go_through_the_kubeconfigs_proxy(proxy: Proxy, tmp_path: Path) -> None:
    client = Client("k", str(tmp_path / "config"), None)
    await client.alive()
    async with await client.socket("/exec", {"ports": 1}) as socket:
        await socket.send_bytes(b"hello")
        heard = await socket.receive()
    assert (heard.type, heard.data) == (aiohttp.WSMsgType.BINARY, b"hello")
    assert set(proxy.asked) == {SERVER}
    await client.aclose()
