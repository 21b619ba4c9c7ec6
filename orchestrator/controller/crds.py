"""Which CRDs are there? Made from the documents' own models: `python -m orchestrator.controller.crds deploy/crds`.

Called by `make crds` and by the test that says whether the files are up to date. It needs no cluster and no Kopf. Rules
in CEL say at once, without a controller, what the documents refuse; each has its twin there. Admission has the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from orchestrator.controller.objects import GROUP, VERSION
from orchestrator.controller.statuses import ContractSetStatus, JobStatus
from orchestrator.controller.structural import Schema, structural
from orchestrator.model.documents.contracts import ContractSetSpec
from orchestrator.model.documents.job import JobSpec

HEADER = "# Made by `make crds` from the documents' models; do not edit.\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object of ours."""

    name: str
    plural: str
    short: str
    scope: str
    about: str
    spec: type[BaseModel]
    status: type[BaseModel]
    most: int
    """Items of a list that names no maximum."""
    columns: tuple[tuple[str, str, str, int], ...]
    """(heading, type, path, priority): 1 is shown by `-o wide` only."""


KINDS = (
    Kind(
        "TrainingJob",
        "trainingjobs",
        "tjob",
        "Namespaced",
        "A training job, placed across providers by contract. Its namespace is the job's project.",
        JobSpec,
        JobStatus,
        4096,
        (
            ("State", "string", ".status.state", 0),
            ("Provider", "string", ".status.provider", 0),
            ("Attempt", "integer", ".status.attempt", 0),
            ("Step", "integer", ".status.step", 0),
            ("Reason", "string", ".status.reason", 0),
            ("Age", "date", ".metadata.creationTimestamp", 0),
            ("Job", "string", ".status.job", 1),
            ("Message", "string", ".status.message", 1),
        ),
    ),
    Kind(
        "ContractSet",
        "contractsets",
        "cset",
        "Cluster",
        "All agreements of one buyer with its suppliers: who is asked first, at what price, where work may run.",
        ContractSetSpec,
        ContractSetStatus,
        256,
        (
            ("In force", "string", ".status.inForce", 0),
            ("Version", "integer", ".status.version", 0),
            ("Reason", "string", ".status.reason", 0),
            ("Age", "date", ".metadata.creationTimestamp", 0),
            ("Digest", "string", ".status.digest", 1),
        ),
    ),
)


def _rule(rule: str, message: str) -> Schema:
    return {"rule": rule, "message": message}


ENTRY = "give exactly one of command and function"
SOURCE = "give exactly one of dir, digest and git"
PACK = "a folder is not readable from the server: run `orchestrator pack DIR` and give the digest that it prints"
BOTH = "git and commit belong together"
NO_GPU = "it names an accelerator and no GPU; set gpus, or drop accelerator"
ORDER = "no number is in this range; let gte be less than lt"
RULES: dict[str, Sequence[Schema]] = {
    "JobSpec": [_rule("self == oldSelf", "a submitted job cannot be changed; delete it, or apply it under a new name")],
    "Run": [_rule("has(self.command) != has(self.__function__)", ENTRY)],
    "Package": [
        _rule("[has(self.dir), has(self.digest), has(self.git)].filter(given, given).size() == 1", SOURCE),
        _rule("!has(self.dir)", PACK),
        _rule("has(self.git) == has(self.commit)", BOTH),
    ],
    "Workers": [
        _rule(
            "!has(self.accelerator) || self.accelerator.size() == 0 || (has(self.gpus) && self.gpus > 0)",
            NO_GPU,
        )
    ],
    "Bounds": [_rule("!has(self.gte) || !has(self.lt) || self.gte < self.lt", ORDER)],
    "VolumeBounds": [_rule("!has(self.gte) || !has(self.lt) || self.gte < self.lt", ORDER)],
    "TermDocument": [_rule("self.from <= self.to", "it ends before it begins; let to be on or after from")],
}
NAME = _rule("self.metadata.name.size() <= 63", "a name has at most 63 characters")


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    names = {"kind": kind.name, "listKind": f"{kind.name}List", "plural": kind.plural, "singular": kind.name.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "orchestrator", "app.kubernetes.io/component": "crds"},
        },
        "spec": {
            "group": GROUP,
            "names": {**names, "shortNames": [kind.short], "categories": ["orchestrator"]},
            "scope": kind.scope,
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> dict[str, Any]:
    rows = [
        {"name": name, "type": of, "jsonPath": path} | ({"priority": priority} if priority else {})
        for name, of, path, priority in kind.columns
    ]
    spec = structural(kind.spec, RULES, kind.most)
    status = structural(kind.status, {}, kind.most)
    conditions = status["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    whole = {
        "type": "object",
        "description": kind.about,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [NAME],
    }
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": whole},
        "subresources": {"status": {}},
        "additionalPrinterColumns": rows,
    }


def files() -> Iterator[tuple[str, str]]:
    """(name, text) of every file."""
    for kind in KINDS:
        yield f"{kind.plural}.yaml", HEADER + _yaml(crd(kind))


def _yaml(data: Any) -> str:
    writer, out = YAML(), StringIO()
    writer.default_flow_style = False
    writer.width = 120
    writer.representer.ignore_aliases = lambda _: True
    writer.dump(data, out)
    return out.getvalue()


def main(folder: Path) -> None:
    """Write the files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "deploy/crds"))
