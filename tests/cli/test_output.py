"""How rows look to whoever pipes them."""

from __future__ import annotations

import pytest

from orchestrator.cli.output import table


def test_a_long_row_does_not_pad_the_others_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table(("provider", "missing"), [("a", "nothing"), ("b", "x" * 300)], "none")
    assert capsys.readouterr().out.split("\n") == [
        "provider  missing",
        "a         nothing",
        f"b         {'x' * 300}",
        "",
    ]
