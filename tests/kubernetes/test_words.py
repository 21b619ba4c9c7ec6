"""What a refusal of an API server or of Kueue means, by its words: whose fault, which reason."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.adapters.providers.kubernetes import errors, kueue
from orchestrator.adapters.providers.kubernetes.resources import (
    Workload,
)
from orchestrator.model.offer import Reason
from orchestrator.ports.provider import Misconfigured, Throttled, Unreachable


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "", Misconfigured),
        (403, 'pods is forbidden: User "u" cannot list resource', Misconfigured),
        (404, "", errors.Absent),
        (409, "", errors.Taken),
        (410, "too old", errors.Expired),
        (429, "", Throttled),
        (500, "", Unreachable),
        (503, "", Unreachable),
        (504, "", Unreachable),
    ],
)
def test_a_refusal_is_somebodys_fault_or_nobodys_word(status: int, message: str, kind: type[Exception]) -> None:
    body = msgspec.json.encode({"message": message, "reason": "R"})
    assert isinstance(errors.problem(status, body, "2", "GET /x"), kind)


@pytest.mark.parametrize(
    ("reason", "kind"), [("AlreadyExists", errors.Taken), ("Conflict", Throttled), ("", Throttled)]
)
def test_of_what_was_to_be_made_only_a_name_that_is_taken_is_there(reason: str, kind: type[Exception]) -> None:
    body = msgspec.json.encode({"message": "Operation cannot be fulfilled on resourcequotas", "reason": reason})
    assert isinstance(errors.problem(409, body, None, "POST /x", making=True), kind)


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (403, "exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4", Reason.CAPACITY),
        (403, 'violates PodSecurity "restricted:latest": runAsNonRoot', Reason.POLICY),
        (400, 'admission webhook "x" denied the request: no', Reason.POLICY),
        (422, "spec.template: Invalid value", Reason.SPEC),
    ],
)
def test_a_refused_request_has_a_reason(status: int, message: str, reason: Reason) -> None:
    refused = errors.problem(status, msgspec.json.encode({"message": message}), None, "POST /x")
    assert isinstance(refused, errors.Refused) and refused.means.reason is reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("insufficient unused quota for nvidia.com/gpu in flavor f, 2 more needed", Reason.CAPACITY),
        ("insufficient quota for nvidia.com/gpu in flavor f, request > maximum capacity (4 > 2)", Reason.SPEC),
        ("ClusterQueue ours is inactive", Reason.POLICY),
        ("something new", Reason.CAPACITY),
    ],
)
def test_kueues_words_have_a_reason(message: str, reason: Reason) -> None:
    asked = kueue.Asked(offer="o", terms_hash="h", accelerator="H100", region="r", until=0)
    condition = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}
    workload = msgspec.convert({"metadata": {"name": "o"}, "status": {"conditions": [condition]}}, Workload)
    answer = kueue.no(asked, workload, 0)
    assert answer.reason is reason and message in answer.detail


def test_a_workload_that_was_ever_evicted_is_never_reserved_again() -> None:
    conditions = [{"type": "QuotaReserved", "status": "True"}, {"type": "Evicted", "status": "False", "reason": "X"}]
    assert not kueue.reserved(msgspec.convert({"metadata": {}, "status": {"conditions": conditions}}, Workload))
