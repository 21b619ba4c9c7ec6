"""One whole life with a secret wherever one can be given: afterwards none of them is in anything that came out.

Three mock clouds with tokens, a server with a token, and a store with keys, all as processes, as an operator runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.api.access import Scope
from orchestrator.cli.stage import PYTHON, Stage, scenario_clouds
from orchestrator.model.documents import job_from
from orchestrator.sdk import command_job
from orchestrator.sdk.errors import Invalid

PLANTED = {
    name: f"planted-{name}-{'0123456789abcdef' * 3}"
    for name in ("server-token", "wrong-token", "provider-token", "renewed-token", "store-key", "store-session")
}
KEPT_IN = {"tokens.json", "cloud.json", "connection.json", "token", "store-key"}
"""Files that an operator wrote, or a cloud for its customers: secrets are there because they belong there."""
READS = ("/metrics", "/v1/providers", "/v1/contracts", "/v1/jobs", "/v1/jobs/JOB", "/v1/jobs/JOB/offers", "/v1/events",
         "/v1/jobs/JOB/explain", "/v1/jobs/JOB/events", "/v1/jobs/JOB/logs", "/openapi.json", "/healthz")  # fmt: skip
COMMANDS = (["jobs"], ["job", "JOB", "--json"], ["explain", "JOB"], ["offers", "JOB"], ["logs", "JOB"],
            ["providers", "list"], ["providers", "check"], ["doctor"], ["audit", "export"])  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """An S3 server of this process, and a client of it that nobody else uses."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
    client.create_bucket(Bucket="runs")
    yield client
    server.stop()


@pytest.fixture(scope="module")
def stage(folder: Path, bucket: Any) -> Iterator[Stage]:
    """The demo's clouds, contracts and server, with plain processes for machines and secrets of ours."""
    (folder / "store-key").write_text(PLANTED["store-key"])
    os.environ["PLANTED_SESSION"] = PLANTED["store-session"]
    options = {"endpoint": bucket.meta.endpoint_url, "region": "us-east-1", "allow_http": "true", "access_key_id": "k"}
    keys = {"secret_access_key": f"file:{folder / 'store-key'}", "session_token": "env:PLANTED_SESSION"}
    settings = {
        "ORCHESTRATOR_STORE": "s3://runs/here",
        "ORCHESTRATOR_STORE_OPTIONS": json.dumps(options),
        "ORCHESTRATOR_STORE_SECRETS": json.dumps(keys),
        "ORCHESTRATOR_LOG_LEVEL": "debug",
        "ORCHESTRATOR_LOG_FORMAT": "json",
    }
    ours = {"machines": "process", "token": PLANTED["provider-token"]}
    clouds = {name: {**config, **ours} for name, config in scenario_clouds()}
    with Stage(folder, clouds, settings) as made:
        rows = [{"name": "owner", "token": PLANTED["server-token"], "scopes": list(Scope)}]
        (folder / "home").mkdir()
        (folder / "home" / "tokens.json").write_text(json.dumps({"tokens": rows}))
        (folder / "home" / "tokens.json").chmod(0o600)
        made.start_clouds()
        made.start_server()
        yield made


@pytest.fixture(scope="module")
def said(stage: Stage, folder: Path) -> dict[str, bytes]:
    """What came out over HTTP and from commands, while a job lived its life and things went wrong."""
    found: dict[str, bytes] = {}
    with stage.client() as client:
        work = {"count": 1, "gpus": 1, "accelerator": ["H100"]}
        job = client.submit(command_job(["python", "-c", "print('trained')"], folder=None, workers=work))
        with pytest.raises(Invalid, match=r"spec\.run\.secrets") as refused:
            client.submit(job_from({"spec": {"run": {"command": ["a"], "secrets": {"HF_TOKEN": "hf-token"}}}}))
        found["refused secrets"] = str(refused.value).encode()
        assert job.wait(timeout=90).state == "succeeded"
        found |= asked(stage, job.id)
        for token in (folder).glob("*/token"):
            token.write_text(PLANTED["renewed-token"])  # which no cloud knows
        stage.parts["server"].stop()
        stage.restart_server()
        stage.parts["server"].wait_for(stage.ready)
        lost = client.submit(command_job(["python", "-c", "1"], folder=None, workers=work))
        found |= {f"{name} without credentials": what for name, what in asked(stage, lost.id).items()}
    return found


def asked(stage: Stage, job: str) -> dict[str, bytes]:
    home = stage.folder / "home"
    url = json.loads((home / "server.json").read_text())["url"]
    found: dict[str, bytes] = {}
    for token in ("server-token", "wrong-token"):
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {PLANTED[token]}"}, timeout=20) as client:
            for path in READS:
                reply = client.get(path.replace("JOB", job))
                found[f"{path} {token}"] = reply.content + str(reply.headers).encode()
    environment = {**os.environ, "ORCHESTRATOR_HOME": str(home), **stage.settings}
    for command in COMMANDS:
        line = [*PYTHON, "orchestrator.cli.main", *(word.replace("JOB", job) for word in command)]
        done = subprocess.run(line, env=environment, capture_output=True, timeout=60, check=False)
        found[" ".join(command)] = done.stdout + done.stderr
    return found


def leaks(texts: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [
        (where, name) for where, text in texts.items() for name, secret in PLANTED.items() if secret.encode() in text
    ]


@pytest.mark.s3
@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_no_secret_comes_out_over_http_or_from_a_command(said: dict[str, bytes]) -> None:
    assert b"succeeded" in said["job JOB --json"] and b"trained" in said["logs JOB"]
    assert b"wrong" not in said["/v1/jobs server-token"] and b"unauthenticated" in said["/v1/jobs wrong-token"]
    assert b"token" in said["providers check without credentials"], said["providers check without credentials"]
    assert not leaks(said)


@pytest.mark.s3
@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_no_secret_is_in_the_ledger_or_in_logs(said: dict[str, bytes], folder: Path) -> None:
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file() and p.name not in KEPT_IN}
    assert {"home/ledger.db", "server.log", "azure/cloud.log"} <= set(files)
    assert not leaks({name: path.read_bytes() for name, path in files.items()})


@pytest.mark.s3
@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_no_secret_is_at_the_checkpoint_store(said: dict[str, bytes], bucket: Any) -> None:
    keys = [row["Key"] for row in bucket.list_objects_v2(Bucket="runs")["Contents"]]
    assert any("/log/" in key for key in keys) and any("/out/" in key for key in keys)
    assert not leaks({key: bucket.get_object(Bucket="runs", Key=key)["Body"].read() for key in keys})


def test_the_search_finds_what_is_there() -> None:
    assert leaks({"here": f"a {PLANTED['store-key']} b".encode()}) == [("here", "store-key")]
