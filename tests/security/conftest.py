from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from orchestrator.ports.provider import Provider
from orchestrator.ports.runtime import Tools
from orchestrator.runlog.local import LocalDirectory
from orchestrator.testing.agents import Site, Work
from orchestrator.testing.scripted import ScriptedProvider
from tests.real import Real, one_provider, real

JOB = b"apiVersion: orchestrator.dev/v1alpha1\nkind: TrainingJob\nspec: {run: {command: [python, train.py]}}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """The real one; what is submitted runs, as simulated agents at a scripted provider."""
    home = tmp_path_factory.mktemp("real")

    def scripted(name: str, connection: Mapping[str, Any], tools: Tools) -> Provider:
        site = Site(LocalDirectory(home / "store", create=True), Work(steps=3, step_s=0.1))
        return ScriptedProvider(name, clock=tools.clock, crew=site)

    with real(home, one_provider(home, "scripted", {}), {"scripted": scripted}) as running:
        yield running


@pytest.fixture(scope="module")
def job(server: Real) -> str:
    with server.client() as client:
        reply = client.post("/v1/jobs", content=JOB, headers={"Content-Type": "application/yaml"})
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])
