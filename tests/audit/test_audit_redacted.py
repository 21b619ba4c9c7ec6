"""An export that hides bodies: nothing is called broken that a hidden body may explain, and what is seen is judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from orchestrator.cli.audit import StoredDocuments, app
from orchestrator.core.audit import export as exports
from orchestrator.core.audit.export import EventLine, Export
from orchestrator.core.audit.redact import ButJobs, Disclosure, ForProvider
from orchestrator.core.audit.verify import verify
from tests.audit import told
from tests.audit.forged import again, at_other_time, edited, export_of, without
from tests.audit.test_verify import as_file
from tests.audit.told import STORIES

DOCUMENTS = StoredDocuments()
EVERY = pytest.mark.parametrize("story", [*STORIES, told.behind], ids=lambda story: story.__name__)


def shown(export: Export, disclosed: Disclosure) -> Export:
    """The part of an export that somebody may see, as `audit export` writes it."""
    events: list[EventLine] = []
    cited: set[str] = set()
    for line in export.events:
        fields = json.loads(line.body or "")
        seen = disclosed.shows(line.job, fields)
        events.append(line if seen else replace(line, body=None, salt=""))
        cited |= set(exports._cited(fields)) if seen and line.job else set()
    specs = {digest: data for digest, data in export.specs.items() if digest in cited}
    return replace(export, events=tuple(events), specs=specs, rows=(), counters={})


def names(export: Export) -> list[str]:
    """Whom something was offered."""
    opened = (json.loads(line.body or "") for line in export.events if line.kind == "OfferOpened")
    return sorted({str(body["provider"]) for body in opened})


def violated(export: Export) -> set[int]:
    return {v.number for v in verify(export, DOCUMENTS).verdicts if v.violations}


@EVERY
def test_what_one_provider_is_shown_of_an_honest_ledger_has_no_violations(story: Callable[..., object]) -> None:
    whole = export_of(story)
    for name in names(whole):
        report = verify(shown(whole, ForProvider(name)), DOCUMENTS)
        assert report.findings == () and report.hidden > 0


@EVERY
def test_nor_has_one_without_any_one_of_its_jobs(story: Callable[..., object]) -> None:
    whole = export_of(story)
    for job in sorted({line.job for line in whole.events if line.job}):
        assert verify(shown(whole, ButJobs([job])), DOCUMENTS).findings == ()


VISIBLE: list[tuple[int, str, str, Callable[[], Export]]] = [
    (2, "azure", "silence too early", lambda: at_other_time(export_of(told.silence), "OfferLapsed", -2)),
    (2, "azure", "undeliverable too early", lambda: at_other_time(export_of(told.away), "OfferLapsed", -2)),
    (4, "azure", "a second answer", lambda: again(export_of(told.lost), "OfferAnswered")),
    (5, "oracle", "other terms", lambda: edited(export_of(told.priced), "OfferAnswered", 1, terms="0" * 64)),
    (5, "oracle", "too many workers", lambda: edited(export_of(told.elastic), "OfferAnswered", 1, workers=5)),
    (6, "oracle", "a yes after the window", lambda: at_other_time(
        edited(export_of(told.priced), "OfferAnswered", 1, provider_at=None), "OfferAnswered", 3600, 1)),
    (20, "azure", "a version that was not in force", lambda: edited(export_of(told.lost), "OfferOpened", contract=7)),
    (39, "azure", "another receipt", lambda: edited(export_of(told.lost), "OfferDelivered", echo=[2, "0" * 64])),
    (39, "azure", "an ordinal is missing", lambda: edited(export_of(told.lost), "OfferOpened", ordinal=3)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "to", "forge"), [(n, to, f) for n, to, _, f in VISIBLE], ids=[v[2] for v in VISIBLE]
)
def test_a_violation_in_what_a_provider_is_shown_is_found(number: int, to: str, forge: Callable[[], Export]) -> None:
    assert number in violated(shown(forge(), ForProvider(to)))


def test_a_chain_that_is_broken_is_found_whatever_is_hidden() -> None:
    honest = shown(export_of(told.lost), ForProvider("azure"))
    assert 17 in violated(replace(honest, events=(*honest.events[:3], *honest.events[4:])))


def test_terms_that_were_shown_and_are_gone_are_found() -> None:
    assert 5 in violated(replace(shown(export_of(told.priced), ForProvider("oracle")), specs={}))


def test_what_another_job_breaks_of_itself_is_found() -> None:
    """Of two jobs the first is hidden, and the second's last offer was never opened, or never accepted."""
    whole = export_of(told.strangers)
    first = next(line.job for line in whole.events if line.job)
    last = sum(line.kind == "Intended" for line in whole.events) - 1
    assert not violated(shown(whole, ButJobs([first])))
    assert {4, 18} & violated(shown(again(whole, "Ended", last), ButJobs([first])))
    assert 5 in violated(shown(edited(whole, "Intended", last, provider="zeus"), ButJobs([first])))
    assert 12 in violated(shown(without(whole, "Intended", last), ButJobs([first])))


def test_what_is_hidden_is_told_apart_and_is_no_failure(tmp_path: Path) -> None:
    file = tmp_path / "shown.jsonl"
    file.write_bytes(as_file(shown(export_of(told.lost), ForProvider("azure"))))
    said = CliRunner().invoke(app, ["verify", str(file)])
    assert said.exit_code == 0 and ", 0 violations, " in said.output and " not judged: hidden" in said.output
    assert "not judged, because what they hang on is hidden: 1 (" in said.output
    plain = json.loads(CliRunner().invoke(app, ["verify", str(file), "--json"]).output)
    assert {one["sentence"]: one["hidden"] for one in plain["sentences"]}[35] == 1, "rows are not shown"
    assert plain["violations"] == 0 < plain["hidden"] == sum(one["hidden"] for one in plain["sentences"])


def test_a_violation_in_the_shown_part_fails_the_command(tmp_path: Path) -> None:
    file = tmp_path / "forged.jsonl"
    file.write_bytes(as_file(shown(VISIBLE[0][3](), ForProvider("azure"))))
    said = CliRunner().invoke(app, ["verify", str(file)])
    assert said.exit_code == 1 and "sentence 2 " in said.output
