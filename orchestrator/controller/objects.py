"""Which document does a Kubernetes object stand for, and what is wrong with it? Pure; the same judgement as the CLI's.

Called by admission and by whoever submits. An object's namespace is the job's project; its labels are the job's labels.
What an object has for Kubernetes' own sake (uid, managed fields, annotations) is no part of any document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.model.documents import (
    ContractSet,
    DocumentError,
    Problem,
    TrainingJob,
    job_from,
    refuse_unhonoured,
    refused,
)
from orchestrator.model.documents.conflicts import contracts_from

GROUP, VERSION = "orchestrator.dev", "v1alpha1"
GROUP_LABEL = f"{GROUP}/group"
"""Stands for `metadata.group`, which Kubernetes' metadata has no room for."""
PACK = "Upload it with `orchestrator pack DIR --project NAMESPACE` and give the digest that it prints"
ONE_JOB = Problem(
    "spec.divisible",
    "an object stands for one job, and whoever takes a part of a divisible one makes two of it",
    "Submit it with `orchestrator submit -f`, or write an object for each piece",
    "one_job",
)
Object = Mapping[str, Any]


def job_of(body: Object) -> TrainingJob:
    """The job that a TrainingJob object describes. Raises `DocumentError` with every problem."""
    meta = body["metadata"]
    labels = dict(meta.get("labels") or {})
    group = labels.pop(GROUP_LABEL, None)
    metadata = {"name": meta.get("name") or _generated(meta), "project": meta["namespace"]}
    metadata |= {"group": group} if group else {}
    metadata |= {"labels": labels} if labels else {}
    job = job_from({"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body["spec"]})
    problems = [ONE_JOB] if job.spec.divisible else []
    try:
        refuse_unhonoured(job)
    except DocumentError as error:
        problems += [_with_remedy(problem, meta["namespace"]) for problem in error.problems]
    if problems:
        raise DocumentError(problems)
    return job


def _generated(meta: Object) -> str:
    """A name before the API server has made it, for `kubectl create` with generateName."""
    return f"{meta.get('generateName', '')}x"


def _with_remedy(problem: Problem, namespace: str) -> Problem:
    """A folder is on the author's machine; say how its code comes here."""
    remedy = PACK.replace("NAMESPACE", namespace)
    return problem._replace(remedy=remedy) if problem.code == "unpacked" else problem


def plain_set(body: Object) -> dict[str, Any]:
    """The contract set of an object as a file has it."""
    meta = body["metadata"]
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if "/" not in key}
    metadata = {"name": meta.get("name") or _generated(meta)} | ({"labels": labels} if labels else {})
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body["spec"]}


def contracts_of(body: Object) -> ContractSet:
    """The contract set that a ContractSet object holds. Raises `DocumentError` with every problem.

    Labels with a prefix are of tools that deploy objects, and no part of the document; so its digest is that of the
    file that it was applied from.
    """
    found = contracts_from(plain_set(body))
    if problems := refused(found, None):
        raise DocumentError(problems)
    return found


def refusal(problems: Sequence[Problem]) -> str:
    """Every problem of an object, for whoever applied it: path, reason and remedy, a line each."""
    return "\n".join(str(problem) for problem in problems)
