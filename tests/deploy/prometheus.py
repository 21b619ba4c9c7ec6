"""A Prometheus of the test's own: started on a free port, looking every second, with our rules in force."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from orchestrator.cli.stage import Part
from orchestrator.rayhead.plan import free_ports
from tests.deploy.test_alerts import MONITORING


@dataclass
class Prometheus:
    """A Prometheus that looks every second."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        reply = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert reply["status"] == "success", reply
        found: list[dict[str, Any]] = reply["data"]["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        alerts = httpx.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {
            (a["labels"]["alertname"], a["labels"].get("provider") or a["labels"].get("store", ""))
            for a in alerts
            if a["state"] == "firing"
        }


@contextmanager
def prometheus_of(target: str, token: str, folder: Path) -> Iterator[Prometheus]:
    """It scrapes `target` (host:port). The rules are as they are, but for their patience, which is cut to seconds."""
    (folder / "alerts.yaml").write_text(re.sub(r"for: \d+m", "for: 2s", (MONITORING / "alerts.yaml").read_text()))
    (folder / "token").write_text(token)
    job = {"job_name": "orchestrator", "authorization": {"credentials_file": "token"}}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{**job, "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.json").write_text(json.dumps(config))
    (port,) = free_ports(1)
    command = ["prometheus", f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    part = Part("prometheus", command, {}, folder / "log")
    part.start()
    try:
        part.wait_for(lambda: _ready(f"http://127.0.0.1:{port}"))
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        part.stop()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
