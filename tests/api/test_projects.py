"""A token that is good for some projects only, over HTTP: in them it works, of others it learns nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orchestrator.api.access import Scope, TokensError, TokensFile
from orchestrator.sdk import AsyncClient, AsyncJob, command_job
from orchestrator.sdk.errors import Forbidden, NotFound
from orchestrator.sdk.inside import STDOUT
from tests.api.conftest import token_of, zip_of
from tests.served import TOKEN, Served, served

ANOTHER = "01K9Z3M5W2T8Q4N6R7VXYBCD0E"
"""There is no such job."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        rows = json.loads((tmp_path / "tokens.json").read_text())["tokens"]
        for name, projects in (("a", ["team-a"]), ("both", ["team-a", "team-b"])):
            rows.append({"name": name, "token": token_of(name), "scopes": list(Scope), "projects": projects})
        (tmp_path / "tokens.json").write_text(json.dumps({"tokens": rows}))
        yield running


@pytest.fixture
async def owner(server: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, TOKEN) as client:
        yield client


@pytest.fixture
async def a(server: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, token_of("a")) as client:
        yield client


@pytest.fixture
async def http(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Requests as the SDK would not make them, with a's token."""
    headers = {"Authorization": f"Bearer {token_of('a')}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        yield client


async def running(server: Served, client: AsyncClient, project: str) -> AsyncJob:
    job = await client.submit(command_job(["python", "train.py"], project=project, folder=None))
    server.tell(lambda desk: desk.play_on(job.id))
    return job


JOB_ROUTES = [
    ("GET", ""), ("GET", "/offers"), ("GET", "/explain"), ("GET", "/events"), ("GET", "/logs"), ("GET", "/logs?rank=0"),
    ("POST", "/cancel"), ("POST", "/resume"), ("POST", "/scale"), ("POST", "/dump"),
]  # fmt: skip


async def test_a_job_of_another_project_answers_as_one_that_is_not_there(
    server: Served, owner: AsyncClient, http: httpx.AsyncClient
) -> None:
    theirs = (await running(server, owner, "team-b")).id
    before = server.tell(lambda desk: len(desk._happened))
    for verb, path in JOB_ROUTES:
        got, none = [await http.request(verb, f"/v1/jobs/{job}{path}") for job in (theirs, ANOTHER)]
        assert got.status_code == none.status_code == 404, f"{verb} {path}"
        assert got.json() == json.loads(none.text.replace(ANOTHER, theirs)), f"{verb} {path}"
    assert server.tell(lambda desk: len(desk._happened)) == before


@pytest.mark.parametrize("path", ["exec", "forward?port=8265", "forward/1"])
async def test_nobody_gets_into_a_job_of_another_project(server: Served, owner: AsyncClient, path: str) -> None:
    theirs = (await running(server, owner, "team-b")).id
    headers = {"Authorization": f"Bearer {token_of('a')}"}
    url = f"{server.url.replace('http', 'ws', 1)}/v1/jobs/{theirs}/{path}"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=headers):
            pass
    assert refused.value.response.status_code == 404


async def test_in_its_own_project_everything_goes(server: Served, a: AsyncClient, http: httpx.AsyncClient) -> None:
    job = await running(server, a, "team-a")
    for verb, path in (route for route in JOB_ROUTES if route[1] not in ("/resume", "/cancel", "/scale")):
        assert (await http.request(verb, f"/v1/jobs/{job.id}{path}")).status_code == 200, f"{verb} {path}"
    async with asyncio.timeout(10), job.run_in(["echo", "hello"]) as session:
        assert [data async for stream, data in session if stream == STDOUT] == [b"hello\n"]
    assert (await http.post(f"/v1/jobs/{job.id}/cancel")).status_code == 202


async def test_a_submission_into_another_project_is_refused_with_what_to_do(server: Served, a: AsyncClient) -> None:
    with pytest.raises(Forbidden, match="not good for the project `team-b`") as refused:
        await a.submit(command_job(["python", "train.py"], project="team-b", folder=None))
    assert "team-a" in str(refused.value)
    with pytest.raises(Forbidden, match="project `default`"):
        await a.submit(command_job(["python", "train.py"], folder=None))
    assert server.tell(lambda desk: desk._happened) == []


async def test_listings_hold_its_projects_newest_first_page_by_page(server: Served, owner: AsyncClient) -> None:
    made = [(await running(server, owner, name)).id for name in ("team-a", "team-b", "default", "team-a", "team-b")]
    async with AsyncClient(server.url, token_of("both")) as both:
        seen = [made[4], made[3], made[1], made[0]]
        assert [job.id async for job in both.jobs()] == seen
        assert [job.id async for job in both.jobs(project="team-b")] == [made[4], made[1]]
        assert [job.id async for job in both.jobs(project="default")] == []
        pages, page = [], {"next": None}
        while not pages or page["next"]:
            params = {"limit": 1} | ({"before": page["next"]} if page["next"] else {})
            page = await _page(server, params)
            pages += [item["id"] for item in page["items"]]
        assert pages == seen


async def _page(server: Served, params: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token_of('both')}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
        found: dict[str, Any] = (await http.get("/v1/jobs", params=params)).json()
        return found


async def test_events_of_the_ledger_are_those_of_its_projects(
    server: Served, owner: AsyncClient, a: AsyncClient
) -> None:
    mine, _ = [(await running(server, owner, name)).id for name in ("team-a", "team-b")]
    seen = [event async for event in a.events()]
    assert {event.job for event in seen} == {mine}
    assert len(seen) * 2 == len([event async for event in owner.events()])


async def test_packages_are_kept_and_fetched_in_its_projects_only(
    server: Served, owner: AsyncClient, http: httpx.AsyncClient
) -> None:
    data, digest = zip_of(**{"train.py": ""})
    for project, status in (("team-a", 201), ("team-b", 403)):
        reply = await http.put(f"/v1/packages/{digest}", params={"project": project}, content=data)
        assert reply.status_code == status
    assert [key.split("/")[0] for key in server.store.objects] == ["team-a"]
    for verb in ("HEAD", "GET"):
        assert (await http.request(verb, f"/v1/packages/{digest}?project=team-a")).status_code == 200
        assert (await http.request(verb, f"/v1/packages/{digest}")).status_code == 403


async def test_whether_another_project_has_a_package_is_not_told_by_a_submission(
    server: Served, http: httpx.AsyncClient
) -> None:
    run = {"command": ["x"], "package": {"digest": "sha256:" + "0" * 64}}
    document = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "TrainingJob", "spec": {"run": run}}
    reply = await http.post("/v1/jobs", json=document | {"metadata": {"name": "x", "project": "team-b"}})
    assert (reply.status_code, reply.json()["type"]) == (403, "urn:orchestrator:problem:forbidden")


