"""A proxy of the environment is for servers elsewhere: it hears nothing of what is said to one on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from orchestrator import AsyncClient, Client, command_job
from orchestrator.sdk.address import Address
from orchestrator.sdk.errors import Unreachable
from tests.served import TOKEN, Served


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What a proxy heard that everybody is told to use; it answers nobody."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if not (asked := connection.recv(65536)):
                        return
                    heard.append(asked)

        where = listener.getsockname()[:2]
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://{}:{}".format(*where))
            monkeypatch.setenv(name.lower(), "http://{}:{}".format(*where))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        thread = threading.Thread(target=listen)
        thread.start()
        yield heard
        socket.create_connection(where).close()
        thread.join()


def test_a_proxy_hears_nothing_of_calls_to_this_machine(server: Served, proxy: list[bytes]) -> None:
    with Client(patience_s=0.2) as client:
        assert list(client.jobs()) == []
    assert not proxy


async def test_nor_of_those_of_an_event_loop_nor_of_sockets(server: Served, proxy: list[bytes]) -> None:
    async with AsyncClient(patience_s=0.2) as client:
        job = await client.submit(command_job(["python", "train.py"], folder=None))
        server.tell(lambda desk: desk.play_on(job.id))
        async with job.run_in(["exit", "3"]) as session:
            assert [said async for said in session] == [] and session.code == 3
    assert not proxy


def test_a_server_elsewhere_is_called_through_it(proxy: list[bytes]) -> None:
    with Client("http://desk.example", TOKEN, patience_s=0.2) as client, pytest.raises(Unreachable):
        list(client.jobs())
    assert proxy and proxy[0].startswith(b"GET http://desk.example/v1/jobs")


@pytest.mark.parametrize(("url", "here"), [
    ("http://127.0.0.1:7380", True), ("http://127.8.0.1", True), ("http://[::1]:7380", True),
    ("https://localhost", True), ("http://10.0.0.1", False), ("http://localhost.example", False),
])  # fmt: skip
def test_who_is_on_this_machine(url: str, here: bool) -> None:
    assert Address(url, TOKEN).here is here
