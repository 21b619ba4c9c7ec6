"""A way to an S3 server on which one run-log entry can be held: sent in time, it arrives too late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from orchestrator.model.wire import StoreRef

HOLD_S = 900.0
"""Longer than any test that lets one go."""
HOP = {"host", "transfer-encoding", "connection", "content-length"}


class Customs:
    """What is held, and how the store answered it in the end."""

    def __init__(self, upstream: str) -> None:
        self.upstream = httpx.Client(base_url=upstream, timeout=60)
        self.wanted, self.held, self.open = threading.Event(), threading.Event(), threading.Event()
        self.answered: list[int] = []

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """Pass a request on; the first checkpoint entry after `wanted` is set waits for `open`."""
        mine = method == "PUT" and "/log/" in path and b"checkpoint" in body and self.wanted.is_set()
        if mine:
            self.wanted.clear()
            self.held.set()
            self.open.wait(HOLD_S)
        reply = self.upstream.request(method, path, headers=headers, content=body)
        if mine:
            self.answered.append(reply.status_code)
        return reply


@contextmanager
def a_customs_post(host: str, store: StoreRef) -> Iterator[tuple[Customs, StoreRef]]:
    """The post, and the store as it is reached through it."""
    customs = Customs(store.options["aws_endpoint"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            reply = customs.forward(self.command, self.path, headers, body)
            kept = {k: v for k, v in reply.headers.items() if k.lower() not in HOP | {"content-encoding"}}
            length = reply.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(reply.content))
            self.send_response(reply.status_code)
            for name, value in (kept | {"Content-Length": length}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else reply.content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://{host}:{server.server_address[1]}"
        yield customs, replace(store, options={**store.options, "aws_endpoint": endpoint})
    finally:
        customs.open.set()
        server.shutdown()
        server.server_close()
