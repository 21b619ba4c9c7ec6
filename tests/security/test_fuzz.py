"""Whatever is sent to whichever route of the real server, it is never the server's fault (schemathesis)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orchestrator.api.access import OPEN_PATHS
from tests.real import Real

ABSENT = "not run: schemathesis: pip install 'first-refusal[dev]'"
schemathesis = pytest.importorskip("schemathesis", reason=ABSENT)
GenerationMode = schemathesis.generation.GenerationMode
EXAMPLES = 15
"""Per operation and mode; 300 were tried once."""
PROMISED = {("POST", "/v1/jobs/{job}/dump"): {501}}
"""What is the server's to say by its document: this cloud gives no shell."""


def complaint(reply: Any, promised: set[int]) -> str:
    """What is wrong with a reply; empty: nothing."""
    if reply.status_code < 400:
        return ""
    if reply.status_code >= 500 and reply.status_code not in promised:
        return "the server's fault"
    if reply.request.method == "HEAD":
        return ""
    said = "application/problem+json" in reply.headers.get("content-type", [])
    problem = reply.json() if said else {}
    helpful = problem.get("remedy") or any(error.get("remedy") for error in problem.get("errors", []))
    return "" if problem.get("detail") and problem.get("fault") and helpful else "no problem that helps"


def without_end(query: Any) -> Any:
    """A stream that follows never ends: not asked for here."""
    return {name: value for name, value in dict(query or {}).items() if name != "follow"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_nothing_that_is_sent_is_the_servers_fault(server: Real, job: str, mode: GenerationMode) -> None:
    heard: Counter[int] = Counter()

    def examine(operation: Any) -> None:
        promised = PROMISED.get((operation.method.upper(), operation.path), set())

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
                  phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
        def one(case: Any, known: bool) -> None:
            case.query = without_end(case.query)
            if known and "job" in (case.path_parameters or {}):
                case.path_parameters["job"] = job
            reply = case.call(base_url=server.url, headers={"Authorization": f"Bearer {server.token}"}, timeout=20)
            wrong = complaint(reply, promised)
            assert not wrong, f"{wrong}: {case.as_curl_command()} -> {reply.status_code} {reply.text[:500]}"
            heard[reply.status_code // 100] += 1

        one()

    with server.client() as client:
        api = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    for found in api.get_all_operations():
        operation = found.ok()
        if (
            mode is GenerationMode.POSITIVE or operation.path not in OPEN_PATHS
        ):  # health takes nothing that could be wrong
            examine(operation)
    assert heard[2] and heard[4]
