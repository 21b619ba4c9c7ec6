"""What was found comes to stand in an object's status, in spite of policies, cut-off replies and API servers away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import kopf
import pytest

from orchestrator.controller.handlers import AGAIN_S, JOBS, SETS, mirrored, released
from orchestrator.controller.writing import Statuses, Unwritten, client_of
from tests.controller.conftest import Controller, Space, condition, until
from tests.controller.test_turns import reached, thing
from tests.kubernetes.cluster import Cluster
from tests.served import Served

Answer = Callable[[httpx.Request], httpx.Response]


def cut_off(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def says(code: int) -> Answer:
    return lambda request: httpx.Response(code, text="denied by a policy")


class Api:
    """An API server that gives these answers, one after the other, and the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[httpx.Request] = []
        self.clients = 0
        self._answers = list(answers)

    def connect(self) -> httpx.AsyncClient:
        self.clients += 1
        return httpx.AsyncClient(base_url="https://api", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer(request)


@pytest.mark.parametrize("trouble", [cut_off, says(401), says(409), says(429), says(500)])
@pytest.mark.looptime
async def test_what_may_go_well_the_next_time_is_tried_again_by_a_new_client(trouble: Answer) -> None:
    api = Api(trouble, says(200))
    await Statuses(api.connect).write(JOBS, thing(), {"state": "queued", "reason": None})
    first, again = api.asked
    assert first.url == again.url and json.loads(again.content) == {"status": {"state": "queued", "reason": None}}
    assert again.url.path == "/apis/orchestrator.dev/v1alpha1/namespaces/team-a/trainingjobs/digits/status"
    assert api.clients == 2


@pytest.mark.parametrize(("answers", "tries"), [([says(400)], 1), ([says(403)], 1), ([says(422)], 1), ([cut_off], 5)])
@pytest.mark.looptime
async def test_what_is_not_taken_is_said(answers: list[Answer], tries: int) -> None:
    api = Api(*answers)
    with pytest.raises(Unwritten, match=r"policy|peer closed"):
        await Statuses(api.connect).write(SETS, {"metadata": {"name": "agreed"}}, {"reason": "Loaded"})
    assert len(api.asked) == tries and api.asked[0].url.path.endswith("/v1alpha1/contractsets/agreed/status")


async def test_an_object_that_is_gone_and_a_status_as_it_was_are_no_trouble() -> None:
    api = Api(says(404))
    statuses = Statuses(api.connect)
    await statuses.write(JOBS, thing(), {"state": "queued"})
    await statuses.write(JOBS, thing(), {})
    await statuses.close()
    assert len(api.asked) == 1


async def test_it_takes_the_way_that_kopf_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for the world outside, as pods often have one, does not lead to the API server."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for told in (False, True):
        async with client_of(kopf.ConnectionInfo(server="https://10.96.0.1", trust_env=told)) as http:
            assert bool(http._mounts) is told


async def test_a_policy_that_goes_away_lets_the_job_be_submitted(desk: Served) -> None:
    """The intention has to stand before the server is asked; until then it counts as not written."""
    api, body = Api(says(422), says(200)), kopf.Body(thing())
    async with reached(desk) as server:
        statuses, watch = Statuses(api.connect), server.watch("u-1", {})
        await mirrored(server, statuses, watch, body)
        assert (watch.status, watch.pause_s, watch.flag.is_set()) == ({}, AGAIN_S, False)
        assert desk.tell(lambda d: len(d._rows)) == 0
        await mirrored(server, statuses, watch, body)
        assert condition(watch.status, "Submitted")["status"] == "Unknown" and watch.flag.is_set()


async def test_a_look_that_breaks_is_taken_again_at_once(desk: Served) -> None:
    async with reached(desk) as server:
        watch = server.watch("u-1", {})
        watch.flag.clear()
        with pytest.raises(KeyError):
            await mirrored(server, Statuses(), watch, kopf.Body({"metadata": {}}))
        assert watch.flag.is_set() and watch.status == {}


async def test_a_deleted_object_goes_although_its_status_is_not_taken(desk: Served) -> None:
    async with reached(desk) as server:
        statuses, watch = Statuses(Api(says(422)).connect), server.watch("u-1", {"state": "pending"})
        assert await released(server, statuses, watch, kopf.Body(thing()))


@contextmanager
def denied(cluster: Cluster, space: Space) -> Iterator[None]:
    """While nobody may write a status in this namespace. An object `probe` is there."""
    rule = {"apiGroups": ["orchestrator.dev"], "apiVersions": ["*"], "operations": ["UPDATE"]}
    where = {"matchLabels": {"kubernetes.io/metadata.name": space.name}}
    matches = {"resourceRules": [{**rule, "resources": ["trainingjobs/status"]}], "namespaceSelector": where}
    spec = {"matchConstraints": matches, "validations": [{"expression": "false", "message": "frozen"}]}
    binding = {"policyName": space.name, "validationActions": ["Deny"]}
    kinds = {"ValidatingAdmissionPolicy": spec, "ValidatingAdmissionPolicyBinding": binding}
    meta = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": space.name}}
    cluster.apply(*({**meta, "kind": kind, "spec": spec} for kind, spec in kinds.items()))
    try:
        patch = ("patch", "trainingjob", "probe", "--subresource=status", "--type=merge", "-p", '{"status":{"step":1}}')
        until(lambda: not space.kubectl(*patch, check=False), "the policy is heard of")
        yield
    finally:
        for kind in kinds:
            cluster.kubectl("delete", kind, space.name)


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
def test_a_policy_that_denies_statuses_for_a_while_stops_no_object(
    cluster: Cluster, space: Space, server: Served, controller: Controller
) -> None:
    space.apply("probe")
    space.reaches("probe", "queued")
    with denied(cluster, space):
        space.apply("digits")
        log = controller.home / "controller.log"
        until(lambda: f"{space.name}/digits" in log.read_text() and "frozen" in log.read_text(), "it is denied")
        assert space.status("digits") == {}
    space.reaches("digits", "queued", AGAIN_S + 30)
