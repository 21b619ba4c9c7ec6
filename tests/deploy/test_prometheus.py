"""A real Prometheus scrapes a real server: every query of the dashboard has data, and two faults are told of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.cli.stage import Stage
from orchestrator.sdk import command_job
from tests.deploy.prometheus import Prometheus, prometheus_of
from tests.deploy.test_alerts import queries

pytestmark = [pytest.mark.promtool, pytest.mark.heavy, pytest.mark.timeout(400)]

QUICK = {"check": "1s", "limit": "4s", "grace": "1s"}
ONE = {"count": 1, "gpus": 8, "accelerator": ["H100"]}


class QuickStage(Stage):
    """The demo's clouds without Ray, and a policy under which a lost job moves within seconds."""

    def provider_set(self) -> dict[str, Any]:
        document = super().provider_set()
        document["spec"]["policies"]["default"]["isolation"] = QUICK
        return document


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with QuickStage(tmp_path_factory.mktemp("watched")) as made:
        made.clouds = {name: {**config, "machines": "process"} for name, config in made.clouds.items()}
        made.start_clouds()
        made.start_server()
        yield made


@pytest.fixture(scope="module")
def prometheus(stage: Stage) -> Iterator[Prometheus]:
    folder, home = stage.folder / "prometheus", stage.folder / "home"
    folder.mkdir()
    token = json.loads((home / "tokens.json").read_text())["tokens"][0]["token"]
    address = json.loads((home / "server.json").read_text())["url"].removeprefix("http://")
    with prometheus_of(address, token, folder) as made:
        yield made


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
