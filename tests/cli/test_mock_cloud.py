"""`orchestrator mock-cloud`: what it refuses, and with which words. What it plays is tested in tests/mockcloud."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize("store", ["banana", "https://h", "http://", "http://h:port"])
def test_a_store_that_is_none_is_named(cli: Run, home: object, store: str) -> None:
    ran = cli("mock-cloud", "azure", "--store", store)
    assert ran.exit_code == 4 and "must be http://host[:port]" in ran.stderr
