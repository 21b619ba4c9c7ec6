"""Whom does an HTTP client of ours believe? The machine's authorities, read when the first TLS connection is made.

Reading them takes 50 ms of CPU, nearly all that it costs to make a client, and most of ours speak plain HTTP, to this
machine or inside of a cluster. Called by whoever makes an `httpx` client.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import httpx


class Authorities(ssl.SSLContext):
    """Give it as `verify`: a client then believes whom httpx believes by default, and costs nothing before it must."""

    _protocols: tuple[str, ...] = ()
    _read_env: bool

    def __new__(cls, *, trust_env: bool = True) -> Authorities:
        """`trust_env`: as the client's, whether SSL_CERT_FILE and SSL_CERT_DIR are heeded."""
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made._read_env = trust_env
        return made

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """What httpx speaks."""
        self._protocols = tuple(alpn_protocols)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """A connection of an event loop; anyio calls this in a thread."""
        return self._whole.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """A connection that blocks."""
        return self._whole.wrap_socket(*args, **kwargs)

    @cached_property
    def _whole(self) -> ssl.SSLContext:
        made = httpx.create_ssl_context(trust_env=self._read_env)
        made.set_alpn_protocols(self._protocols)
        return made
