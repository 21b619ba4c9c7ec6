"""The listening socket: where it listens, and that answers leave at once."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from orchestrator.api.server import PortTaken, bind, serve, url_of


async def _hello(scope: object, receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"hello"})  # type: ignore[operator]


async def test_it_answers_until_told_to_stop() -> None:
    stop, up = asyncio.Event(), asyncio.Event()
    with bind("127.0.0.1", 0) as sock:
        serving = asyncio.create_task(serve(_hello, sock, stop, up.set))  # type: ignore[arg-type]
        await up.wait()
        async with httpx.AsyncClient() as client:
            assert (await client.get(url_of(sock))).text == "hello"
        stop.set()
        await serving


def test_answers_are_not_held_back_for_an_acknowledgement() -> None:
    with bind("127.0.0.1", 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY


def test_a_taken_port_is_named() -> None:
    with bind("127.0.0.1", 0) as sock, pytest.raises(PortTaken, match="ORCHESTRATOR_PORT"):
        bind("127.0.0.1", sock.getsockname()[1])


def test_an_address_of_others_is_refused() -> None:
    with pytest.raises(PortTaken):
        bind("192.0.2.1", 0)
