"""Whom do our clients believe over TLS, and what do they read before they must?"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from orchestrator.certificates import Authorities
from orchestrator.controller.admission import own_certificate


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(b"".join(own_certificate(["127.0.0.1"], datetime.now(UTC))))
    return file


@pytest.fixture(scope="module")
def secure(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as url:
        yield url


def test_who_is_named_by_the_environment_is_believed(
    secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with httpx.Client(verify=Authorities()) as client:
        assert client.get(secure).status_code == 204


async def test_so_is_it_on_an_event_loop(secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with httpx.AsyncClient(verify=Authorities()) as client:
        assert (await client.get(secure)).status_code == 204


def test_a_stranger_is_not_believed(secure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with httpx.Client(verify=Authorities()) as client, pytest.raises(httpx.ConnectError, match="self-signed"):
        client.get(secure)


async def test_an_environment_that_is_not_to_be_heeded_is_not(
    secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with httpx.AsyncClient(verify=Authorities(trust_env=False), trust_env=False) as client:
        with pytest.raises(httpx.ConnectError, match="self-signed"):
            await client.get(secure)


def test_plain_http_reads_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    with serving() as url, httpx.Client(verify=Authorities()) as client:
        assert client.get(url).status_code == 204
