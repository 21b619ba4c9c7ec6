"""What becomes of an applied object: a job at the server, and a status that follows it."""

from __future__ import annotations

import signal

import pytest

from orchestrator import Client
from orchestrator.model import event as kinds
from orchestrator.ports.desk import Progress
from tests.controller.conftest import Controller, Space, condition, until
from tests.served import TOKEN, Served

ACCEPTED = kinds.OfferAnswered(n=1, accepted=True, price=2_600_000, region="us-east", terms="0" * 64)
INTENDED = kinds.Intended(
    epoch=1, offer=1, provider="oracle", region="us-east", accelerator="H100", price=2_600_000, contract=1, episode=1
)
OPENED = kinds.OfferOpened(
    n=1, provider="oracle", episode=1, round=1, contract=1, providers=1, terms="0" * 64, window=3_600_000_000
)
DELIVERED = kinds.OfferDelivered(n=1, ref="r1", sent="0" * 64)
STARTED = kinds.Started(epoch=1, waited_ms=0, cleared=True)
RUNNING = (OPENED, DELIVERED, ACCEPTED, INTENDED, kinds.LaunchConfirmed(epoch=1), STARTED)
pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]


def test_an_applied_object_becomes_a_job_of_its_namespace(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits", labels={"team": "vision"}, maxRuntime="2h")
    status = space.reaches("digits", "queued")
    with Client(server.url, TOKEN) as client:
        job = client.job(status["job"]).view
    assert (job.project, job.name) == (space.name, "digits")
    assert job.document is not None and job.document["metadata"]["labels"] == {"team": "vision"}
    assert condition(status, "Submitted")["status"] == "True" and status["observedGeneration"] == 1


def test_a_whole_life_is_told(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    job = space.reaches("digits", "queued")["job"]
    server.tell(lambda desk: desk.play(job))
    status = space.reaches("digits", "succeeded")
    assert (status["provider"], status["region"], status["attempt"], status["exitCode"]) == ("oracle", "us-east", 1, 0)
    assert [condition(status, kind)["status"] for kind in ("Complete", "Failed", "Running")] == [
        "True",
        "False",
        "False",
    ]
    told = until(lambda: len(found := space.told("digits")) >= 7 and found, "every line of it is told")
    assert [
        ("Normal", "OfferOpened") in [row[:2] for row in told],
        ("Warning", "OfferAnswered") in [row[:2] for row in told],
    ]
    said = " ".join(message for _, _, message in told)
    assert "azure" in said and "capacity" in said and "oracle" in said


def test_a_running_job_shows_where_and_how_far(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    job = space.reaches("digits", "queued")["job"]
    report = Progress(epoch=1, step=120, loss="0.31", checkpoint_step=100)
    server.tell(lambda desk: desk.report(job, report))
    server.tell(lambda desk: desk.tell(job, *RUNNING))
    space.reaches("digits", "running")
    shown = space.kubectl("get", "trainingjobs").splitlines()
    assert shown[0].split() == ["NAME", "STATE", "PROVIDER", "ATTEMPT", "STEP", "REASON", "AGE"]
    assert shown[1].split()[:5] == ["digits", "running", "oracle", "1", "120"]


def test_describe_shows_offers_and_reasons(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    job = space.reaches("digits", "queued")["job"]
    server.tell(lambda desk: desk.play(job))
    space.reaches("digits", "succeeded")
    until(lambda: len(space.told("digits")) >= 7, "every line of it is told")
    described = space.kubectl("describe", "trainingjob", "digits")
    assert "OfferAnswered" in described and "declined" in described and "Complete" in described


def test_deleting_cancels_and_waits_for_the_end(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    job = space.reaches("digits", "queued")["job"]
    server.tell(lambda desk: desk.tell(job, *RUNNING))
    space.reaches("digits", "running")
    space.kubectl("delete", "trainingjob", "digits", "--wait=false")
    assert space.reaches("digits", "stopping")["attempt"] == 1
    server.tell(lambda desk: desk.tell(job, kinds.Ended(epoch=1, how="released", why="stopped"), kinds.Cancelled()))
    until(lambda: not space.kubectl("get", "trainingjobs", "-o", "name"), "it is gone")
    assert server.tell(lambda desk: desk._rows[job].state) == "cancelled"


def test_what_is_over_can_be_deleted_at_once(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    job = space.reaches("digits", "queued")["job"]
    server.tell(lambda desk: desk.play(job, exit_code=1))
    assert space.reaches("digits", "failed")["reason"] == "user_failure"
    space.kubectl("delete", "trainingjob", "digits", "--timeout=10s")


def test_a_job_cancelled_elsewhere_shows_it(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    job = space.reaches("digits", "queued")["job"]
    with Client(server.url, TOKEN) as client:
        client.job(job).cancel()
    status = space.reaches("digits", "cancelled")
    assert condition(status, "Failed")["reason"] == "Cancelled"


def test_the_controller_may_end_and_start_again(space: Space, server: Served, controller: Controller) -> None:
    space.apply("before")
    job = space.reaches("before", "queued")["job"]
    controller.end(signal.SIGKILL)
    server.tell(lambda desk: desk.play(job))
    controller.start()
    assert space.reaches("before", "succeeded")["job"] == job
    told = until(lambda: len(found := space.told("before")) >= 7 and found, "what happened meanwhile is told")
    assert len({message for _, _, message in told}) == len(told), "and told once"
    with Client(server.url, TOKEN) as client:
        assert [one.id for one in client.jobs(project=space.name)] == [job]


def test_deleting_waits_for_the_machines_too(space: Space, server: Served, controller: Controller) -> None:
    space.apply("digits")
    job = space.reaches("digits", "queued")["job"]
    server.tell(lambda desk: desk.machines.add(job))
    server.tell(lambda desk: desk.play(job))
    space.reaches("digits", "succeeded")
    until(lambda: space.status("digits").get("machines") == "ending", "its machines are seen")
    space.kubectl("delete", "trainingjob", "digits", "--wait=false")
    assert space.status("digits")["machines"] == "ending"
    server.tell(lambda desk: desk.machines.discard(job))
    until(lambda: not space.kubectl("get", "trainingjobs", "-o", "name"), "it is gone")
