"""Alert rules hold what they promise, ask for metrics that there are, and each leads to a runbook."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.telemetry.prometheus import PrometheusTelemetry
from orchestrator.model.documents.text import plain
from orchestrator.ports.telemetry import Live

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
ANCHOR = re.compile(r"^## (\w+)$", re.MULTILINE)
METRIC = re.compile(r"\borchestrator_\w+")


def rules() -> list[dict[str, Any]]:
    document, problems = plain((MONITORING / "alerts.yaml").read_text())
    assert not problems
    return [rule for group in document["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def shown() -> set[str]:
    """Every name that a page can have."""
    page = PrometheusTelemetry().page({}, Live(ledger_behind=0)).body.decode()
    families = re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE)
    parts = {f"{name}_{part}" for name, kind in families if kind == "histogram" for part in ("bucket", "sum", "count")}
    return {name for name, _ in families} | parts


@pytest.mark.promtool
def test_every_rule_fires_when_it_should_and_only_then() -> None:
    command = ["promtool", "test", "rules", "alerts.test.yaml"]
    said = subprocess.run(command, cwd=MONITORING, text=True, capture_output=True, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr
    tried = set(re.findall(r"alertname: (\w+)", (MONITORING / "alerts.test.yaml").read_text()))
    assert tried == {rule["alert"] for rule in rules()}


@pytest.mark.promtool
def test_prometheus_takes_the_rules() -> None:
    said = subprocess.run(["promtool", "check", "rules", MONITORING / "alerts.yaml"], capture_output=True, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_leads_to_its_runbook() -> None:
    anchors = {name.lower() for name in ANCHOR.findall((MONITORING / "runbooks.md").read_text())}
    wanted = {rule["annotations"]["runbook"] for rule in rules()}
    assert wanted == {f"deploy/monitoring/runbooks.md#{name}" for name in anchors}


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in rules()), *queries()])
def test_nothing_is_asked_for_that_nobody_shows(expression: str) -> None:
    assert set(METRIC.findall(expression)) <= shown()
