"""Two servers on one database, and what a client and a cloud see of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx

from orchestrator.adapters.ledger.sql import reading
from orchestrator.adapters.ledger.sql.database import Place
from orchestrator.cli.audit import audit
from orchestrator.model.wire import StoreRef
from orchestrator.runlog.log import JobLog
from orchestrator.runlog.store import open_store
from orchestrator.sdk import Client
from orchestrator.simulate.world import job_document, provider_document

ROOT = Path(__file__).parents[2]
UP_S = 60.0
PEOPLE = "people"
"""A provider that answers by hand, where a server is started with PEOPLE=1."""


class Replica:
    """One server process."""

    def __init__(self, home: Path, shared: Path, place: Place, **environment: str) -> None:
        home.mkdir()
        self.home, self.place = home, place
        url = place if isinstance(place, str) else f"sqlite://{place}"
        given = {
            **os.environ, "ORCHESTRATOR_HOME": str(home), "ORCHESTRATOR_DATABASE_URL": url,
            "ORCHESTRATOR_PROVIDERS": str(_providers(shared, "PEOPLE" in environment)),
            "ORCHESTRATOR_LOG_FORMAT": "json", **environment,
        }  # fmt: skip
        self.log = (home / "log").open("w")
        command = [sys.executable, "-m", "tests.servers.replica"]
        self.process = subprocess.Popen(command, env=given, cwd=ROOT, stderr=self.log)

    def up(self) -> Replica:
        """Once it listens."""
        until(lambda: (self.home / "server.json").exists() or self._died(), UP_S)
        self.url = json.loads((self.home / "server.json").read_text())["url"]
        self.token = json.loads((self.home / "tokens.json").read_text())["tokens"][0]["token"]
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)
        return self

    def client(self) -> Client:
        """As people use it: it asks again by itself, in its usual patience."""
        return Client(self.url, self.token)

    def _died(self) -> bool:
        assert self.process.poll() is None, (self.home / "log").read_text()[-3000:]
        return False

    def submit(self, key: str, **spec: Any) -> httpx.Response:
        return self.http.post("/v1/jobs", json=job_document(**spec), headers={"Idempotency-Key": key})

    def try_submit(self, key: str) -> str:
        """The job's id; empty if it was told to come back, or nobody answered."""
        try:
            reply = self.submit(key)
        except httpx.HTTPError:
            return ""
        if reply.status_code == 503:
            assert "Retry-After" in reply.headers
            return ""
        assert reply.status_code in (200, 201), reply.text
        return str(reply.json()["id"])

    def as_people(self) -> dict[str, str]:
        """What the people of `PEOPLE` show with their requests."""
        file, token = self.home / "tokens.json", "p" * 43
        tokens = json.loads(file.read_text())["tokens"]
        mine = {"name": "ann", "token": token, "scopes": ["provider"], "provider": PEOPLE}
        file.write_text(json.dumps({"tokens": [*tokens, mine]}))
        return {"Authorization": f"Bearer {token}"}

    def leads(self, times: int = 1) -> bool:
        """Whether it has begun to lead so many times."""
        return (self.home / "log").read_text().count("this server leads") >= times

    def said(self, words: str) -> bool:
        return words in (self.home / "log").read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.log.close()


class Start(Protocol):
    """Starts a server; by default one of the test's own database."""

    def __call__(self, place: str = ..., **environment: str) -> Replica: ...


def _providers(shared: Path, people: bool) -> Path:
    shared.mkdir(exist_ok=True)
    document: dict[str, Any] = provider_document(
        ["cloud", PEOPLE] if people else ["cloud"], people={"answers": "by_hand"}
    )
    for provider in document["spec"]["providers"].values():
        provider |= {"adapter": "journal", "connection": {"folder": str(shared)}}
    document["spec"]["stores"] = {"main": {"url": (shared / "store").as_uri(), "jurisdiction": "EU"}}
    path = shared / "providers.yaml"
    path.write_text(json.dumps(document))
    return path


def until(holds: Callable[[], object], seconds: float) -> float:
    """Wait until something holds; how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - began


def run_log(shared: Path, job: str) -> JobLog:
    """The job's, at the store that both servers reach."""
    store = StoreRef(name="main", url=(shared / "store").as_uri(), jurisdiction="EU")
    return JobLog(open_store(store, create=True), "default", job)


def calls(shared: Path, verb: str) -> list[dict[str, Any]]:
    """What the cloud was asked."""
    lines = (json.loads(line) for line in (shared / "journal").read_bytes().splitlines())
    return [line for line in lines if line["verb"] == verb]


def assert_whole(place: Place, shared: Path, accepted: dict[str, str]) -> None:
    """Every job that somebody was told of is there once, none was launched twice, and no sentence is violated."""
    with reading(place) as snapshot:
        submitted = [event.job for event in snapshot.events() if event.kind == "Submitted"]
        rows = {row.job: row for row in snapshot.rows() if row.job}
        report = audit(snapshot)
    assert not report.findings, report.findings[:5]
    assert len(submitted) == len(set(submitted)) == len(rows)
    assert set(accepted.values()) <= set(submitted)
    made = Counter(key for call in calls(shared, "launch") for key, _ in call["of"])
    assert all(key.endswith("-e1") for key in made), "a second attempt was launched"
