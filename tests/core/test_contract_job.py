"""A TrainingJob: the least one, the whole one, and what is refused of it."""

from __future__ import annotations

import pytest

from orchestrator.model.documents import (
    DocumentError,
    TrainingJob,
    job_bytes,
    job_digest,
    job_from,
    job_from_bytes,
    load_job,
    refuse_unhonoured,
    shape_of,
    unhonoured,
    with_package,
)

LEAST = {"kind": "TrainingJob", "spec": {"run": {"command": ["python", "t.py"]}}}


def job(**spec: object) -> TrainingJob:
    return job_from({**LEAST, "spec": {**LEAST["spec"], **spec}})  # type: ignore[dict-item]


def problems(**spec: object) -> dict[str, str]:
    with pytest.raises(DocumentError) as caught:
        job(**spec)
    return {problem.path.removeprefix("spec."): problem.code for problem in caught.value.problems}


def test_the_least_job_has_visible_defaults() -> None:
    found = shape_of(job())
    assert (found.job_class, found.workers, found.gpus, found.cpus, found.project) == ("training", 1, 0, 1, "default")
    assert found.max_runtime_ms == 24 * 3_600_000
    assert shape_of(job(), max_runtime_ms=5).max_runtime_ms == 5


def test_units_become_integers() -> None:
    found = shape_of(
        job(
            workers={"count": 2, "gpus": 4, "memory": "32Gi"},
            maxRuntime="12h",
            ceilingUsdPerGpuHour="3.00",
            startBy="0.5h",
        )
    )
    assert (found.memory, found.max_runtime_ms, found.ceiling_microusd) == (32 * 2**30, 43_200_000, 3_000_000)
    assert (found.gpus, found.gpu_ms, found.start_by_ms) == (8, 8 * 43_200_000, 1_800_000)


def test_only_selected_labels_are_in_a_shape() -> None:
    found = job_from({**LEAST, "metadata": {"labels": {"team": "a", "site": "own"}}})
    assert shape_of(found, {"site"}).labels == (("site", "own"),)


def test_bytes_hold_what_is_set_and_come_back() -> None:
    found = job(maxRuntime="90m", ceilingUsdPerGpuHour=2.5)
    assert job_bytes(found) == (
        b'{"kind":"TrainingJob","spec":{"ceilingUsdPerGpuHour":2500000,"maxRuntime":5400000,'
        b'"run":{"command":["python","t.py"]}}}'
    )
    assert job_from_bytes(job_bytes(found)) == found and len(job_digest(found)) == 64


def test_python_and_yaml_say_the_same() -> None:
    text = "kind: TrainingJob\nspec: {run: {command: [python, t.py]}, maxRuntime: 90m}"
    run = {"command": ("python", "t.py")}
    assert job_bytes(TrainingJob(kind="TrainingJob", spec={"run": run, "max_runtime": "90m"})) == job_bytes(
        load_job(text)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "path", "code"),
    [
        ({"workers": {"count": 0}}, "workers.count", "greater_than_equal"),
        ({"workers": {"count": {"min": 3, "max": 2}}}, "workers.count", "elastic"),
        ({"workers": {"gpus": -1}}, "workers.gpus", "greater_than_equal"),
        ({"workers": {"gpus": 1000}}, "workers.gpus", "less_than_equal"),
        ({"workers": {"count": 100_000, "gpus": 128}}, "workers", "impossible_size"),
        ({"workers": {"accelerator": ["H100"]}}, "workers", "impossible_size"),
        ({"workers": {"accelerator": "H100", "gpus": 1}}, "workers.accelerator", "tuple_type"),
        ({"workers": {"memory": "32"}}, "workers.memory", "size"),
        ({"workers": {"memory": "1Ki"}}, "workers.memory", "greater_than_equal"),
        ({"workers": {"memory": "900Ti"}}, "workers.memory", "less_than_equal"),
        ({"maxRuntime": "12"}, "maxRuntime", "duration"),
        ({"maxRuntime": "400d"}, "maxRuntime", "less_than_equal"),
        ({"priority": True}, "priority", "int_type"),
        ({"run": {"command": []}}, "run.command", "too_short"),
        ({"run": {"command": ["", "a"]}}, "run", "command"),
        ({"run": {"command": ["a"], "requirements": ["--index-url=x"]}}, "run.requirements[0]", "requirement"),
        ({"run": {}}, "run", "run"),
        ({"run": {"command": ["a"], "environment": {"ORCHESTRATOR_X": "1"}}}, "run", "reserved"),
        ({"run": {"command": ["a"], "environment": {"A": 1}}}, "run.environment.A", "string_type"),
        (
            {"run": {"command": ["a"], "package": {"dir": ".", "digest": "sha256:" + "0" * 64}}},
            "run.package",
            "package",
        ),
        ({"run": {"command": ["a"], "package": {"digest": "md5:1"}}}, "run.package.digest", "string_pattern_mismatch"),
    ],
)
def test_what_cannot_be_is_refused_by_path(spec: dict[str, object], path: str, code: str) -> None:
    assert problems(**spec) == {path: code}


@pytest.mark.parametrize("project", ["../etc", "A", "", "a/b", ".", "-a", "a\n"])
def test_a_project_is_a_safe_folder_name(project: str) -> None:
    with pytest.raises(DocumentError):
        job_from({**LEAST, "metadata": {"project": project}})


def test_fields_of_later_versions_parse_and_are_refused_at_submission() -> None:
    found = job(
        run={"function": "a:b", "arguments": {"x": 1}, "on": "everyWorker", "secrets": {"T": "t"}, "image": "i"},
        data=[{"name": "d", "at": "/d"}],
        **{"from": {"job": "01J"}},
        retries=1,
        restart={"max": 1},
        evidence=["ev-1"],
    )
    with pytest.raises(DocumentError) as caught:
        refuse_unhonoured(found)
    assert len(caught.value.problems) == len(unhonoured(found)) == 9
    assert unhonoured(job(retries=0, divisible=True, workers={"count": 2})) == []


def test_a_folder_is_packed_before_submission() -> None:
    found = job(run={"command": ["a"], "package": {"dir": "."}})
    with pytest.raises(DocumentError, match="Pack it first"):
        refuse_unhonoured(found)
    packed = with_package(found, "sha256:" + "0" * 64)
    refuse_unhonoured(packed)
    assert job_from_bytes(job_bytes(packed)) == packed


def test_a_hostile_body_is_refused_quickly() -> None:
    with pytest.raises(DocumentError) as caught:
        job_from({**LEAST, **{f"k{n}": n for n in range(5_000)}})
    assert len(caught.value.problems) == 5_000


def test_what_a_ledger_kept_is_not_judged_by_later_rules() -> None:
    kept = job_bytes(job(run={"command": ["a"], "requirements": ["a==1"]})).replace(b"a==1", b"-r a")
    assert job_from_bytes(kept).spec.run.requirements == ("-r a",)


def test_another_kind_of_document_is_said_so_alone() -> None:
    with pytest.raises(DocumentError) as caught:
        job_from({"kind": "ContractSet", "spec": {"contracts": []}})
    assert [problem.path for problem in caught.value.problems] == ["kind"]
    assert "it is 'ContractSet', and 'TrainingJob' belongs here" in str(caught.value)


def test_names_are_told_their_own_rule() -> None:
    with pytest.raises(DocumentError, match="lower-case letters, digits, dashes, dots and underscores, 63 at most"):
        job_from({**LEAST, "metadata": {"name": "Digits"}})
