"""The kit passes the provider that keeps its promises, and names exactly the promise that a wrong one breaks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from orchestrator.model import offer
from orchestrator.ports import provider as port
from orchestrator.testing.broken import BROKEN
from orchestrator.testing.kit import PROMISES, Verdict, check_provider
from orchestrator.testing.kit.__main__ import main
from orchestrator.testing.kit.example import scripted
from orchestrator.testing.kit.table import NOT_JUDGED, rows
from orchestrator.testing.scripted import ScriptedProvider

CASES = [pytest.param(name, kind, id=kind.__name__) for name, kinds in BROKEN.items() for kind in kinds]


@pytest.mark.looptime
async def test_a_scripted_provider_keeps_every_promise() -> None:
    report = await check_provider(scripted, seed=1)
    assert report.names(Verdict.KEPT) == tuple(p.name for p in PROMISES), str(report)


@pytest.mark.looptime
@pytest.mark.parametrize(("name", "kind"), CASES)
async def test_a_wrong_provider_is_named_by_what_it_breaks(name: str, kind: type[ScriptedProvider]) -> None:
    report = await check_provider(partial(scripted, kind), seed=1)
    assert report.broken == (name,), str(report)


@pytest.mark.looptime
async def test_without_levers_a_promise_is_not_judged() -> None:
    report = await check_provider(lambda: scripted().provider, only=["foreign_untouched"], seed=1)
    assert report.names(Verdict.NOT_JUDGED) == ("foreign_untouched",) and "Subject.foreign" in str(report)


def test_every_promise_has_a_sentence_and_its_own_name() -> None:
    assert all(p.sentence.endswith(".") for p in PROMISES)
    assert len({p.name for p in PROMISES}) == len(PROMISES)


def test_every_promise_is_broken_by_a_wrong_provider_of_its_own() -> None:
    assert set(BROKEN) == {p.name for p in PROMISES} and all(BROKEN.values())
    assert len({kind for kinds in BROKEN.values() for kind in kinds}) >= 40


def said_in(owner: type, name: str = "") -> bool:
    """Whether the port has this class, and in it this member."""
    return bool(owner.__doc__) and (not name or name in dir(owner) or name in getattr(owner, "__struct_fields__", ()))


def test_every_promise_says_where_it_is_written() -> None:
    places = vars(offer) | vars(port)
    for promise in PROMISES:
        owner, _, member = promise.where.partition(".")
        assert said_in(places[owner], member), promise


def test_every_verb_error_and_capability_of_the_port_is_judged() -> None:
    verbs = {f"Provider.{name}" for name in vars(port.Provider) if not name.startswith("_") and name != "name"}
    errors = {kind.__name__ for kind in port.ProviderError.__subclasses__() if kind.__module__ == port.__name__}
    said = {f"Capabilities.{name}" for name in offer.Capabilities.__struct_fields__}
    assert verbs | errors | said <= {p.where for p in PROMISES} | set(NOT_JUDGED)
    assert not set(NOT_JUDGED) & {p.where for p in PROMISES} and set(NOT_JUDGED) <= said


def test_the_page_of_the_kit_holds_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "provider-kit.md").read_text().splitlines()
    assert [line for line in page if line.startswith("|")] == list(rows()), "python -m orchestrator.testing.kit --table"
    assert all(name in "\n".join(page) for name in NOT_JUDGED)


def test_the_shell_lists_the_promises_and_refuses_what_it_cannot_import(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and main(["nowhere:nothing"]) == 2
    assert "write module:factory" in capsys.readouterr().err
