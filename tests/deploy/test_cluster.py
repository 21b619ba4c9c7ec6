"""The chart on a real cluster, with the image that the Containerfile makes: one deployment's life, told in order."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.documents.views import JobView
from orchestrator.model.wire import StoreRef
from orchestrator.sdk import Job, command_job
from orchestrator.sdk.errors import Unauthenticated
from tests.deploy.deployed import ISOLATION, Deployed, until
from tests.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.helm, pytest.mark.kubernetes, pytest.mark.pods, pytest.mark.heavy, pytest.mark.timeout(900)]
LIMIT_S = int(ISOLATION["limit"].removesuffix("s"))
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def desk(cluster: Cluster, store_ref: StoreRef, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Installed by helm into a namespace of its own."""
    made = Deployed(cluster, f"desk-{secrets.token_hex(3)}", store_ref)
    meta = {"name": made.namespace, "labels": RESTRICTED}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    try:
        made.prepare()
        with made.volume():
            made.install(tmp_path_factory.mktemp("desk"))
            yield made
            made.helm("uninstall", "--wait")
    finally:
        cluster.kubectl("delete", "namespace", made.namespace, "--wait=false")


def work(seconds: float) -> list[str]:
    """User code that says each second that it runs; the first line names its process."""
    loop = f"[(print(n, flush=True), time.sleep(1)) for n in range({int(seconds)})]"
    return ["python", "-c", f"import os, time; print('begun by', os.getpid(), flush=True); {loop}"]


def running(desk: Deployed, seconds: float, **workers: Any) -> str:
    """A job of so many seconds, started."""
    with desk.client() as client:
        spec = {"count": 1, "gpus": 1, "cpus": 1, **workers}
        job = client.submit(command_job(work(seconds), folder=None, workers=spec))
        until(lambda: reached(job, "running"), lambda: f"{job.view}\n{desk.why()}", 240)
        return job.id


def reached(job: Job, state: str) -> bool:
    view = job.refresh()
    assert view.state == state or not view.ended, view
    return view.state == state


def ended(desk: Deployed, job: str) -> JobView:
    with desk.client() as client:
        found = client.job(job)
        found.wait(timeout=300)
        lines = [line for line in found.logs() if "begun by" in line]
        assert len(lines) == 1, lines
        return found.refresh()


def once(desk: Deployed, job: str) -> None:
    """It succeeded in its one and only attempt."""
    view = ended(desk, job)
    assert view.state == "succeeded", view
    assert len(view.attempts) == 1
    assert [name for name in desk.main_objects() if job.lower() in name] in ([], [f"{job.lower()}-e1"])


def test_it_is_ready_under_the_restricted_profile(desk: Deployed) -> None:
    desk.wait_ready()
    with desk.client("viewer") as client:
        assert [provider.name for provider in client.providers()] == ["here"]


def test_helm_test_passes(desk: Deployed) -> None:
    assert "Phase:          Succeeded" in desk.helm("test", "--timeout", "120s")


def test_nothing_is_missing_for_its_provider(desk: Deployed) -> None:
    with desk.client() as client:
        assert [(check.provider, check.missing) for check in client.check_providers()] == [("here", [])]


def test_a_job_goes_through(desk: Deployed) -> None:
    once(desk, running(desk, 3))


def test_the_pod_is_killed_and_nothing_is_lost(desk: Deployed) -> None:
    job = running(desk, 25)
    desk.kubectl("delete", desk.pod(), "--grace-period=0", "--force")
    desk.wait_ready()
    once(desk, job)


def test_an_upgrade_and_a_rollback_restart_no_job(desk: Deployed, tmp_path: Path) -> None:
    job = running(desk, 40)
    desk.install(tmp_path, "upgrade", "--set", "podAnnotations.version=two")
    assert "two" in desk.kubectl("get", desk.pod(), "-o", "jsonpath={.metadata.annotations.version}")
    desk.helm("rollback", "1", "--wait", "--timeout", "110s")
    assert "two" not in desk.kubectl("get", desk.pod(), "-o", "jsonpath={.metadata.annotations.version}")
    once(desk, job)


def test_nobody_serves_for_longer_than_the_limit_and_the_job_runs_on(desk: Deployed) -> None:
    job = running(desk, LIMIT_S + 25)
    desk.kubectl("scale", f"deployment/{desk.name}", "--replicas=0")
    time.sleep(LIMIT_S + 10)
    desk.kubectl("scale", f"deployment/{desk.name}", "--replicas=1")
    desk.wait_ready()
    once(desk, job)


def test_a_token_is_revoked_without_a_restart(desk: Deployed) -> None:
    """The kubelet brings a changed Secret within a minute and a half."""
    before = desk.pod()
    old = desk.tokens
    desk.prepare()
    fresh, desk.tokens = desk.tokens, old

    def revoked() -> bool:
        try:
            client.providers()
        except Unauthenticated:
            return True
        return False

    with desk.client("viewer") as client:
        until(revoked, desk.why, 150)
    desk.tokens = fresh
    with desk.client("viewer") as client:
        assert client.providers()
    assert desk.pod() == before
