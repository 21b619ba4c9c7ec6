"""The demo as a newcomer meets it: one command, one story, on a real Ray."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from orchestrator.cli.stage import PYTHON

GOLDEN = Path(__file__).parents[1] / "golden" / "demo.timeline.txt"


@pytest.mark.ray
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_demo_tells_its_story_in_under_four_minutes() -> None:
    with tempfile.TemporaryDirectory(prefix="od-", dir="/tmp") as folder:
        command = [*PYTHON, "orchestrator.cli.main", "demo", "--folder", folder]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=590, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert (Path(folder) / "timeline.txt").read_text() == GOLDEN.read_text()
        assert "<svg" in (Path(folder) / "timeline.svg").read_text()
    assert re.search(r"^audit: \d+ events, 0 violations$", ran.stdout, re.MULTILINE)
    took = re.search(r"([\d.]+) s ✓ done at oracle", ran.stdout)
    assert took and float(took[1]) < 240


def test_the_demo_empties_no_folder_but_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    command = [*PYTHON, "orchestrator.cli.main", "demo", "--folder", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1 and "name another with --folder" in ran.stdout.replace("\n", " ")
    assert (tmp_path / "thesis.tex").exists()
