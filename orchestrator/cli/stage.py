"""The demo's stage: how are three clouds, a server and a job set up, played through an outage and taken down again?

Called by `orchestrator demo` (as a process of its own, under the guardian) and by the proofs, which play the same
scenario with other mishaps. Everything is a separate process reached over HTTP, as in real life; this file is a client.
It decides nothing about placement. What it starts it ends; the guardian ends what it could not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import httpx

from orchestrator.model.documents import job_from
from orchestrator.model.documents.text import plain
from orchestrator.rayhead.plan import free_ports
from orchestrator.sdk import Client, Job

START_S = 60.0
"""How long a cloud or the server may take to come up on a machine that is busy."""
STOP_S = 8.0


class StageError(Exception):
    """A part of the stage did not come up; says which, and where its log lies."""


@dataclass
class Part:
    """One process of the stage."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output goes into its log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Ask for its end, then insist."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self.kill()

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Until `ready`. Raises StageError."""
        deadline = time.monotonic() + START_S
        while not ready():
            if not self.alive() or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace").splitlines()[-5:]
                raise StageError(f"{self.name} did not come up; the end of {self.log}:\n  " + "\n  ".join(tail))
            time.sleep(0.05)


@dataclass
class Switches:
    """One cloud's fault switchboard."""

    connection: Mapping[str, Any]

    def put(self, path: str, body: object | None = None, method: str = "POST") -> Any:
        """Turn a switch; the switchboard's reply."""
        headers = {"Authorization": f"Bearer {self.connection['adminToken']}"}
        reply = httpx.request(method, self.connection["adminUrl"] + path, json=body, headers=headers, timeout=30)
        reply.raise_for_status()
        return reply.json()

    def get(self, path: str) -> Any:
        """What the switchboard says."""
        return self.put(path, method="GET")


@dataclass
class Stage:
    """Three clouds and a server in `folder`. Use it in `with`; nothing of it runs afterwards."""

    folder: Path
    clouds: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: dict(scenario_clouds()))
    """Cloud name → its configuration."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further ORCHESTRATOR_… settings of the server."""
    parts: dict[str, Part] = field(default_factory=dict)

    def __enter__(self) -> Stage:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for part in reversed(self.parts.values()):
            part.stop()

    # ---- parts -----------------------------------------------------------------------------------------------------

    def start_clouds(self) -> None:
        """All clouds at once; returns when each can be asked."""
        for name, config in self.clouds.items():
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            (folder / "cloud.json").write_text(json.dumps(config))
            command = [*PYTHON, "orchestrator.mockcloud", str(folder / "cloud.json"), "--folder", str(folder)]
            self._start(Part(name, command, {}, folder / "cloud.log"))
        for name in self.clouds:
            self.parts[name].wait_for((self.folder / name / "connection.json").exists)

    def start_server(self) -> None:
        """The server, with the scenario's contracts and this stage's clouds; returns when it is ready."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        shutil.copyfile(str(scenario("contracts.yaml")), home / "contracts.yaml")
        (home / "providers.json").write_text(json.dumps(self.provider_set(), default=float))
        environment = {
            "ORCHESTRATOR_HOME": str(home),
            "ORCHESTRATOR_PORT": str(free_ports(1)[0]),  # the same one after a restart
            "ORCHESTRATOR_CONTRACTS": str(home / "contracts.yaml"),
            "ORCHESTRATOR_PROVIDERS": str(home / "providers.json"),
            **self.settings,
        }
        server = Part("server", [*PYTHON, "orchestrator.cli.main", "serve"], environment, self.folder / "server.log")
        self._start(server)
        server.wait_for(self.ready)

    def restart_server(self) -> None:
        """Start the server again on what it left behind; returns at once."""
        self.parts["server"].start()

    def _start(self, part: Part) -> None:
        self.parts[part.name] = part
        part.start()

    def ready(self) -> bool:
        """Whether the server takes jobs."""
        with contextlib.suppress(OSError, ValueError, httpx.TransportError):
            address = json.loads((self.folder / "home" / "server.json").read_text())
            return httpx.get(f"{address['url']}/readyz", timeout=5, trust_env=False).status_code == 200
        return False

    # ---- what is known ---------------------------------------------------------------------------------------------

    def switches(self, cloud: str) -> Switches:
        """A cloud's fault switchboard."""
        return Switches(json.loads((self.folder / cloud / "connection.json").read_text()))

    def provider_set(self) -> dict[str, Any]:
        """The scenario's providers with the addresses of this stage's clouds."""
        document, _ = plain(scenario("providers.yaml").read_text())
        for name, provider in document["spec"]["providers"].items():
            found = json.loads((self.folder / name / "connection.json").read_text())
            provider["connection"] = {"url": found["url"], "token": f"file:{self.folder / name / 'token'}"}
            token = self.folder / name / "token"
            token.touch(mode=0o600)
            token.write_text(found["token"])
        found_set: dict[str, Any] = document
        return found_set

    def client(self, patience_s: float = 30.0) -> Client:
        """A client of this stage's server."""
        home = self.folder / "home"
        url = json.loads((home / "server.json").read_text())["url"]
        token = json.loads((home / "tokens.json").read_text())["tokens"][0]["token"]
        return Client(url, token, patience_s=patience_s)

    def submit(
        self, client: Client, *arguments: str, environment: Mapping[str, str] | None = None, **spec: object
    ) -> Job:
        """The scenario's job on the digits example; `arguments` are added to its command, `spec` to its document."""
        document, _ = plain(scenario("job.yaml").read_text())
        document["spec"] |= spec
        run = document["spec"]["run"]
        run["command"] += list(arguments)
        run["environment"] |= dict(environment or {})
        run["package"] = {"dir": str(scenario("digits"))}
        return client.submit(job_from(document))


PYTHON = (sys.executable, "-m")


def scenario(name: str) -> Path:
    """A file of the demo's scenario."""
    return Path(str(resources.files("orchestrator.demo").joinpath(name)))


def scenario_clouds() -> Iterator[tuple[str, dict[str, Any]]]:
    """The scenario's clouds by name."""
    for path in sorted(scenario("clouds").glob("*.json")):
        yield path.stem, json.loads(path.read_text())
