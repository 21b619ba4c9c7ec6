"""What does the chart make of these values? `helm template`, read back as documents."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "orchestrator"
VALUES = Path(__file__).parent / "values"
GOLDEN = Path(__file__).parent / "golden"
MONITORING = "monitoring.coreos.com/v1/ServiceMonitor,monitoring.coreos.com/v1/PrometheusRule"
Doc = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [os.environ.get("HELM", "helm"), *arguments], text=True, capture_output=True, timeout=120, check=False
    )


def template(name: str, *options: str) -> str:
    """The render of a values file, with the Prometheus operator's kinds there."""
    options = ("--namespace", "ops", "--values", str(VALUES / f"{name}.yaml"), "--api-versions", MONITORING, *options)
    done = helm("template", "desk", str(CHART), *options)
    assert done.returncode == 0, done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("# Source:")) + "\n"


def objects(text: str) -> list[Doc]:
    return [document for document in yaml.safe_load_all(text) if document]


def one(documents: list[Doc], kind: str, name: str = "") -> Doc:
    (found,) = [d for d in documents if d["kind"] == kind and name in ("", d["metadata"]["name"])]
    return found


def pods(documents: list[Doc]) -> list[Doc]:
    """Every pod spec of a render."""
    bare = [d["spec"] for d in documents if d["kind"] == "Pod"]
    return bare + [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
