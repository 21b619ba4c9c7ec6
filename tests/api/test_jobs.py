"""Jobs over HTTP: taken in once, shown, ended; refusals say everything at once."""

from __future__ import annotations

import json

import httpx
import pytest

from orchestrator.api.problems import of_desk
from orchestrator.model import event as kinds
from orchestrator.model.documents import job_bytes, load_job
from orchestrator.ports.desk import Refused
from orchestrator.testing.desk import FakeDesk
from orchestrator.testing.stores import MemoryStore
from tests.api.conftest import LEAST, YAML, zip_of

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 8)
)


async def submit(client: httpx.AsyncClient, body: str = LEAST, **headers: str) -> httpx.Response:
    return await client.post("/v1/jobs", content=body, headers=YAML | headers)


def errors(reply: httpx.Response) -> dict[str, str]:
    assert reply.headers["content-type"] == "application/problem+json"
    return {error["field"]: error["remedy"] for error in reply.json()["errors"]}


async def test_a_submitted_job_is_shown_and_listed(owner: httpx.AsyncClient) -> None:
    taken = await submit(owner)
    assert (taken.status_code, taken.json()["state"]) == (201, "queued")
    shown = (await owner.get(taken.headers["Location"])).json()
    assert shown["document"]["spec"]["run"]["command"] == ["python", "train.py"]
    assert [job["id"] for job in (await owner.get("/v1/jobs")).json()["items"]] == [shown["id"]]


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/yaml", LEAST),
        ("application/json", '{"spec": {"run": {"command": ["python", "train.py"]}, "maxRuntime": "2h"}}'),
        ("application/vnd.orchestrator.job+json", job_bytes(load_job(LEAST)).decode()),
    ],
)
async def test_yaml_json_and_canonical_bytes_are_taken(owner: httpx.AsyncClient, media: str, body: str) -> None:
    assert (await owner.post("/v1/jobs", content=body, headers={"Content-Type": media})).status_code == 201


