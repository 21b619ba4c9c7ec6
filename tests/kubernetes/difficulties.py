"""Difficulties that a test brings a cluster into by commands of its environment; without them it is not run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def difficulty(name: str) -> Iterator[None]:
    """KUBERNETES_TEST_<name>_DOWN now, KUBERNETES_TEST_<name>_UP afterwards: CABLE, API or KUBELET; a shell's."""
    down, up = (os.environ.get(f"KUBERNETES_TEST_{name}_{way}") for way in ("DOWN", "UP"))
    if not down or not up:
        pytest.skip(f"not run: {name.lower()}: set KUBERNETES_TEST_{name}_DOWN and _UP to commands")
    _run(down)
    try:
        yield
    finally:
        _run(up)


def _run(command: str) -> None:
    subprocess.run(command, shell=True, check=True, timeout=300, stdout=subprocess.DEVNULL)
