"""A cluster for the tests below, a namespace of its own for each, and a checkpoint store that pods reach."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
import httpx
import pytest

from orchestrator.model.wire import StoreRef
from orchestrator.rayhead.plan import free_ports
from orchestrator.runlog.store import Store, open_store
from tests.kubernetes.cluster import Cluster, Doc, a_cluster

S3_KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that the environment names."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """Fresh, with Pod Security `restricted` enforced, a Secret `store` with the store's keys; gone afterwards."""
    with a_namespace(cluster) as name:
        yield name


@contextmanager
def a_namespace(cluster: Cluster) -> Iterator[str]:
    """See `namespace`, in any cluster."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    space: Doc = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    meta = {"name": "store", "namespace": name}
    cluster.apply(space, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": S3_KEYS})
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def store_ref(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreRef]:
    """A bucket on an S3 server at the address by which pods reach this machine (and this machine itself)."""
    host = os.environ.get("KUBERNETES_TEST_HOST", "127.0.0.1")
    with an_s3_server(host, tmp_path_factory.mktemp("s3") / "log") as ref:
        yield ref


@contextmanager
def an_s3_server(host: str, log: Path, told: Mapping[str, str] | None = None) -> Iterator[StoreRef]:
    """A bucket on an S3 server that listens on this address alone; `told`: its environment, beside ours."""
    port = free_ports(1)[0]
    url = f"http://{host}:{port}"
    with log.open("ab") as output:
        command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(told or {})})
    try:
        _answers(url, log)
        keys = {name.lower(): value for name, value in S3_KEYS.items()}
        s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        s3.create_bucket(Bucket="runs")
        os.environ.update(S3_KEYS)
        options = {"aws_endpoint": url, "aws_region": "us-east-1", "allow_http": "true"}
        secret = {"aws_access_key_id": "env:AWS_ACCESS_KEY_ID", "aws_secret_access_key": "env:AWS_SECRET_ACCESS_KEY"}
        yield StoreRef(name="main", url="s3://runs", options=options, secrets=secret)
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def store(store_ref: StoreRef) -> Store:
    """The same, opened from here."""
    return open_store(store_ref)


def _answers(url: str, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            httpx.get(url, timeout=2)
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"the S3 server does not answer; see {log}")
