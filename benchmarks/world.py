"""In which world is it measured? Six clouds, one agreement, 240 shapes of jobs, and a backlog that nobody can place.

Read by `drain` and `latency`. Everything that a reader may doubt is a constant here, with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from orchestrator.model.documents.job import job_bytes, job_from

HOLDER = "azure"
REGIONS = {
    "azure": {"eastus": "US", "swedencentral": "EU"},
    "oracle": {"abilene": "US", "frankfurt": "EU"},
    "coreweave": {"us-east": "US", "norway": "EU"},
    "aws": {"us-east-1": "US", "eu-west-1": "EU"},
    "gcp": {"us-central1": "US", "europe-west4": "EU"},
    "stargate": {"abilene": "US"},
}
PRICES = {"azure": 3.2, "oracle": 2.6, "coreweave": 2.7, "aws": 3.9, "gcp": 3.6, "stargate": 2.5}
"""USD per GPU-hour of an H100; an A100 costs half. Only their order matters here."""

WINDOW = "500ms"
"""For holder and market: 15 minutes, 1,800 times faster."""
CHECK = "5m"
"""No agent ever claims in these worlds, so the engine would look for each one's first word every `check` for ever; in
the real one nearly all have started within a minute, and are then read once per `limit`."""

GATED_CLASSES = ("training", "research")
FREE_CLASSES = ("batch", "evaluation", "tuning")
"""Two of five classes are behind the first right: 40 % of jobs are offered to the holder before the market."""
GPUS = (1, 2, 4, 8)
WORKERS = (1, 2, 4)
RUNTIMES = ("1h", "12h")
RESIDENCY = (None, "eu")
SOLD_OUT = "GB200"
"""Every cloud lists it, and none ever has one free."""
UNKNOWN = "TPU-v9"
"""No cloud has it: a job that wants it is held."""
BACKLOG_SHAPES = 20
"""Shapes of each half of the backlog, however long it is: it is its length that must not matter."""


def providers(folder: Path, adapter: str, connection: dict[str, Any] | None = None) -> dict[str, Any]:
    """A provider set of the six clouds, all by `adapter`, with its store in `folder`."""
    return {
        "apiVersion": "orchestrator.dev/v1alpha1",
        "kind": "ProviderSet",
        "metadata": {"name": "benchmark"},
        "spec": {
            "providers": {name: _provider(name, adapter, connection or {}) for name in REGIONS},
            "stores": {"main": {"url": (folder.resolve() / "store").as_uri(), "jurisdiction": "EU"}},
            "policies": {"default": {"isolation": {"check": CHECK, "limit": "15m", "grace": "30s"}}},
        },
    }


def _facts(name: str) -> dict[str, Any]:
    accelerators = {"A100": 0.5, "H100": 1, SOLD_OUT: 2.5}
    return {"regions": REGIONS[name], "operatorJurisdiction": "US", "seal": 2, "accelerators": accelerators}


def _provider(name: str, adapter: str, connection: dict[str, Any]) -> dict[str, Any]:
    asked = {"H100": PRICES[name], "A100": PRICES[name] / 2, SOLD_OUT: PRICES[name] * 2}
    rows = [
        {"accelerator": a, "usdPerGpuHour": round(usd, 2), "source": "benchmark", "date": "2026-01-01"}
        for a, usd in asked.items()
    ]
    return {**_facts(name), "adapter": adapter, "connection": connection, "prices": rows, "marketWindow": WINDOW}


def contracts() -> dict[str, Any]:
    """The holder's first right to new capacity for two classes, a law for `eu`, a ceiling of our own."""
    term = {"from": "2025-01-01", "to": "2035-12-31"}
    right = {
        "id": "rofr",
        "type": "first_right",
        "select": {"class": list(GATED_CLASSES), "trigger": ["new", "replace"]},
        "window": WINDOW,
        "tail": "24h",
        "onReplace": "reoffer",
        "onOutage": "deemed_decline",
    }
    law = {"id": "eu", "type": "residency", "select": {"residency": ["eu"]}, "regionsIn": ["EU"]}
    ceiling = {"id": "ceiling", "type": "price", "ceilingUsdPerGpuHour": 12, "onExceed": "treat_as_decline"}
    return {
        "apiVersion": "orchestrator.dev/v1alpha1",
        "kind": "ContractSet",
        "metadata": {"name": "benchmark"},
        "spec": {
            "providers": {name: _facts(name) for name in REGIONS},
            "contracts": [
                {"id": "agreement", "holder": HOLDER, "term": term, "clauses": [right]},
                {"id": "own", "holder": None, "term": term, "clauses": [law, ceiling]},
            ],
        },
    }


