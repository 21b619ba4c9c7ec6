"""The package is light until a promised name is asked for."""

from __future__ import annotations

import subprocess
import sys

import orchestrator


def test_importing_the_package_loads_nothing() -> None:
    heavy = "pydantic httpx msgspec fastapi ray typer"
    code = f"import sys, orchestrator; print([m for m in {heavy.split()!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_promised_name_is_there() -> None:
    assert all(getattr(orchestrator, name) for name in orchestrator.__all__)


def test_the_sdk_needs_neither_server_nor_ray() -> None:
    heavy = "fastapi ray obstore sqlalchemy"
    code = f"import sys, orchestrator.sdk; print([m for m in {heavy.split()!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
