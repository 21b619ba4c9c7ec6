"""Every complaint on the list is answered by a test that carries its number, or it is said why none can be."""

from __future__ import annotations

from tests import promises


def test_every_promise_is_shown_by_a_test_and_no_test_carries_another_number() -> None:
    carried = promises.carried()
    assert carried.keys() == promises.PROMISES.keys(), carried.keys() ^ promises.PROMISES.keys()


def test_what_is_not_done_yet_is_not_promised() -> None:
    assert not promises.NOT_YET.keys() & promises.PROMISES.keys()


def test_no_number_stands_where_nobody_looks_for_it() -> None:
    """In helpers, comments and benchmarks, too, only what is on the list is named."""
    folders = (promises.TESTS, promises.TESTS.parent / "benchmarks")
    named = {number for folder in folders for path in folder.rglob("*.py")
             for number in promises.NUMBER.findall(path.read_text())}  # fmt: skip
    assert named <= promises.PROMISES.keys() | promises.NOT_YET.keys(), named
