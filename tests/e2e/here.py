"""A server on real Ray that offers this machine, and how to wait for what becomes of its jobs."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_serve import start, wait_up
from tests.local.conftest import end_launches


@contextmanager
def served(providers: str = "") -> Iterator[Path]:
    """Its home, where clients look meanwhile; `providers` is a file in which FOLDER stands for that of its launches."""
    folder = Path(tempfile.mkdtemp(prefix="oe-"))
    launches, file = folder / "local", folder / "providers.yaml"
    if providers:
        file.write_text(providers.replace("FOLDER", str(launches)))
    server = start(folder, **({"ORCHESTRATOR_PROVIDERS": str(file)} if providers else {}))
    try:
        wait_up(folder, server)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ORCHESTRATOR_HOME", str(folder))
            yield folder
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
        end_launches(launches)
        shutil.rmtree(folder, ignore_errors=True)


def until(true: Callable[[], Any], within_s: float = 150.0) -> Any:
    """What it gives, as soon as that is true."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {within_s} s")
