"""What is printed onto a full disk: an error that says so, and an exit code that is no verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit import told
from tests.audit.test_verify import VERIFY, exported

FULL = Path("/dev/full")
EXAMPLE = Path(__file__).parents[2] / "examples/contracts/first-right.yaml"
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
NO_SPACE = "cannot be written: No space left on device\n"


def printed(*command: str) -> tuple[int, str]:
    """The exit code and what was said beside the answer."""
    with FULL.open("wb") as full:
        ran = subprocess.run([sys.executable, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    return ran.returncode, ran.stderr


def test_a_verdict_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (file := tmp_path / "ledger.jsonl").write_bytes(exported(told.lost))
    code, said = printed(str(VERIFY), str(file))
    assert code == 2, "1 would say that there are findings"
    assert said.startswith("usage: ") and said.endswith(f"error: standard output {NO_SPACE}")


def test_a_command_says_so() -> None:
    check = ("-m", "orchestrator.cli.main", "contracts", "check", str(EXAMPLE))
    assert printed(*check) == (1, f"error: the answer {NO_SPACE}")
