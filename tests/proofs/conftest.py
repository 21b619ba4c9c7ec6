"""The proofs' stage: clouds and a server of their own, and nothing left of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import pytest

from orchestrator.cli.stage import PYTHON, Part, Stage
from orchestrator.guardian import PR_SET_CHILD_SUBREAPER, _prctl, descendants, end_descendants
from orchestrator.model.wire import StoreRef
from orchestrator.rayhead.plan import free_ports

MARKS = (pytest.mark.proof, pytest.mark.heavy, pytest.mark.ray, pytest.mark.timeout(1800))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for mark in MARKS:
                item.add_marker(mark)


@pytest.fixture
def seed() -> int:
    """Printed, so that a run can be repeated: SEED=n."""
    chosen = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    print(f"\nSEED={chosen}")
    return chosen


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    before = set(descendants(os.getpid()))
    yield
    if not before:
        end_descendants()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets below it have little room."""
    path = Path(tempfile.mkdtemp(prefix="op-", dir="/tmp"))
    yield path
    if not os.environ.get("KEEP"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def stage(folder: Path) -> Iterator[Stage]:
    """The demo's stage, set."""
    with Stage(folder) as made:
        made.start_clouds()
        made.start_server()
        yield made


@dataclass
class Bucket:
    """A bucket, and the S3 server that holds it."""

    ref: StoreRef
    server: Part

    def away(self, seconds: float) -> None:
        """Nobody gets an answer for so long."""
        assert self.server.process
        self.server.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.server.process.send_signal(signal.SIGCONT)


@pytest.fixture
def s3(folder: Path) -> Iterator[Bucket]:
    """A bucket at an S3 server on this machine, as the server sees it."""

    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    server = Part("s3", [*PYTHON, "moto.server", "-H", "127.0.0.1", "-p", str(port)], {}, folder / "s3.log")
    os.environ["PROOF_STORE_SECRET"] = "s"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    server.start()
    try:
        server.wait_for(lambda: _answers(url))
        client.create_bucket(Bucket="runs")
        options = {"endpoint": url, "region": "us-east-1", "allow_http": "true", "access_key_id": "k"}
        secrets = {"secret_access_key": "env:PROOF_STORE_SECRET"}
        yield Bucket(StoreRef(name="default", url="s3://runs/proof", options=options, secrets=secrets), server)
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).status_code < 500
    except httpx.TransportError:
        return False


@pytest.fixture
def far_stage(folder: Path, s3: Bucket) -> Iterator[Stage]:
    """A stage whose jobs save at S3, which they reach only through their cloud's forwarder."""
    settings = {
        "ORCHESTRATOR_STORE": s3.ref.url,
        "ORCHESTRATOR_STORE_OPTIONS": json.dumps(dict(s3.ref.options)),
        "ORCHESTRATOR_STORE_SECRETS": json.dumps(dict(s3.ref.secrets)),
    }
    with Stage(folder, settings=settings) as made:
        made.clouds = {name: {**config, "store": s3.ref.options["endpoint"]} for name, config in made.clouds.items()}
        yield made
