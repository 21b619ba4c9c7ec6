"""Where the code of a job lies: at the store of its policy, where its agents look, and at no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.sdk import Client, Job, command_job
from tests.local.conftest import end_launches
from tests.real import ONE_PROVIDER, real

POLICIES = """  stores:
    main: {url: "file://HOME/main", jurisdiction: US}
    european: {url: "file://HOME/european", jurisdiction: EU}
  policies:
    default: {isolation: {check: 1s, limit: 10s, grace: 1s}}
    european: {store: european, isolation: {check: 1s, limit: 10s, grace: 1s}}
"""
RUN = ["python", "train.py"]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Of a server on this machine with two stores, and a policy for each."""
    text = ONE_PROVIDER.partition("  policies:")[0] + POLICIES.replace("HOME", str(tmp_path))
    connection = f"{{folder: {tmp_path / 'state'}, cpus: 8, gpus: 8, head: stand_in}}"
    (tmp_path / "providers.yaml").write_text(text.replace("ADAPTER", "local").replace("CONNECTION", connection))
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text("print('from the package')")
    with real(tmp_path, tmp_path / "providers.yaml") as server, Client(server.url, server.token) as made:
        yield made
    end_launches(tmp_path / "state")


def stores(home: Path) -> list[str]:
    """Those that hold a package."""
    return sorted(path.relative_to(home).parts[0] for path in home.glob("*/default/packages/*.zip"))


def over(job: Job) -> tuple[str, str]:
    """How it ended and what it printed."""
    return job.wait(timeout=60).state, "".join(job.logs())


def test_code_is_sent_to_the_store_of_the_jobs_policy_alone(client: Client, tmp_path: Path) -> None:
    job = client.submit(command_job(RUN, folder=tmp_path / "code", policy="european"))
    assert stores(tmp_path) == ["european"]
    assert over(job) == ("succeeded", "from the package")


def test_code_that_was_sent_before_is_copied_to_where_the_job_looks_for_it(client: Client, tmp_path: Path) -> None:
    digest = client.upload(tmp_path / "code")
    assert stores(tmp_path) == ["main"]
    run = {"package": {"digest": f"sha256:{digest}"}}
    job = client.submit(command_job(RUN, folder=None, run=run, policy="european"))
    assert over(job) == ("succeeded", "from the package")
    assert stores(tmp_path) == ["european", "main"]


def test_a_job_whose_code_is_gone_says_so(client: Client, tmp_path: Path) -> None:
    digest = client.upload(tmp_path / "code")
    [zip_file] = tmp_path.glob("main/default/packages/*.zip")
    zip_file.unlink()
    job = client.submit(command_job(RUN, folder=None, run={"package": {"digest": f"sha256:{digest}"}}))
    state, printed = over(job)
    assert (state, job.refresh().reason) == ("failed", "bad_package") and "is not in the store" in printed
