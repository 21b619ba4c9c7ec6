"""Are the plain manifests what the chart says? `python deploy/render.py` writes them; `--check` only compares.

The chart says everything once: `base` and the components are renders of it, and kustomize only changes them. Called by
people who changed the chart, and by a test. Needs `helm` (or HELM, its path); talks to no cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DEPLOY = Path(__file__).parent
CHART = DEPLOY.parent / "helm" / "orchestrator"
HEADER = "# Rendered from helm/orchestrator by `python deploy/render.py`; do not edit.\n"
MONITORING = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")
RENDERS: dict[str, list[str]] = {
    "base/orchestrator.yaml": ["--skip-tests", "--set", "monitoring.dashboard.enabled=false"],
    "components/controller/controller.yaml": [
        "-s",
        "templates/controller.yaml",
        "--set",
        "controller.enabled=true",
    ],
    "components/two-servers/two-servers.yaml": [
        "-s",
        "templates/disruption.yaml",
        "--set",
        "database.existingSecret=orchestrator-database",
    ],
    "components/kueue/rights.yaml": [
        "-s",
        "templates/rbac.yaml",
        "--set",
        "kubernetes.kueue=true,kubernetes.room=false",
    ],
    "components/monitoring/monitoring.yaml": [
        "-s",
        "templates/monitoring.yaml",
        "--api-versions",
        ",".join(MONITORING),
    ],
}
"""By file: what helm is told beside the values of `base`."""


def render(options: list[str]) -> str:
    """What the chart makes of the values of `base` and these options."""
    command = [os.environ.get("HELM", "helm"), "template", "orchestrator", str(CHART), "--namespace", "orchestrator"]
    command += ["--values", str(DEPLOY / "base" / "values.yaml"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        sys.exit(f"helm template failed:\n{done.stderr}")
    return HEADER + "\n".join(line for line in done.stdout.splitlines() if not line.startswith("# Source:")) + "\n"


def main() -> int:
    """Exit codes: 0 written, or up to date; 1 something is not."""
    behind = []
    for name, options in RENDERS.items():
        text, file = render(options), DEPLOY / name
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            behind.append(name)
    if behind:
        print(f"not what the chart says: {', '.join(behind)}; run `python deploy/render.py`", file=sys.stderr)
    return bool(behind)


if __name__ == "__main__":
    sys.exit(main())
