"""Which rights does the adapter need in a cluster, each for what, and in which set-up?

Read by `orchestrator providers check`, which asks the cluster for each, and by whoever writes the RBAC objects of a
deployment: these rows are all of it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.resources import (
    ADMISSION_CHECK,
    CLUSTER_QUEUE,
    EVENT,
    JOB,
    LIMIT_RANGE,
    LOCAL_QUEUE,
    NODE,
    POD,
    QUOTA,
    RAY_CLUSTER,
    RAY_JOB,
    RECORD,
    SECRET,
    SERVICE,
    WORKLOAD,
    Kind,
)


class Right(NamedTuple):
    """One verb on one kind. `sub`: a subresource; `everywhere`: in all namespaces, whatever the connection says."""

    kind: Kind
    verb: str
    why: str
    sub: str = ""
    everywhere: bool = False

    @property
    def words(self) -> str:
        """As people say it."""
        resource = f"{self.kind.plural}/{self.sub}" if self.sub else self.kind.plural
        return f"{self.verb} {resource}" + (f".{self.kind.group}" if self.kind.group else "")


def rights(connection: Connection, *, ray: bool) -> Iterator[Right]:
    """All that this connection needs. `ray`: the cluster serves KubeRay's kinds; `runtime: job` wants none of them."""
    yield from _rows(RECORD, {
        "create": "machines that were seen, and stops, are written down",
        "get": "a key that was stopped starts nothing again",
        "list": "launches are found again after a restart",
        "watch": "a key's state is known without asking",
        "patch": "the same, where there is one already",
        "delete": "records of launches that ended a week ago",
    })  # fmt: skip
    ray = ray and connection.runtime != "job"
    for kind in (JOB, RAY_JOB) if ray else (JOB,):
        yield from _rows(kind, {
            "create": "a launch",
            "get": "a launch that may exist is read back; nothing foreign is deleted",
            "list": "what is alive is listed by label",
            "watch": "sightings",
            "delete": "a launch is stopped",
        })  # fmt: skip
    if not ray:
        yield Right(SECRET, "create", "the pods of a Job share Ray's token")
        yield Right(SERVICE, "create", "the pods of a Job find their head")
    else:
        yield Right(RAY_CLUSTER, "deletecollection", "a launch is stopped although KubeRay is away")
    yield Right(POD, "deletecollection", "a launch is stopped although whoever made its pods is away")
    yield Right(POD, "get", "logs", "log")
    yield Right(EVENT, "list", "why a launch has no pods is told")
    yield from _rows(NODE, {
        "list": "a pod whose node is not Ready confirms nothing; room is counted",
        "watch": "the same, without asking",
    })  # fmt: skip
    yield from _kueue() if connection.queue else _alone()


def _alone() -> Iterator[Right]:
    yield Right(POD, "list", "room on nodes is what the pods of all namespaces leave", everywhere=True)
    yield Right(POD, "watch", "the same, without asking", everywhere=True)
    yield from _rows(QUOTA, {"list": "an offer that no quota allows is declined", "watch": "the same, without asking"})
    yield from _rows(LIMIT_RANGE, {
        "list": "a quota on limits refuses pods without, unless a LimitRange gives them",
        "watch": "the same, without asking",
    })  # fmt: skip


def _kueue() -> Iterator[Right]:
    yield from _rows(POD, {"list": "machines are listed by label", "watch": "sightings"})
    yield from _rows(WORKLOAD, {
        "create": "an offer is a workload that asks for quota",
        "get": "an answer is read back before it is given",
        "list": "offers are found again after a restart",
        "watch": "quota that is reserved is an acceptance",
        "patch": "a workload that was evicted is never admitted again",
        "delete": "an offer is withdrawn",
    })  # fmt: skip
    yield Right(WORKLOAD, "patch", "our check lets a launch start, and nothing before", "status")
    yield Right(LOCAL_QUEUE, "get", "which ClusterQueue answers")
    yield Right(CLUSTER_QUEUE, "get", "which admission check is ours")
    yield Right(ADMISSION_CHECK, "get", "likewise")
    yield Right(ADMISSION_CHECK, "patch", "our check says that it is served", "status")


def _rows(kind: Kind, verbs: dict[str, str]) -> Iterator[Right]:
    for verb, why in verbs.items():
        yield Right(kind, verb, why)
