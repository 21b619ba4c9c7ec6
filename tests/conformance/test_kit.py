"""The kit passes the provider that keeps its promises, and names exactly the promise that a wrong one breaks."""

from __future__ import annotations

from functools import partial

import pytest

from orchestrator.testing.broken import BROKEN
from orchestrator.testing.kit import PROMISES, Verdict, check_provider
from orchestrator.testing.kit.__main__ import main
from orchestrator.testing.kit.example import scripted
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


def test_the_shell_lists_the_promises_and_refuses_what_it_cannot_import(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and main(["nowhere:nothing"]) == 2
    assert "write module:factory" in capsys.readouterr().err
