"""The table of what was broken and who noticed, printed at the end of a run."""

from __future__ import annotations

import pytest

from tests.mutants.table import HEADING, Row

ROWS: list[Row] = []


@pytest.fixture
def told() -> list[Row]:
    """Where rows of the table are put."""
    return ROWS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        terminalreporter.section("rules that were broken, and who noticed")
        for line in (HEADING, *(row.words for row in ROWS)):
            terminalreporter.write_line(line)
