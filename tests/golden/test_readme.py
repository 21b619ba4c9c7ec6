"""What the READMEs say is what the product does."""

import re
import subprocess
import sys
from pathlib import Path

from orchestrator.core.diagram import section
from orchestrator.core.moves import JOB_MOVES

ROOT = Path(__file__).parents[2]


def test_the_state_diagram_is_the_table() -> None:
    readme = (ROOT / "orchestrator" / "README.md").read_text()
    drawn = re.search(r"<!-- states -->\n(.*)<!-- end -->", readme, re.DOTALL)
    assert drawn and drawn[1] == section(), "run `python -m orchestrator.core.diagram` and paste what it prints"


def test_every_state_is_in_the_diagram() -> None:
    assert [state for state in JOB_MOVES if f" {state}" not in section()] == []


def test_every_command_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?<!from )\borchestrator ([a-z-]+)", text))
    shown = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert [name for name in sorted(named) if name not in shown] == []


def test_every_file_that_the_readme_links_exists() -> None:
    for readme in (ROOT / "README.md", ROOT / "orchestrator" / "README.md"):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", readme.read_text())
        assert [link for link in links if not (readme.parent / link).exists()] == []


def test_make_has_every_target_that_the_readme_names() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)) <= targets
