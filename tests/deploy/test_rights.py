"""The chart grants what the adapter says it needs, in each set-up, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from orchestrator.adapters.providers.kubernetes.access import WAYS_IN
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.rights import Right, rights
from tests.deploy.helm import Doc, objects, template

pytestmark = pytest.mark.helm

Grant = tuple[str, str, str, str]
"""(Role or ClusterRole, group, resource, verb)"""


def needed(found: Iterable[Right]) -> set[Grant]:
    return {
        (
            "ClusterRole" if right.everywhere or not right.kind.namespaced else "Role",
            right.kind.group,
            f"{right.kind.plural}/{right.sub}" if right.sub else right.kind.plural,
            right.verb,
        )
        for right in found
    }


def granted(documents: list[Doc]) -> set[Grant]:
    return {
        (role["kind"], group, resource, verb)
        for role in documents
        if role["kind"] in ("Role", "ClusterRole") and "controller" not in role["metadata"]["name"]
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def connection(queue: str | None = None, runtime: str = "auto") -> Connection:
    return Connection(image="ray", agent_image="ours", queue=queue, runtime=runtime)  # type: ignore[arg-type]


def chart(**switches: bool) -> set[Grant]:
    given = [part for name, on in switches.items() for part in ("--set", f"kubernetes.{name}={str(on).lower()}")]
    return granted(objects(template("least", *given)))


def test_through_kuberay_counting_room() -> None:
    assert chart(jobs=False) == needed(rights(connection(), ray=True))


def test_without_kuberay_counting_room() -> None:
    assert chart(rayJobs=False) == needed(rights(connection(), ray=False))


def test_through_kuberay_and_kueue() -> None:
    assert chart(jobs=False, room=False, kueue=True) == needed(rights(connection("training"), ray=True))


def test_without_kuberay_through_kueue() -> None:
    assert chart(rayJobs=False, room=False, kueue=True) == needed(rights(connection("training"), ray=False))


def test_people_get_in_only_where_the_operator_says_so() -> None:
    assert chart(access=True) - chart() == needed(WAYS_IN) and not chart() & needed(WAYS_IN)


def test_everything_is_the_sum_of_its_parts() -> None:
    every = (rights(connection(queue), ray=ray) for queue in (None, "training") for ray in (True, False))
    assert chart(kueue=True) == set().union(*map(needed, every))
