"""A real Prometheus scrapes a real server: every query of the dashboard has data, and two faults are told of."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from orchestrator.cli.stage import Part, Stage
from orchestrator.rayhead.plan import free_ports
from orchestrator.sdk import command_job
from tests.deploy.test_alerts import MONITORING, queries

pytestmark = [pytest.mark.promtool, pytest.mark.heavy, pytest.mark.timeout(400)]

QUICK = {"check": "1s", "limit": "4s", "grace": "1s"}
ONE = {"count": 1, "gpus": 8, "accelerator": ["H100"]}


class QuickStage(Stage):
    """The demo's clouds without Ray, and a policy under which a lost job moves within seconds."""

    def provider_set(self) -> dict[str, Any]:
        document = super().provider_set()
        document["spec"]["policies"]["default"]["isolation"] = QUICK
        return document


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


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with QuickStage(tmp_path_factory.mktemp("watched")) as made:
        made.clouds = {name: {**config, "machines": "process"} for name, config in made.clouds.items()}
        made.start_clouds()
        made.start_server()
        yield made


@pytest.fixture(scope="module")
def prometheus(stage: Stage) -> Iterator[Prometheus]:
    """With the rules as they are, but for their patience, which is cut to seconds."""
    folder = stage.folder / "prometheus"
    folder.mkdir()
    (folder / "alerts.yaml").write_text(re.sub(r"for: \d+m", "for: 2s", (MONITORING / "alerts.yaml").read_text()))
    home = stage.folder / "home"
    (folder / "token").write_text(json.loads((home / "tokens.json").read_text())["tokens"][0]["token"])
    address = json.loads((home / "server.json").read_text())["url"].removeprefix("http://")
    job = {"job_name": "orchestrator", "authorization": {"credentials_file": "token"}}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{**job, "static_configs": [{"targets": [address]}]}],
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


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.3)
    return found


def test_every_query_of_the_dashboard_has_data(stage: Stage, prometheus: Prometheus) -> None:
    until(lambda: prometheus.query("orchestrator_jobs_submitted_total == 0"))
    with stage.client() as client:
        lost = client.submit(command_job(["sleep", "12"], folder=None, workers=ONE))
        until(lambda: lost.refresh().state == "running")
        stage.switches("coreweave").put("/outage", {"kill": True})
        lost.wait(timeout=150)
        assert [attempt.provider for attempt in lost.refresh().attempts] == ["coreweave", "oracle"]
    stage.switches("coreweave").put("/join")
    time.sleep(3)  # two more scrapes
    empty = [query for query in queries() if not prometheus.query(query.replace("$__rate_interval", "1m"))]
    assert empty == []


def test_a_provider_that_goes_down_is_told_of(stage: Stage, prometheus: Prometheus) -> None:
    until(lambda: ("OrchestratorProviderDown", "coreweave") not in prometheus.firing())
    stage.switches("azure").put("/faults", {"api": "refuse"}, "PUT")
    until(lambda: ("OrchestratorProviderDown", "azure") in prometheus.firing())
    assert ("OrchestratorProviderDown", "oracle") not in prometheus.firing()
    stage.switches("azure").put("/faults", {"api": "up"}, "PUT")
    until(lambda: ("OrchestratorProviderDown", "azure") not in prometheus.firing())


def test_a_store_that_is_away_is_told_of_at_a_quarter_of_the_limit(stage: Stage, prometheus: Prometheus) -> None:
    store = stage.folder / "home" / "store"
    assert ("OrchestratorStoreUnread", "default") not in prometheus.firing()
    store.rename(store.with_name("unmounted"))
    until(lambda: ("OrchestratorStoreUnread", "default") in prometheus.firing())
    store.with_name("unmounted").rename(store)
    until(lambda: ("OrchestratorStoreUnread", "default") not in prometheus.firing())
