"""Which objects is one launch, and what would Kueue be asked to reserve for it?

Called by the provider before it offers and when it launches. Pure: the same order gives the same objects. The
first object is the launch itself, named after its key (`name_of`); whoever creates the others makes it their owner, so
that they go with it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Literal, TypeAlias

import msgspec

from orchestrator.adapters.providers.kubernetes import billing, indexed, kuberay
from orchestrator.adapters.providers.kubernetes.connection import Connection
from orchestrator.adapters.providers.kubernetes.pods import (
    ATTEMPT,
    Need,
    merge,
    need_of_order,
    need_of_terms,
)
from orchestrator.adapters.providers.kubernetes.resources import KEY, LEDGER, MANAGED_BY, US
from orchestrator.model.offer import LaunchOrder
from orchestrator.model.placement import Terms

Doc = dict[str, Any]
Runtime: TypeAlias = Literal["kuberay", "job"]

JOB, EPOCH = "orchestrator.dev/job", "orchestrator.dev/epoch"
QUEUE, WORKLOAD = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/prebuilt-workload-name"
START_S = 600
"""A launch that has not formed by then ends itself: as long as the engine waits for a start."""
GRACE_SLACK_S = 5
"""Beyond the attempt's own grace, until a pod that is being deleted is killed."""


def name_of(key: str) -> str:
    """What the objects of a launch are called: its key after a letter, which KubeRay and Services ask for."""
    return f"run-{key}"


def manifests(
    order: LaunchOrder,
    connection: Connection,
    runtime: Runtime,
    ledger: str,
    *,
    workload: str | None,
    token: str,
) -> tuple[Doc, ...]:
    """The objects of a launch: the RayJob, or the Job, its Secret and its Service.

    `workload`: the Kueue Workload that was made for the offer; None: none. `token`: Ray's, drawn afresh by the caller;
    KubeRay draws its own.
    """
    need, labels, told = need_of_order(order), _labels(order, ledger), msgspec.json.decode(order.attempt)
    main = _main(need, connection, runtime, order.key, order.delete_after_ms)
    pods = {"labels": labels, "annotations": {ATTEMPT: _attempt(told, order.workers)}}
    _mark_pods(main, pods, _pod_spec(told))
    meta: Doc = {"name": name_of(order.key), "namespace": connection.namespace, "labels": dict(labels)}
    if connection.queue:
        meta["labels"][QUEUE] = connection.queue
        main["spec"]["suspend"] = True
        if workload:
            meta["labels"][WORKLOAD] = workload
    annotations = (kuberay.ANNOTATIONS if runtime == "kuberay" else {}) | billing.on_main(order)
    if annotations:
        meta["annotations"] = annotations
    main["metadata"] = meta
    return main, *beside(main, token)


def beside(main: Doc, token: str) -> tuple[Doc, ...]:
    """What belongs to a main object, to be made or made already: to a Job its Secret and its Service. KubeRay makes its
    own."""
    if main["kind"] != "Job":
        return ()
    name, told = main["metadata"]["name"], main["metadata"]["labels"]
    meta = {
        "namespace": main["metadata"]["namespace"],
        "labels": {label: told[label] for label in (MANAGED_BY, KEY, JOB, EPOCH, LEDGER) if label in told},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": indexed.secret_of(main)} | meta,
        "type": "Opaque",
        "data": {indexed.TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name} | meta}
    return secret, service | {"spec": indexed.service_spec(name)}


def pod_sets(offer: str, terms: Terms, accelerator: str, connection: Connection, runtime: Runtime) -> tuple[Doc, ...]:
    """What Kueue is asked for before the launch is known: `name`, `count` and `template` of each kind of pod.

    `accelerator`: the one that the answer would name ("": none).
    """
    return sets_of(need_of_terms(offer, terms, accelerator), connection, runtime)


def sets_of(need: Need, connection: Connection, runtime: Runtime) -> tuple[Doc, ...]:
    """The same for what is needed."""
    if runtime == "job":
        return ({"name": indexed.PODS, "count": need.workers, "template": indexed.workers(need, connection)},)
    head = {"name": "head", "count": 1, "template": kuberay.head(need, connection)}
    if need.workers == 1:
        return (head,)
    others = {"name": kuberay.WORKERS, "count": need.workers - 1, "template": kuberay.worker(need, connection)}
    return head, others


def example(connection: Connection, runtime: Runtime) -> Doc:
    """The main object of some launch of two workers, for the API server to judge; it is never made."""
    main = _main(some_need(connection), connection, runtime, "example", 3_600_000)
    _mark_pods(main, {"labels": {MANAGED_BY: US}}, {})
    return main | {"metadata": {"name": name_of("example"), "namespace": connection.namespace}}


def some_need(connection: Connection, accelerator: str = "", workers: int = 2) -> Need:
    """What small workers take: with a GPU each of that kind, or the first, if the cluster has any."""
    name = accelerator or next(iter(connection.accelerators), "")
    return Need(workers=workers, gpus=1 if name else 0, cpus=1, memory=1 << 30, accelerator=name, offer="example")


def _main(need: Need, connection: Connection, runtime: Runtime, key: str, delete_after_ms: int) -> Doc:
    deadline = {"activeDeadlineSeconds": -(-delete_after_ms // 1000)}
    if runtime == "job":
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "spec": indexed.spec(need, connection, name_of(key)) | deadline,
        }
    spec = kuberay.spec(need, connection, key) | deadline | {"preRunningDeadlineSeconds": START_S}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "spec": spec}


def _mark_pods(main: Doc, meta: Doc, spec: Doc) -> None:
    """Our labels, and what only the launch knows, on every pod template in there."""
    cluster = main["spec"].get("rayClusterSpec")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]] if cluster else [main["spec"]]
    for group in groups:
        group["template"] = merge(group["template"], {"metadata": meta, "spec": spec})
    if cluster:
        headless = {"clusterIP": "None", "publishNotReadyAddresses": True}  # as KubeRay's own would be
        ours = {name: value for name, value in meta["labels"].items() if name in (MANAGED_BY, LEDGER, KEY)}
        cluster["headGroupSpec"]["headService"] = {"metadata": {"labels": ours}, "spec": headless}


def _pod_spec(told: Doc) -> Doc:
    grace_s = -(-told["isolation"]["grace_ms"] // 1000)
    return {"terminationGracePeriodSeconds": grace_s + GRACE_SLACK_S}


def _attempt(told: Doc, workers: int) -> str:
    """What the agent is told (`AttemptEnv`); over several pods it cannot see the end of all processes."""
    return msgspec.json.encode({**told, "nodes": workers}).decode()


def _labels(order: LaunchOrder, ledger: str) -> dict[str, str]:
    return {MANAGED_BY: US, KEY: order.key, JOB: order.job, EPOCH: str(order.epoch), LEDGER: ledger}


def as_yaml(documents: tuple[Doc, ...]) -> str:
    """The objects as `kubectl apply -f -` takes them (JSON is YAML)."""
    return "\n---\n".join(json.dumps(document, indent=2, sort_keys=True) for document in documents) + "\n"
