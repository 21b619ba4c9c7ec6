"""A bucket at an S3 server in this process, for tests of what reaches checkpoint stores; they are marked `s3`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.model.wire import StoreRef

SECRET = "TEST_STORE_SECRET"


@contextmanager
def a_bucket() -> Iterator[StoreRef]:
    """An empty one, as a store of ours."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    ).create_bucket(Bucket="runs")
    os.environ[SECRET] = "s"
    yield StoreRef(
        name="s3",
        url="s3://runs/deep",
        options={"endpoint": url, "region": "us-east-1", "allow_http": "true", "access_key_id": "k"},
        secrets={"secret_access_key": f"env:{SECRET}"},
    )
    server.stop()
