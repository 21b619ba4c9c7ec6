"""What strangers may send, to the real server: each is refused with whose fault, what, and what to do next.

Hostile zips are in tests/api/test_packages.py, hostile folders in tests/sdk/test_pack.py.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from orchestrator.model.documents import DocumentError, load_providers
from orchestrator.model.documents.inside import Asked
from orchestrator.model.wire import Checkpoint
from orchestrator.runlog import checkpoints
from orchestrator.runlog.local import LocalDirectory
from orchestrator.runlog.log import JobLog
from orchestrator.settings import BadSettings, load
from orchestrator.testing.builders import job_id
from tests.real import ONE_PROVIDER, Real

HEAD = "apiVersion: orchestrator.dev/v1alpha1\nkind: TrainingJob\n"
YAML, JSON = "application/yaml", "application/json"
CANONICAL = "application/vnd.orchestrator.job+json"
SLOW_S = 10.0
"""More than any refusal may take on a busy machine; the slowest of these took 40 s before it was bounded."""


@pytest.fixture(scope="module")
def owner(server: Real) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def supplier(server: Real) -> Iterator[httpx.Client]:
    """Who answers by hand for the provider."""
    file, token = server.settings.tokens_file, "p" * 43
    mine = {"name": "ann", "token": token, "scopes": ["provider"], "provider": "there"}
    file.write_text(json.dumps({"tokens": [*json.loads(file.read_text())["tokens"], mine]}))
    with server.client() as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def spec(text: str) -> str:
    return f"{HEAD}spec: {text}\n"


def runs(**run: Any) -> str:
    """A job in canonical JSON."""
    document = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "TrainingJob", "spec": {"run": run}}
    return json.dumps(document)


def laughs() -> str:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{name}: &{name} [{','.join([f'*{above}'] * 9)}]" for above, name in pairwise("abcdefghi")]
    return HEAD + "\n".join(lines) + "\nspec: *i\n"


DOCUMENTS: dict[str, tuple[str, str | bytes]] = {
    "billion-laughs": (YAML, laughs()),
    "contains-itself": (YAML, spec("&a {run: *a}")),
    "deep-list": (YAML, spec("[" * 5000 + "]" * 5000)),
    "deep-map": (YAML, spec("{a: " * 5000 + "1" + "}" * 5000)),
    "deep-blocks": (YAML, HEAD + "spec:\n" + "".join(" " * n + "a:\n" for n in range(1, 500))),
    "many-keys": (YAML, spec("{" + ",".join(f"k{n}: 1" for n in range(20_000)) + "}")),
    "many-merges": (YAML, spec("{" + ",".join("<<: {}" for _ in range(20_000)) + "}")),
    "many-lines": (YAML, spec("") + "- x\n" * 60_000),
    "runs-code": (YAML, spec("!!python/object/apply:os.system [id]")),
    "long-number": (YAML, spec("{run: {command: [a]}, priority: " + "9" * 5000 + "}")),
    "long-hexadecimal": (YAML, spec("{run: {command: [a]}, priority: 0x" + "f" * 9000 + "}")),
    "large-exponent": (YAML, spec("{run: {command: [a]}, ceilingUsdPerGpuHour: 1e999999999}")),
    "not-utf8": (YAML, spec("{}").encode("utf-16")),
    "nul": (YAML, spec('{run: {command: ["a\\0b"]}}')),
    "half-a-character": (YAML, spec('{run: {command: ["\\ud800"]}}')),
    "name-with-escape": (YAML, HEAD + 'metadata: {name: "a\\u001b[2J"}\nspec: {run: {command: [a]}}'),
    "name-backwards": (YAML, HEAD + 'metadata: {name: "a\\u202eb"}\nspec: {run: {command: [a]}}'),
    "label-with-escape": (YAML, HEAD + 'metadata: {labels: {a: "\\u001b[2J"}}\nspec: {run: {command: [a]}}'),
    "label-backwards": (YAML, HEAD + 'metadata: {labels: {a: "\\u202eb"}}\nspec: {run: {command: [a]}}'),
    "project-elsewhere": (YAML, HEAD + 'metadata: {project: "../other"}\nspec: {run: {command: [a]}}'),
    "policy-of-nobody": (YAML, spec("{run: {command: [a]}, policy: ../default}")),
    "package-elsewhere": (YAML, spec('{run: {command: [a], package: {digest: "sha256:../../etc/passwd"}}}')),
    "requirement-is-option": (YAML, spec('{run: {command: [a], requirements: ["-r /etc/passwd"]}}')),
    "our-own-variable": (YAML, spec('{run: {command: [a], environment: {ORCHESTRATOR_ATTEMPT: "{}"}}}')),
    "deep-json": (JSON, "[" * 100_000),
    "deep-json-object": (JSON, '{"a":' * 50_000),
    "json-number": (JSON, '{"spec": ' + "9" * 100_000 + "}"),
    "json-twice": (JSON, '{"kind": 1, "kind": 2}'),
    "json-nan": (JSON, '{"spec": NaN}'),
    "json-half-a-character": (JSON, '{"\\ud800": 1}'),
    "json-nothing": (JSON, "null"),
    "canonical-deep": (CANONICAL, "[" * 100_000),
    "canonical-half-a-character": (CANONICAL, runs(command=["\ud800"])),
    "canonical-requirement-is-option": (CANONICAL, runs(command=["a"], requirements=["-r /etc/passwd"])),
    "canonical-no-program": (CANONICAL, runs(command=[" "])),
}


def told(problem: dict[str, Any]) -> bool:
    """What is wrong and what to do, of all or of each part."""
    whole, parts = problem["remedy"], [e["reason"] and e["remedy"] for e in problem["errors"]]
    return bool(problem["detail"]) and bool(whole or parts) and all(parts)


def refused(client: httpx.Client, path: str, media: str, text: str | bytes) -> dict[str, Any]:
    """What was said to a hostile body: it costs little, and repeats nothing that a terminal would obey."""
    began = time.monotonic()
    reply = client.post(path, content=text, headers={"Content-Type": media})
    problem: dict[str, Any] = reply.json()
    assert (reply.status_code in (400, 422), problem.get("fault")) == (True, "caller"), reply.text[:500]
    assert told(problem)
    assert "\x1b" not in reply.text and "\u202e" not in reply.text and len(reply.content) < 100_000
    assert time.monotonic() - began < SLOW_S
    return problem


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_hostile_job_is_refused_with_a_remedy(owner: httpx.Client, name: str) -> None:
    problem = refused(owner, "/v1/jobs", *DOCUMENTS[name])
    assert problem["status"] == 422 and problem["errors"]


@pytest.mark.parametrize("name", [
    "billion-laughs", "contains-itself", "deep-map", "runs-code", "long-number", "long-hexadecimal", "large-exponent",
    "not-utf8", "name-with-escape", "name-backwards", "deep-json-object", "json-number", "json-twice", "json-nan",
    "json-half-a-character", "json-nothing",
])  # fmt: skip
@pytest.mark.parametrize(("path", "kind"), [("/v1/contracts", "ContractSet"), ("/v1/capacity", "Capacity")])
def test_a_hostile_document_of_an_operator_is_refused_alike(
    owner: httpx.Client, path: str, kind: str, name: str
) -> None:
    media, text = DOCUMENTS[name]
    hostile = text.replace("TrainingJob", kind) if isinstance(text, str) else text
    assert refused(owner, path, media, hostile)["errors"]


MISTAKES = "{" + ",".join(f'"k{n}": 1' for n in range(4_000)) + "}"
BODIES = [
    "[" * 30_000, '{"a":' * 10_000, "9" * 60_000, "null", '{"\\ud800": 1}', '{"\\u001b[2J": 1}', MISTAKES, "\x1b[2J",
]  # fmt: skip
RECORD, WAIVER = '{"what": "evidence", "name": "a", ', '{"what": "waiver", "holder": "a", "until": "2099-01-01", '
RECORDS = [
    *BODIES, RECORD + '"until": ' + "9" * 60 + "}", RECORD + '"until": ' + "9" * 19 + "}", RECORD + '"until": 1e400}',
    RECORD + '"until": "9999-12-31"}', RECORD + '"until": -' + "9" * 18 + "}", RECORD + '"why": "\\ud800"}',
    RECORD + '"why": "' + "x" * 60_000 + '"}', RECORD + '"document": "../../etc/passwd"}',
    RECORD + '"project": "../other"}', RECORD + '"class": ' + "[" * 900 + "]" * 900 + "}",
    RECORD + '"class": [' + "1," * 15_000 + "1]}", '{"what": "event", "name": "a\\u001b[2J"}',
    '{"what": "event", "name": "a\\u202eb"}', WAIVER + '"gpus": 1e999}', WAIVER + '"gpus": NaN}',
    WAIVER + '"gpus": ' + "9" * 4_000 + "}",
]  # fmt: skip
SIZES = [
    *BODIES, *(f'{{"workers": {said}}}' for said in (
        "1e999", "NaN", "-1", "true", "9" * 4_000, "9" * 5_000, '"\\ud800"', '"\\u001b[2J"', "[" * 3_000, '["\\ud800"]',
        '{"min": 5, "max": 4}', '{"min": "\\u001b[2J", "max": 4}', '{"min": 1e999, "max": 4}', "null",
    )),
]  # fmt: skip
YES, NO = '{"accepted": true, "termsHash": "a", ', '{"accepted": false, "reason": "capacity", '
ANSWERS = [
    *BODIES, '{"accepted": "\\u001b[2J"}', '{"accepted": NaN}', '{"accepted": false, "reason": "\\u001b[2J"}',
    YES + '"priceMicrousd": 1e999}', YES + '"priceMicrousd": -1}', YES + '"priceMicrousd": ' + "9" * 4_000 + "}",
    YES + '"workers": 1e30}', YES + '"region": "\\ud800"}', YES + '"ttlMs": ' + "9" * 30 + "}",
    NO + '"until": 1e999}', NO + '"until": ' + "9" * 400 + "}", NO + '"until": -1e300}',
    NO + '"until": "9999-12-31T23:59:59-14:00"}', NO + '"until": "0001-01-01T00:00:00+14:00"}',
    NO + '"detail": "\\ud800"}', NO + '"detail": "' + "x" * 1_000 + '"}',
]  # fmt: skip


@pytest.mark.parametrize("text", RECORDS, ids=range(len(RECORDS)))
def test_a_hostile_record_is_refused_and_the_list_can_still_be_read(owner: httpx.Client, text: str) -> None:
    refused(owner, "/v1/records", JSON, text)
    assert owner.get("/v1/records").json()["items"] == []


@pytest.mark.parametrize("text", SIZES, ids=range(len(SIZES)))
def test_a_hostile_size_is_refused(owner: httpx.Client, job: str, text: str) -> None:
    refused(owner, f"/v1/jobs/{job}/scale", JSON, text)


@pytest.mark.parametrize("text", ANSWERS, ids=range(len(ANSWERS)))
def test_a_hostile_answer_is_refused(supplier: httpx.Client, job: str, text: str) -> None:
    refused(supplier, f"/v1/offers/{job}-o1/answer", JSON, text)


def test_a_body_without_end_is_not_kept(owner: httpx.Client) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reply = owner.post("/v1/jobs", content=(b"#" * 65_536 for _ in range(2_000)))  # 128 MiB
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:orchestrator:problem:too-large")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("asked", [
    "/v1/events?after=1000000000000000000000000", "/v1/events?after=9223372036854775808", "/v1/events?after=-1",
    "/v1/jobs/JOB/logs?offset=9223372036854775808", "/v1/jobs/JOB/logs?rank=9999999999", "/v1/jobs/JOB/events?after=a",
    "/v1/jobs?limit=99999999999999999999", "/v1/jobs?project=%00", "/v1/jobs?project=..%2f..", "/v1/jobs?state=x",
    "/v1/jobs?before=%27%20or%201=1", "/v1/jobs?nothing=1", f"/v1/packages/{'0' * 64}?project=..%2fx",
])  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(owner: httpx.Client, job: str, asked: str) -> None:
    reply = owner.get(asked.replace("JOB", job))
    assert reply.status_code == 422 and reply.json()["errors"][0]["remedy"], reply.text


@pytest.mark.parametrize("path", [
    "/v1/jobs/..%2f..%2fetc%2fpasswd", "/v1/jobs/%2e%2e/%2e%2e/tokens.json", "/v1/jobs/%00", "//etc/passwd",
    f"/v1/jobs/{job_id()}%0d%0aSet-Cookie:%20a=1", f"/v1/jobs/{job_id()}%2f..%2fother/logs", "/../tokens.json",
    "/v1/packages/..%2ftokens.json",
])  # fmt: skip
def test_a_path_leads_nowhere_else(owner: httpx.Client, path: str) -> None:
    reply = owner.get(path)
    assert reply.status_code in (404, 422) and "set-cookie" not in reply.headers
    assert reply.json()["remedy"] or reply.json()["errors"]


@pytest.mark.parametrize("raw", [
    b"GET /v1/jobs HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\nAuthorization: Bearer TOKEN\r\n\r\n",
    b"GET /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\nX: a\x00b\r\n\r\n",
    b"GET /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer TOKEN\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/providers HTTP/1.1\r\nHost: HOST\r\n\r\n",
], ids=["two-hosts", "nul", "long", "smuggled"])  # fmt: skip
def test_headers_that_are_odd_get_nothing(server: Real, raw: bytes) -> None:
    at = urlsplit(server.url)
    asked = raw.replace(b"HOST", at.netloc.encode()).replace(b"TOKEN", server.token.encode())
    said = b""
    hung_up = contextlib.suppress(ConnectionResetError, BrokenPipeError)  # and no TimeoutError: it has to hang up
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=10) as line, hung_up:
        line.sendall(asked)
        while part := line.recv(65_536):
            said += part
    assert not said or b" 4" in said.split(b"\r\n")[0], said[:200]
    assert b"evil.example" not in said and b'"items"' not in said


def test_an_idempotency_key_comes_back_in_no_header(owner: httpx.Client) -> None:
    for key in ("a b", "a\tb", "x" * 256, "é"):
        headers = {"Idempotency-Key": key.encode("latin-1"), "Content-Type": YAML}
        reply = owner.post("/v1/jobs", content=spec("{run: {command: [a]}}"), headers=headers)  # type: ignore[arg-type]
        assert reply.status_code == 422 and key not in str(reply.headers)


@pytest.mark.parametrize("given", [{"command": ["a\0b"]}, {"command": ["a"], "term": "x\x1b[2J"},
                                   {"command": ["a"], "rank": 10**12}, {"command": []}])  # fmt: skip
def test_a_command_that_no_process_can_be_given_is_refused(given: Any) -> None:
    with pytest.raises(ValueError):
        Asked.model_validate(given)


# ---- what an operator may write wrongly ----------------------------------------------------------------------------


@pytest.mark.parametrize("connection", [
    '{token: "hunter2"}', '{apiKey: "hunter2"}', '{a: [{client_secret: "hunter2"}]}', '{url: "https://me:hunter2@x"}',
    '{credentials: "hunter2"}', '{privateKey: "hunter2"}', '{"Access-Token": "hunter2"}',
])  # fmt: skip
def test_a_secret_itself_is_refused_in_a_provider_and_not_repeated(connection: str) -> None:
    text = ONE_PROVIDER.replace("ADAPTER", "mock").replace("CONNECTION", connection)
    with pytest.raises(DocumentError, match=r"spec\.providers\.there\.connection.*env:NAME") as refused:
        load_providers(text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("connection", [
    '{token: "env:TOKEN"}', '{token: "file:/t"}', '{storeSecret: store}', '{url: "https://x:8443/a@b"}',
    '{podTemplate: {spec: {a: {topologyKey: zone}}}}', '{accessKeyId: AKIA}', '{token: ""}',
])  # fmt: skip
def test_what_only_names_a_secret_is_taken(connection: str) -> None:
    load_providers(ONE_PROVIDER.replace("ADAPTER", "mock").replace("CONNECTION", connection))


@pytest.mark.parametrize("store", [
    '{url: "s3://b", jurisdiction: EU, options: {aws_secret_access_key: hunter2}}',
    '{url: "s3://me:hunter2@b", jurisdiction: EU}',
])  # fmt: skip
def test_a_secret_itself_is_refused_in_a_store(store: str) -> None:
    text = ONE_PROVIDER.replace("ADAPTER", "mock").replace("CONNECTION", "{}") + f"  stores: {{main: {store}}}\n"
    with pytest.raises(DocumentError, match=r"spec\.stores\.main") as refused:
        load_providers(text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(("variable", "value"), [
    ("STORE_SECRETS", '{"aws_secret_access_key": "hunter2"}'), ("STORE_SECRETS", '{"a": hunter2'),
    ("STORE_OPTIONS", '{"aws_secret_access_key": "hunter2"}'), ("STORE", "s3://me:hunter2@bucket"),
    ("POLICY__LIMIT", "hunter2 s"),
])  # fmt: skip
def test_a_setting_that_holds_a_secret_is_named_and_not_repeated(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ORCHESTRATOR_{variable}", value)
    with pytest.raises(BadSettings, match=f"(?i){variable}") as refused:
        load()
    assert variable == "POLICY__LIMIT" or "hunter2" not in str(refused.value)


# ---- what user code may forge at the store -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manifest", ["other/x/manifest.json", "default/../../etc/passwd", "/etc/passwd", "", "default"]
)
def test_a_checkpoint_that_points_elsewhere_is_not_used(tmp_path: Path, manifest: str) -> None:
    log = JobLog(LocalDirectory(tmp_path, create=True), "default", job_id())
    forged = Checkpoint(epoch=1, nonce="n", id="i", step=1, store="main", manifest=manifest, sha256="0" * 64)
    with pytest.raises(checkpoints.Damaged, match="own folder"):
        checkpoints._manifest(log, forged)