def write_documents(folder: Path, adapter: str, connection: dict[str, Any] | None = None) -> tuple[Path, Path]:
    """Both documents as files in `folder`: (contracts, providers)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "contracts.json", folder / "providers.json"
    for path, document in zip(paths, (contracts(), providers(folder, adapter, connection)), strict=True):
        path.write_text(json.dumps(document))
    return paths


# ---- jobs ------------------------------------------------------------------------------------------------------------

_MARK = "#" * 9
"""Where a job's own number goes: as in a sweep, no two jobs have the same document."""


PACKAGE = {"package": {"digest": "sha256:" + "5e" * 32}}


def job(spec: Mapping[str, Any], package: Mapping[str, Any] = PACKAGE) -> bytes:
    """Canonical bytes of a job whose arguments hold a place for its number."""
    run = {
        "command": ["python", "train.py", "--config", "configs/base.yaml", "--seed", _MARK],
        "environment": {"OMP_NUM_THREADS": "8", "LR": "0.0003"},
        **package,
    }
    body = {"run": run, "maxRuntime": "12h", **spec}
    metadata = {"name": "sweep", "labels": {"team": "vision"}}
    document = {"apiVersion": "orchestrator.dev/v1alpha1", "kind": "TrainingJob", "metadata": metadata, "spec": body}
    return job_bytes(job_from(document))


def numbered(template: bytes, number: int) -> bytes:
    """The document of the number-th job."""
    return template.replace(_MARK.encode(), b"%09d" % number)


def placeable() -> list[bytes]:
    """One template per shape that somebody can take."""
    found = []
    for job_class, gpus, workers, runtime, residency in product(
        (*GATED_CLASSES, *FREE_CLASSES), GPUS, WORKERS, RUNTIMES, RESIDENCY
    ):
        size = {"count": workers, "gpus": gpus, "cpus": 8, "accelerator": ["H100", "A100"]}
        law = {"residency": residency} if residency else {}
        found.append(job({"class": job_class, "workers": size, "maxRuntime": runtime, **law}))
    return found


def unpackaged(shapes: int) -> list[bytes]:
    """Templates without a code package, which the HTTP front would look for: classes alternate, sizes grow."""
    classes = (*GATED_CLASSES, *FREE_CLASSES)
    size = {"gpus": 8, "cpus": 8, "accelerator": ["H100"]}
    return [job({"class": classes[n % 5], "workers": {"count": n // 5 + 1, **size}}, {}) for n in range(shapes)]


def sold_out() -> list[bytes]:
    """Templates of jobs that everybody may take and everybody refuses for capacity, gated as the others are."""
    return [_backlog(n, SOLD_OUT) for n in range(BACKLOG_SHAPES)]


def nowhere() -> list[bytes]:
    """Templates of jobs that nobody is eligible for."""
    return [_backlog(n, UNKNOWN) for n in range(BACKLOG_SHAPES)]


def _backlog(n: int, accelerator: str) -> bytes:
    job_class = (*GATED_CLASSES, *FREE_CLASSES)[n % 5]
    return job({"class": job_class, "workers": {"count": n // 5 + 1, "gpus": 8, "accelerator": [accelerator]}})


def documents(templates: list[bytes], count: int, first: int = 0) -> Iterator[bytes]:
    """`count` jobs, shape after shape in turn."""
    for number in range(count):
        yield numbered(templates[number % len(templates)], first + number)
