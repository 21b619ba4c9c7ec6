"""What one look at an object comes to, without a cluster: lost answers, old keys, refusals, what is told and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.controller import turns
from orchestrator.controller.mirror import Fact, camel, condition, conditions
from orchestrator.controller.objects import job_of
from orchestrator.controller.server import PROGRESS_S, Server, Watch
from orchestrator.model.documents import DocumentError, job_bytes
from orchestrator.sdk import AsyncClient
from tests.controller.conftest import training_job
from tests.served import TOKEN, Served

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def reached(desk: Served) -> AsyncIterator[Server]:
    """The controller's view of a server that answers."""
    server = Server(lambda: AsyncClient(desk.url, TOKEN, patience_s=0.2, waiting_patience_s=0.2))
    async with server._connected() as client:
        await server._reached(client)
        yield server


def thing(uid: str = "u-1", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    body = training_job("digits", labels or {}, spec)
    body["metadata"] |= {"namespace": "team-a", "uid": uid, "generation": 1}
    return body


async def settled(server: Server, watch: Watch, body: dict[str, Any]) -> turns.Turn:
    """Look as long as the look itself wants another one."""
    for _ in range(5):
        watch.flag.clear()
        turn = await turns.look(server, watch, body, NOW)
        if not watch.flag.is_set():
            return turn
    raise AssertionError("it never settles")


async def test_the_intention_is_written_before_the_server_is_asked(desk: Served) -> None:
    async with reached(desk) as server:
        watch = server.watch("u-1", {})
        turn = await turns.look(server, watch, thing(), NOW)
        assert condition(turn.status, "Submitted")["status"] == "Unknown" and watch.flag.is_set()
        assert desk.tell(lambda d: len(d._rows)) == 0
        await settled(server, watch, thing())
        assert desk.tell(lambda d: list(d._rows)) == [watch.status["job"]]


async def test_a_lost_answer_makes_no_second_job(desk: Served) -> None:
    async with reached(desk) as server:
        first = server.watch("u-1", {})
        await settled(server, first, thing())
        forgotten = {key: value for key, value in first.status.items() if key not in ("job", "state")}
        again = Watch(forgotten)
        await settled(server, again, thing())
        assert again.status["job"] == first.status["job"]


async def lost(server: Server, *, since: datetime = NOW) -> tuple[Watch, str]:
    """An object whose submission was taken in and whose answer was lost; and the job's id."""
    first = server.watch("u-1", {})
    await settled(server, first, thing())
    asked = conditions((), [Fact("Submitted", "Unknown", "Submitting")], since, 1)
    return Watch({"conditions": asked}), first.status["job"]


@pytest.mark.parametrize("labels", [{"late": "yes"}, {"orchestrator.dev/group": "sweep"}])
async def test_labels_changed_before_the_answer_lose_no_job(desk: Served, labels: dict[str, str]) -> None:
    async with reached(desk) as server:
        again, job = await lost(server)
        await settled(server, again, thing(labels=labels))
        assert again.status["job"] == job and condition(again.status, "Submitted")["status"] == "True"


@pytest.mark.parametrize("labels", [{}, {"late": "yes"}, {"x" * 64: "no label of ours"}])
async def test_a_deletion_after_a_lost_answer_ends_the_job(desk: Served, labels: dict[str, str]) -> None:
    async with reached(desk) as server:
        again, job = await lost(server)
        await settled(server, again, thing(labels=labels))
        await turns.end(server, again, thing(labels=labels), NOW)
        async with server.asked() as client:
            assert (await client.job(job)).view.cancel_asked
        assert desk.tell(lambda d: list(d._rows)) == [job]


async def test_a_deletion_waits_for_machines_of_a_job_that_was_over_when_its_answer_was_lost(desk: Served) -> None:
    async with reached(desk) as server:
        again, job = await lost(server)
        desk.tell(lambda d: (d.machines.add(job), d.play(job)))
        assert not (await turns.end(server, again, thing(), NOW)).over and again.status["machines"] == "ending"
        desk.tell(lambda d: d.machines.discard(job))
        assert (await turns.end(server, again, thing(), NOW)).over and again.status["machines"] == "gone"


async def test_a_deletion_waits_for_machines_of_earlier_attempts(desk: Served) -> None:
    """Cancelled in the queue, it is over at once; what it ran on before is not."""
    async with reached(desk) as server:
        watch = server.watch("u-1", {})
        await settled(server, watch, thing())
        desk.tell(lambda d: d.machines.add(watch.status["job"]))
        turn = await turns.end(server, watch, thing(), NOW)
        assert (turn.over, watch.status["state"], watch.status["machines"]) == (False, "cancelled", "ending")


@pytest.mark.parametrize(("over_s", "pause_s"), [(-5, 1), (0, 1), (60, 6), (3600, 60)])
def test_machines_that_stay_for_long_are_asked_for_less_often(over_s: float, pause_s: float) -> None:
    """A provider that is away for hours keeps the jobs that ran there ending: thousands of them are no flood."""
    assert turns.ending_pace(timedelta(seconds=over_s)) == pause_s


async def test_labels_gone_wrong_before_the_answer_leave_it_unknown(desk: Served) -> None:
    async with reached(desk) as server:
        again, _ = await lost(server)
        await settled(server, again, thing(labels={"x" * 64: "no label of ours"}))
        assert (again.status["state"], again.status["reason"]) == ("refused", "invalid")
        assert condition(again.status, "Submitted")["status"] == "Unknown"


async def test_a_deletion_by_an_old_key_makes_no_job_and_warns(desk: Served) -> None:
    old = conditions((), [Fact("Submitted", "Unknown", "Submitting")], NOW - timedelta(days=8), 1)
    async with reached(desk) as server:
        turn = await turns.end(server, Watch({"conditions": old}), thing(), NOW)
        assert turn.over and desk.tell(lambda d: len(d._rows)) == 0
    (line,) = turn.lines
    assert (camel(line.kind), line.tone) == ("KeyExpired", "warn") and "orchestrator jobs" in line.text


@pytest.mark.parametrize(("spec", "known", "told", "said"), [
    ({}, {"job": "0" * 26}, "UnknownJob", f"knows no job {'0' * 26}"),
    ({"run": {"command": ["a"], "package": {"digest": "sha256:" + "0" * 64}}}, {}, "Invalid", "no such package"),
    ({"divisible": True, "workers": {"count": 2}}, {}, "Invalid", "an object stands for one job"),
])  # fmt: skip
async def test_a_deletion_that_finds_no_job_warns(
    desk: Served, spec: dict[str, Any], known: dict[str, Any], told: str, said: str
) -> None:
    """Another server, a fresh ledger, a document that a newer version refuses: machines of it may run on."""
    asked = conditions((), [Fact("Submitted", "Unknown", "Submitting")], NOW, 1)
    async with reached(desk) as server:
        turn = await turns.end(server, Watch({"conditions": asked} | known), thing(**spec), NOW)
    (line,) = turn.lines
    assert turn.over and (camel(line.kind), line.tone) == (told, "warn")
    assert said in line.text and "`orchestrator cancel` ends it" in line.text


@pytest.mark.parametrize("status", [404, 413, 422])
async def test_an_answer_of_whatever_stands_before_the_server_lets_no_object_go(desk: Served, status: int) -> None:
    """An ingress without a backend, say: the job runs on, and its end is still to be seen to."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="default backend")

    async with reached(desk) as server:
        watch = server.watch("u-1", {})
        await settled(server, watch, thing())
        (ingress := web.Application()).router.add_route("*", "/{path:.*}", answer)
        async with TestServer(ingress) as front, AsyncClient(str(front.make_url("")), TOKEN) as server._client:
            turn = await turns.end(server, watch, thing(), NOW)
    said = condition(turn.status, "Synced")
    assert not turn.over and said["reason"] == "ServerUnreachable" and "default backend" in said["message"]


async def test_what_was_refused_at_first_goes_without_a_warning(desk: Served) -> None:
    async with reached(desk) as server:
        watch = server.watch("u-1", {})
        missing = {"command": ["a"], "package": {"digest": "sha256:" + "0" * 64}}
        await settled(server, watch, thing(run=missing))
        assert await turns.end(server, watch, thing(run=missing), NOW) == turns.Turn(over=True)


async def test_nobody_submits_what_the_server_may_have_forgotten(desk: Served) -> None:
    old = [Fact("Submitted", "Unknown", "Submitting")]
    async with reached(desk) as server:
        watch = Watch({"conditions": conditions((), old, NOW - timedelta(days=8), 1)})
        await settled(server, watch, thing())
        assert watch.status["reason"] == "key_expired" and "orchestrator jobs" in watch.status["message"]
        assert desk.tell(lambda d: len(d._rows)) == 0


async def test_a_package_that_is_not_there_is_said_and_tried_again(desk: Served) -> None:
    async with reached(desk) as server:
        watch = server.watch("u-1", {})
        missing = {"command": ["a"], "package": {"digest": "sha256:" + "0" * 64}}
        await settled(server, watch, thing(run=missing))
        assert (watch.status["state"], watch.status["reason"]) == ("refused", "invalid")
        assert "no such package" in condition(watch.status, "Submitted")["message"]
        assert condition(watch.status, "Submitted")["status"] == "False"


async def test_a_refusal_after_a_lost_answer_does_not_mean_that_there_is_no_job(desk: Served) -> None:
    """It was asked before: a newer version refuses what an earlier one took in, before it looks for the key."""
    asked = conditions((), [Fact("Submitted", "Unknown", "Submitting")], NOW, 1)
    async with reached(desk) as server:
        watch = Watch({"conditions": asked})
        await settled(server, watch, thing(run={"command": ["a"], "package": {"digest": "sha256:" + "0" * 64}}))
    assert (watch.status["state"], watch.status["reason"]) == ("refused", "invalid")
    assert condition(watch.status, "Submitted")["status"] == "Unknown"


async def test_a_wrong_token_is_said_on_the_object(desk: Served) -> None:
    server = Server(lambda: AsyncClient(desk.url, "x" * 40, patience_s=0.2))
    server._client, server.away = server._connect(), ""
    watch = server.watch("u-1", {"job": "0" * 26, "state": "running"})
    await turns.look(server, watch, thing(), NOW)
    await server._client.close()
    assert condition(watch.status, "Synced")["reason"] == "TokenUnknown" and watch.status["state"] == "running"


async def test_nothing_is_sent_while_the_server_is_away(desk: Served) -> None:
    server = Server(lambda: AsyncClient(desk.url, TOKEN))
    watch = server.watch("u-1", {})
    await turns.look(server, watch, thing(), NOW)
    assert (watch.status["state"], watch.status["reason"]) == ("pending", "server_unreachable")
    assert (await turns.end(server, watch, thing(), NOW)).over, "and nothing has to be ended"


async def test_events_are_told_once(desk: Served) -> None:
    async with reached(desk) as server:
        watch = server.watch("u-1", {})
        await settled(server, watch, thing())
        desk.tell(lambda d: d.play(watch.status["job"]))
        assert len((await settled(server, watch, thing())).lines) > 3
        again = await settled(server, watch, thing())
        assert again.lines == () and again.status == {}


async def test_only_events_of_its_own_job_raise_a_flag(desk: Served) -> None:
    async with reached(desk) as server:
        one, other = server.watch("u-1", {}), server.watch("u-2", {})
        await settled(server, one, thing("u-1"))
        await settled(server, other, thing("u-2"))
        async with server.asked() as client:
            head = (await client.in_force()).head
            desk.tell(lambda d: d.play(one.status["job"]))
            async for event in client.events(after=head):
                await server._heard(client, event)
        assert one.flag.is_set() and not other.flag.is_set()
        assert server.progress_pace() == PROGRESS_S


def test_a_condition_keeps_the_moment_of_its_change() -> None:
    first = conditions((), [Fact("Running", "False", "Queued")], NOW, 1)
    later = conditions(first, [Fact("Running", "False", "Offering")], NOW + timedelta(hours=1), 2)
    assert (later[0]["lastTransitionTime"], later[0]["reason"]) == (first[0]["lastTransitionTime"], "Offering")
    assert later[0]["observedGeneration"] == 2


@pytest.mark.parametrize(
    ("code", "word"), [("start_by_passed", "StartByPassed"), ("", ""), ("invalid-job", "InvalidJob")]
)
def test_reasons_are_one_word(code: str, word: str) -> None:
    assert camel(code) == word


def test_an_object_is_the_same_document_as_a_file() -> None:
    body = thing(labels={"team": "vision", "orchestrator.dev/group": "sweep-7"}, ceilingUsdPerGpuHour=3.1)
    body["metadata"] |= {"annotations": {"a": "b"}, "managedFields": [], "resourceVersion": "7"}
    said = job_bytes(job_of(body))
    assert b'"group":"sweep-7"' in said and b'"labels":{"team":"vision"}' in said
    assert b'"ceilingUsdPerGpuHour":3100000' in said and b'"project":"team-a"' in said


def test_a_folder_is_refused_with_the_remedy() -> None:
    with pytest.raises(DocumentError, match="orchestrator pack DIR --project team-a"):
        job_of(thing(run={"command": ["a"], "package": {"dir": "."}}))


def test_an_object_is_one_job_so_it_is_not_divisible() -> None:
    with pytest.raises(DocumentError, match="an object stands for one job"):
        job_of(thing(divisible=True, workers={"count": 2}))