async def test_the_same_key_and_body_is_the_same_job(owner: httpx.AsyncClient) -> None:
    first = await submit(owner, **{"Idempotency-Key": "k1"})
    again = await submit(owner, "# a comment changes nothing\n" + LEAST, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


async def test_the_same_key_with_another_body_is_a_conflict(owner: httpx.AsyncClient) -> None:
    first = await submit(owner, **{"Idempotency-Key": "k1"})
    other = await submit(owner, LEAST.replace("train", "eval"), **{"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["type"]) == (409, "urn:orchestrator:problem:idempotency-conflict")
    assert other.json()["job"] == first.json()["id"]
    assert len((await owner.get("/v1/jobs")).json()["items"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\x7f"])
async def test_a_key_that_no_header_should_carry_is_refused(owner: httpx.AsyncClient, key: str) -> None:
    assert (await submit(owner, **{"Idempotency-Key": key})).status_code == 422


async def test_everything_wrong_is_said_at_once_and_nothing_remains(owner: httpx.AsyncClient) -> None:
    body = LEAST.replace("spec: {", "spec: {maxRuntim: 2h, startBy: 5 parsecs, workers: {gpus: -1, memory: 3Qi}, ")
    reply = await submit(owner, body)
    assert reply.status_code == 422
    assert errors(reply).keys() >= {"spec.maxRuntim", "spec.startBy", "spec.workers.gpus", "spec.workers.memory"}
    assert errors(reply)["spec.maxRuntim"] == "Did you mean maxRuntime?"
    assert (await owner.get("/v1/jobs")).json()["items"] == []


async def test_a_field_that_is_not_honoured_yet_is_refused(owner: httpx.AsyncClient) -> None:
    reply = await submit(owner, LEAST.replace("spec: {", "spec: {retries: 2, data: [{name: d, at: /d}], "))
    assert errors(reply).keys() == {"spec.retries", "spec.data"}


async def test_impossible_sizes_are_refused(owner: httpx.AsyncClient) -> None:
    reply = await submit(owner, LEAST.replace("spec: {", "spec: {workers: {count: 100000, gpus: 128}, "))
    assert errors(reply).keys() == {"spec.workers"}


@pytest.mark.parametrize(
    "body",
    [
        "a: &a [*a]",
        BOMB,
        "[" * 5000,
        "!!python/object/apply:os.system [id]",
        "",
        "\x00",
        "kind: [",
        LEAST + "---\n" + LEAST,
        LEAST.replace("spec:", 'metadata: {name: "a\\u0007b"}\nspec:'),
        LEAST.replace("spec:", 'metadata: {name: "../../etc"}\nspec:'),
        LEAST.replace("spec:", "metadata: {project: ../other}\nspec:"),
        LEAST.replace("train.py", '"\\ud800"'),
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_hostile_yaml_is_refused(owner: httpx.AsyncClient, body: str) -> None:
    reply = await owner.post("/v1/jobs", content=body.encode("utf-8", "surrogatepass"), headers=YAML)
    assert reply.status_code == 422 and errors(reply)


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"spec": {"run": {"command": ["a\\u0000b"]}}}',
        "{",
        "null",
        '{"spec": 1, "spec": 2}',
        '{"spec": NaN}',
        '{"a": "\\ud800"}',
        '{"spec": 1e999999}',
    ],
    ids=lambda body: body[:16],
)
@pytest.mark.parametrize("media", ["application/json", "application/vnd.orchestrator.job+json"])
async def test_hostile_json_is_refused(owner: httpx.AsyncClient, media: str, body: str) -> None:
    reply = await owner.post("/v1/jobs", content=body, headers={"Content-Type": media})
    assert reply.status_code == 422 and errors(reply)


async def test_a_document_over_the_limit_is_refused_unread(owner: httpx.AsyncClient) -> None:
    reply = await submit(owner, LEAST + "#" * 300_000)
    assert (reply.status_code, reply.json()["fault"]) == (413, "caller")


async def test_a_package_must_be_here_before_its_job(owner: httpx.AsyncClient, store: MemoryStore) -> None:
    data, digest = zip_of(**{"train.py": "print(1)"})
    body = LEAST.replace("command:", f"package: {{digest: 'sha256:{digest}'}}, command:")
    assert errors(await submit(owner, body)).keys() == {"spec.run.package.digest"}
    assert (await owner.put(f"/v1/packages/{digest}", content=data)).status_code == 201
    assert (await submit(owner, body)).status_code == 201


async def test_a_folder_is_refused_with_its_remedy(owner: httpx.AsyncClient) -> None:
    reply = await submit(owner, LEAST.replace("command:", "package: {dir: .}, command:"))
    assert "Pack it first" in errors(reply)["spec.run.package.dir"]


async def test_back_pressure_keeps_nothing_and_says_when(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    desk.busy = 1
    reply = await submit(owner)
    assert (reply.status_code, reply.headers["Retry-After"], reply.json()["fault"]) == (503, "1", "server")
    assert (await submit(owner)).status_code == 201


async def test_what_the_engine_refuses_is_the_documents_fault(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    desk.refuses = "spec.policy: there is no policy 'gentle'"
    reply = await submit(owner)
    assert (reply.status_code, reply.json()["errors"][0]["reason"]) == (422, desk.refuses)


async def test_cancel_is_idempotent(owner: httpx.AsyncClient) -> None:
    job = (await submit(owner)).json()["id"]
    for _ in range(2):
        reply = await owner.post(f"/v1/jobs/{job}/cancel")
        assert (reply.status_code, reply.json()["state"]) == (202, "cancelled")


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, (1, None)), (3, (3, None)), ({"min": 2, "max": 8}, (8, 2)), ({"min": 2, "max": 2}, (2, None))],
)
async def test_a_job_shows_its_size_wherever_it_is_shown(
    owner: httpx.AsyncClient, count: object, shown: object
) -> None:
    asked = f"{{workers: {{count: {json.dumps(count or 1)}}}, run:"
    first = (await submit(owner, LEAST.replace("{run:", asked) if count else LEAST)).json()
    one, (listed,) = (await owner.get(f"/v1/jobs/{first['id']}")).json(), (await owner.get("/v1/jobs")).json()["items"]
    told = (await owner.get(f"/v1/jobs/{first['id']}/explain")).json()["job"]
    assert [(view["workers"], view["minWorkers"]) for view in (first, one, listed, told)] == [shown] * 4


@pytest.mark.parametrize(
    ("said", "shown"), [(6, (6, None)), ({"min": 4, "max": 8}, (8, 4)), ({"min": 3, "max": 3}, (3, None))]
)
async def test_a_job_that_waits_has_another_size_at_once(owner: httpx.AsyncClient, said: object, shown: object) -> None:
    job = (await submit(owner)).json()["id"]
    reply = await owner.post(f"/v1/jobs/{job}/scale", json={"workers": said})
    view = reply.json()
    assert (reply.status_code, view["workers"], view["minWorkers"], view["nextWorkers"]) == (202, *shown, None)
    again = await owner.post(f"/v1/jobs/{job}/scale", json={"workers": said})
    assert again.status_code == 200 and "nothing was changed" in again.json()["notices"][0]


async def test_a_job_that_runs_is_to_have_it_and_one_that_is_over_is_not(
    owner: httpx.AsyncClient, desk: FakeDesk
) -> None:
    job = (await submit(owner)).json()["id"]
    desk.play_on(job)
    desk.noticed[job] = ["what it will meet with"]
    view = (await owner.post(f"/v1/jobs/{job}/scale", json={"workers": 4})).json()
    assert (view["workers"], view["nextWorkers"], view["nextMinWorkers"], view["state"]) == (1, 4, None, "running")
    assert view["notices"] == ["what it will meet with"]
    assert "to have 4 workers" in (await owner.get(f"/v1/jobs/{job}/explain")).json()["why"]
    again = "(attempt 1); to have 1 worker when it is placed again"  # it runs with one
    for size, least, words in ((1, None, again), ({"min": 2, "max": 3}, 2, "stop, to have 2 to 3 workers")):
        view = (await owner.post(f"/v1/jobs/{job}/scale", json={"workers": size})).json()
        explained = (await owner.get(f"/v1/jobs/{job}/explain")).json()
        assert view["nextMinWorkers"] == least and explained["why"].endswith(words)
    await owner.post(f"/v1/jobs/{job}/cancel")
    other = (await submit(owner)).json()["id"]
    await owner.post(f"/v1/jobs/{other}/cancel")
    refused = await owner.post(f"/v1/jobs/{other}/scale", json={"workers": 4})
    assert refused.status_code == 409 and "cancelled" in refused.json()["detail"]
    stopping = await owner.post(f"/v1/jobs/{job}/scale", json={"workers": 8})
    assert stopping.status_code == 409 and "stopping" in stopping.json()["detail"]


@pytest.mark.parametrize(("ran", "words"), [(True, "has stopped"), (False, "did not start")])
async def test_what_waits_for_its_new_size_is_said_as_it_was(
    owner: httpx.AsyncClient, desk: FakeDesk, ran: bool, words: str
) -> None:
    job = (await submit(owner)).json()["id"]
    desk.play_on(job, starts=ran)
    await owner.post(f"/v1/jobs/{job}/scale", json={"workers": 4})
    desk.tell(job, kinds.Ended(epoch=1, how="gone", why="scaled"), kinds.Fencing(epoch=2, why="scaled"))
    why = (await owner.get(f"/v1/jobs/{job}/explain")).json()["why"]
    assert why == f"{words} at oracle; what may still run there is being fenced off, then it is offered with 4 workers"


@pytest.mark.parametrize("said", [0, -1, "8", 1.5, True, {"min": 8, "max": 4}, {"min": 4}, 10**9, [4, 8], None])
async def test_what_is_no_number_of_workers_is_refused(owner: httpx.AsyncClient, said: object) -> None:
    job = (await submit(owner)).json()["id"]
    reply = await owner.post(f"/v1/jobs/{job}/scale", json={"workers": said})
    assert (reply.status_code, reply.json()["fault"]) == (422, "caller")
    assert [(e["field"], "no number of workers" in e["reason"]) for e in reply.json()["errors"]] == [
        ("body.workers", True)
    ]
    assert "least first" in reply.json()["errors"][0]["remedy"]


async def test_only_a_held_job_is_resumed(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    job = (await submit(owner)).json()["id"]
    no = await owner.post(f"/v1/jobs/{job}/resume")
    assert no.status_code == 409 and f"orchestrator explain {job}" in no.json()["remedy"]
    desk.tell(job, kinds.Held(reason="no_lawful_provider"))
    assert (await owner.post(f"/v1/jobs/{job}/resume")).json()["state"] == "queued"


async def test_an_unknown_job_is_a_problem_on_every_route(owner: httpx.AsyncClient) -> None:
    unknown = "01K9Z3M5W2T8Q4N6R7VXYBCD0E"
    for path in ("", "/events", "/logs", "/explain", "/offers"):
        reply = await owner.get(f"/v1/jobs/{unknown}{path}")
        assert (reply.status_code, reply.json()["type"]) == (404, "urn:orchestrator:problem:unknown-job")
    assert (await owner.get("/v1/jobs/..%2f..%2fetc")).status_code == 404


async def test_a_listing_pages_and_narrows(owner: httpx.AsyncClient) -> None:
    ids = [(await submit(owner)).json()["id"] for _ in range(5)]
    await owner.post(f"/v1/jobs/{ids[0]}/cancel")
    seen, before = [], None
    while page := (await owner.get("/v1/jobs", params={"limit": 2} | ({"before": before} if before else {}))).json():
        seen += [job["id"] for job in page["items"]]
        if (before := page["next"]) is None:
            break
    assert seen == sorted(ids, reverse=True)
    only = (await owner.get("/v1/jobs", params={"state": "cancelled", "project": "default"})).json()["items"]
    assert [job["id"] for job in only] == ids[:1]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "state=lost", "colour=red", "before=x"])
async def test_a_listing_refuses_what_it_does_not_know(owner: httpx.AsyncClient, query: str) -> None:
    reply = await owner.get(f"/v1/jobs?{query}")
    assert reply.status_code == 422 and errors(reply)


async def test_offers_show_who_was_asked_and_what_they_said(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    job = (await submit(owner)).json()["id"]
    desk.play(job)
    offers = (await owner.get(f"/v1/jobs/{job}/offers")).json()["items"]
    told = [(o["provider"], o["clause"], o["state"], o["reason"], o["priceMicrousd"]) for o in offers]
    assert told == [("azure", "msft/rofr", "declined", "capacity", None), ("oracle", "", "accepted", "", 2_600_000)]


async def test_explain_tells_the_life_in_sentences(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    """Nobody can say why a job waits or who refused; here each no is told (armada#703, kueue#4749, skypilot#8947)."""
    job = (await submit(owner)).json()["id"]
    desk.play(job, exit_code=3)
    told = (await owner.get(f"/v1/jobs/{job}/explain")).json()
    assert told["why"] == "failed: user code failed"
    assert [line["plain"] for line in told["lines"]][:3] == [
        "submitted",
        "offered to azure: first right of msft/rofr",
        "azure declined: capacity",
    ]


async def test_what_waits_for_its_next_round_says_what_the_last_one_came_to(
    owner: httpx.AsyncClient, desk: FakeDesk
) -> None:
    job = (await submit(owner)).json()["id"]
    opened = kinds.OfferOpened(
        n=1, provider="azure", episode=1, round=1, contract=1, providers=1, terms="0" * 64, window=60_000_000
    )
    no = kinds.OfferAnswered(n=1, accepted=False, reason="spec", scope="provider", detail="this machine has 0 GPUs")
    desk.tell(job, opened, kinds.OfferDelivered(n=1, ref="r", sent="0" * 64), no, kinds.RoundEnded(1, 10**15))
    told = (await owner.get(f"/v1/jobs/{job}/explain")).json()
    assert (told["job"]["state"], told["job"]["reason"]) == ("queued", "spec")
    assert "waits for the next round" in told["why"] and "last: azure declined: " in told["why"]
    assert "this machine has 0 GPUs" in told["why"]
    assert (await owner.post(f"/v1/jobs/{job}/cancel")).json()["reason"] == ""


async def test_events_stream_with_ids_and_go_on_where_they_were(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    job = (await submit(owner)).json()["id"]
    desk.play(job)
    reply = await owner.get(f"/v1/jobs/{job}/events?follow=true")
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert [line["kind"] for line in lines][:2] == ["Submitted", "OfferOpened"] and lines[-1]["kind"] == "Ended"
    rest = await owner.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": str(lines[-1]["seq"] - 1)})
    assert rest.text.count("event: ") == 1


async def test_logs_are_bytes_and_go_on_where_they_were(owner: httpx.AsyncClient, desk: FakeDesk) -> None:
    job = (await submit(owner)).json()["id"]
    desk.say(job, b"one\n\xfftwo\n")
    desk.play(job)
    assert (await owner.get(f"/v1/jobs/{job}/logs?follow=1")).content == b"one\n\xfftwo\nstep 1 loss 0.5\n"
    assert (await owner.get(f"/v1/jobs/{job}/logs?offset=6")).content == b"wo\nstep 1 loss 0.5\n"


def test_what_is_refused_and_about_no_job_sends_nobody_to_one() -> None:
    assert "explain" not in of_desk(Refused("azure does not answer by hand; the operator writes so")).problem.remedy
