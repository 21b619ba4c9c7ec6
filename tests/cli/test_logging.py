"""What the server's log may show: a traceback names lines, never what variables held."""

from __future__ import annotations

import pytest
import structlog

from orchestrator.cli.serve import log_as
from orchestrator.settings import Settings


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_local_variable(capsys: pytest.CaptureFixture[str], form: str) -> None:
    log_as(Settings(log_format=form))

    def fails() -> None:
        token = "planted-0123456789"
        raise ValueError(f"a token of {len(token)} characters")

    try:
        fails()
    except ValueError as error:
        structlog.get_logger().error("a bug", exc_info=error)
    said = capsys.readouterr().err
    assert "a token of 18 characters" in said and "in fails" in said
    assert "planted" not in said


@pytest.mark.parametrize("form", ["console", "json"])
def test_words_of_providers_move_no_terminal(capsys: pytest.CaptureFixture[str], form: str) -> None:
    log_as(Settings(log_format=form))
    structlog.get_logger().info("declined", why="a\x1b[2J\u202eb\nc")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.strip().isprintable() and r"\u202eb" in said