@pytest.mark.parametrize(("verb", "path"), [
    ("GET", "/metrics"), ("GET", "/v1/providers"), ("POST", "/v1/providers/check"), ("GET", "/v1/contracts"),
    ("POST", "/v1/stores/check"),
])  # fmt: skip
async def test_what_is_about_all_projects_wants_a_token_for_all(http: httpx.AsyncClient, verb: str, path: str) -> None:
    reply = await http.request(verb, path)
    assert reply.status_code == 403 and "without `projects`" in reply.json()["remedy"]


async def test_projects_are_taken_from_a_token_by_editing_the_file(
    server: Served, owner: AsyncClient, a: AsyncClient
) -> None:
    job = (await running(server, owner, "team-a")).id
    assert (await a.job(job)).id == job
    tokens = server.home / "tokens.json"
    tokens.write_text(tokens.read_text().replace('["team-a"]', '["team-another"]'))
    with pytest.raises(NotFound):
        await a.job(job)


@pytest.mark.parametrize("projects", [[], "team-a", None, ["Team A"], ["team-a\n"], [5], ["../x"]])
def test_projects_that_make_no_sense_are_refused_and_never_mean_all(tmp_path: Path, projects: Any) -> None:
    row = {"name": "n", "token": "x" * 40, "scopes": [], "projects": projects}
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": [row]}))
    (tmp_path / "tokens.json").chmod(0o600)
    with pytest.raises(TokensError, match="project"):
        TokensFile(tmp_path / "tokens.json")
