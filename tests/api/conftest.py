from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.api.access import Scope, TokensFile
from orchestrator.api.app import Front, create_app
from orchestrator.testing.desk import FakeDesk
from orchestrator.testing.stores import MemoryStore

LEAST = "apiVersion: orchestrator.dev/v1alpha1\nkind: TrainingJob\nspec: {run: {command: [python, train.py]}}\n"
YAML = {"Content-Type": "application/yaml"}


def token_of(name: str) -> str:
    return f"{name}-".ljust(40, "x")


def write_tokens(path: Path) -> TokensFile:
    named = {"owner": list(Scope), **{scope.value: [scope] for scope in Scope}}
    rows = [{"name": name, "token": token_of(name), "scopes": scopes} for name, scopes in named.items()]
    rows[-1]["provider"] = "azure"
    path.write_text(json.dumps({"tokens": rows}))
    path.chmod(0o600)
    return TokensFile(path)


def zip_of(**files: str) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def app(desk: FakeDesk, store: MemoryStore, tmp_path: Path) -> FastAPI:
    tokens = write_tokens(tmp_path / "tokens.json")
    front = Front(
        find=tokens.find, files=store, metrics=lambda: b"up 1\n", package_limit=100_000, unpacked_limit=200_000
    )
    return create_app(desk, front)


@pytest.fixture
async def anyone(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
async def owner(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token_of('owner')}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7380", headers=headers) as client:
        yield client
