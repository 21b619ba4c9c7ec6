"""The jobs' way to the store: what is put through it, logged, held and cut; on a real S3 server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from orchestrator.rayhead.plan import free_ports
from tests.mockcloud.conftest import Web

pytestmark = pytest.mark.s3
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=s"
}
ABSENT = {"If-None-Match": "*", **SIGNED}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_ports(1)[0], verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/bucket")
    yield f"http://{host}:{port}"
    server.stop()


async def test_bytes_go_through_and_are_logged(open_web: Any, store: str) -> None:
    web: Web = await open_web(store=store)
    data = bytes(range(256)) * 4096
    async with httpx.AsyncClient(base_url=(await web.client.get("/v1")).json()["storeUrl"]) as job:
        assert (await job.put("/bucket/j/log/1", content=data, headers=ABSENT)).status_code == 200
        assert (await job.get("/bucket/j/log/1", headers=SIGNED)).content == data
        assert (await job.head("/bucket/j/log/1", headers=SIGNED)).headers["content-length"] == str(len(data))
        assert (await job.put("/bucket/j/log/1", content=b"", headers=ABSENT)).status_code == 412
    lines = (await web.admin.get("/forwarder")).json()
    assert [(line["method"], line["status"]) for line in lines] == [
        ("PUT", 200), ("GET", 200), ("HEAD", 200), ("PUT", 412)
    ]  # fmt: skip
    assert {line["path"] for line in lines} == {"/bucket/j/log/1"}


@pytest.mark.fault("data plane lost while the API is fine")
async def test_one_entry_is_held_the_network_cut_and_the_entry_delivered_too_late(open_web: Any, store: str) -> None:
    web: Web = await open_web(store=store)
    here = (await web.client.get("/v1")).json()["storeUrl"]
    hold = {"on": "store", "method": "PUT", "path": "/k/log/", "body": "checkpoint", "do": "hold", "then": "outage"}
    await web.break_with(mishaps=[hold])
    async with httpx.AsyncClient(base_url=here) as job:
        assert (await job.put("/bucket/k/log/1", content=b'{"kind":"claim"}', headers=ABSENT)).status_code == 200
        with pytest.raises(httpx.TransportError):
            await job.put("/bucket/k/log/2", content=b'{"kind":"checkpoint"}', headers=ABSENT)
        await asyncio.sleep(0.05)
        with pytest.raises(httpx.ConnectError):
            await job.put("/bucket/k/log/2", content=b"again", headers=ABSENT)
    with pytest.raises(httpx.ConnectError):
        await web.client.get("/v1")
    assert (await web.admin.get("/faults")).json()["held"] == 1
    async with httpx.AsyncClient(base_url=store, headers=ABSENT) as controller:
        assert (await controller.put("/bucket/k/log/2", content=b"fence")).status_code == 200
    await web.admin.post("/join")
    await asyncio.sleep(0.3)
    last = (await web.admin.get("/forwarder")).json()[-1]
    assert (last["deed"], last["status"], last["path"]) == ("delivered", 412, "/bucket/k/log/2")


async def test_the_log_says_whose_process_sent_it(open_web: Any, store: str) -> None:
    web: Web = await open_web(store=store)
    url = (await web.client.get("/v1")).json()["storeUrl"]
    code = f"import urllib.request as u;u.urlopen(u.Request('{url}/bucket/sent',data=b'x',method='PUT'))"
    env = {"ORCHESTRATOR_MOCK_CLUSTER": "azure-0000cafe"}
    sender = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code, env=env)
    assert await sender.wait() == 0
    assert (await web.admin.get("/forwarder")).json()[-1]["cluster"] == "azure-0000cafe"
