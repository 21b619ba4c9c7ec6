"""What becomes of an applied object: a job at the server, and a status that follows it."""

from __future__ import annotations

import pytest

from orchestrator import Client
from tests.controller.conftest import Controller, Space, condition, until
from tests.served import TOKEN, Served

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


def test_an_applied_object_becomes_a_job_of_its_namespace(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits", labels={"team": "vision"}, maxRuntime="2h")
    status = space.reaches("digits", "queued")
    with Client(server.url, TOKEN) as client:
        job = client.job(status["job"]).view
    assert (job.project, job.name) == (space.name, "digits")
    assert job.document is not None and job.document["metadata"]["labels"] == {"team": "vision"}
    assert condition(status, "Submitted")["status"] == "True" and status["observedGeneration"] == 1
