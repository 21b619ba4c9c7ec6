"""`orchestrator audit` as a person or CI runs it, over a ledger file that a server wrote."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.audit import app
from orchestrator.core.audit.export import Export, assemble, parse
from orchestrator.verify import Verifier
from tests.audit import told
from tests.audit.forged import edited, export_of, place
from tests.audit.ledgers import written
from tests.audit.test_verify import as_file

RUN = CliRunner()


@pytest.fixture
def story() -> Export:
    """The story of a lost job; told on a loop of its own, so before the test's."""
    return export_of(told.lost)


@pytest.fixture
async def ledger(tmp_path: Path, story: Export) -> Path:
    """The story, written to a file by another ledger."""
    return await written(tmp_path / "l.db", story)


@pytest.fixture
def exported(ledger: Path) -> Path:
    out = ledger.with_suffix(".jsonl")
    assert RUN.invoke(app, ["export", "--ledger", str(ledger), "--out", str(out)]).exit_code == 0
    return out


def test_an_honest_ledger_passes(exported: Path) -> None:
    told_us = RUN.invoke(app, ["verify", str(exported)])
    assert told_us.exit_code == 0
    lines = told_us.output.splitlines()
    (wanting,) = [line for line in lines if line.startswith("not judged, for want of anything to judge: 2, 14, 15")]
    nothing = f"{wanting.count(',')} sentences had nothing to judge (--require-judged: an error)"
    assert lines[-1] == f"audit: 27 events, 0 violations, {nothing}"


def test_parsed_again_it_is_the_same_export(exported: Path, story: Export) -> None:
    assert parse(exported.read_bytes().splitlines()) == story


def test_the_ledger_of_the_home_folder_is_exported_unless_another_is_named(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(ledger.parent))
    assert "There is no ledger at" in RUN.invoke(app, ["export"]).output
    ledger.rename(ledger.with_name("ledger.db"))
    assert RUN.invoke(app, ["export"]).exit_code == 0


def test_an_export_that_cannot_be_written_is_named(ledger: Path) -> None:
    told_us = RUN.invoke(app, ["export", "--ledger", str(ledger), "--out", "/nowhere/out.jsonl"])
    assert told_us.exit_code == 2 and "/nowhere/out.jsonl cannot be written" in told_us.output


def test_sentences_that_were_not_judged_fail_on_demand(exported: Path) -> None:
    told_us = RUN.invoke(app, ["verify", str(exported)])
    assert "sentences had nothing to judge (--require-judged: an error)" in told_us.output.splitlines()[-1]
    assert RUN.invoke(app, ["verify", str(exported), "--require-judged"]).exit_code == 1


def test_a_forged_byte_fails_and_says_where(exported: Path) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    lines[6] = lines[6].replace(b"azure", b"ozure")
    exported.write_bytes(b"".join(lines))
    told_us = RUN.invoke(app, ["verify", str(exported), "--json"])
    finding = next(f for f in json.loads(told_us.output)["findings"] if f["sentence"] == 17)
    assert (told_us.exit_code, finding["seq"]) == (1, 6)


@pytest.mark.parametrize("keep", [0, 5, -1])
def test_a_cut_file_is_refused(exported: Path, keep: int) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    exported.write_bytes(b"".join(lines[:keep]))
    told_us = RUN.invoke(app, ["verify", str(exported)])
    assert told_us.exit_code == 2 and "export" in told_us.output


def test_who_gives_a_ledger_to_verify_is_told_how_it_is_exported(ledger: Path) -> None:
    told_us = RUN.invoke(app, ["verify", str(ledger)])
    assert told_us.exit_code == 2 and f"`orchestrator audit export --ledger {ledger} -o FILE`" in told_us.output


def test_there_must_be_a_ledger(tmp_path: Path) -> None:
    told_us = RUN.invoke(app, ["export", "--ledger", str(tmp_path / "none.db")])
    assert told_us.exit_code == 2 and "no ledger at" in told_us.output


def test_standard_output_holds_the_same_lines(ledger: Path, exported: Path) -> None:
    assert RUN.invoke(app, ["export", "--ledger", str(ledger)]).stdout_bytes == exported.read_bytes()


def test_what_is_exported_for_one_provider_verifies_and_hides_the_others(ledger: Path) -> None:
    shown = RUN.invoke(app, ["export", "--ledger", str(ledger), "--for", "azure"]).stdout_bytes
    v = Verifier()
    v.read(shown)
    v.judge_events()
    assert v.findings == [] and len(v.hidden) > 0 and b"coreweave" not in shown.replace(b'"skipped"', b"")
    both = RUN.invoke(app, ["export", "--ledger", str(ledger), "--for", "azure", "--redact", "x"])
    assert both.exit_code == 2


def test_an_export_for_a_provider_that_nobody_knows_is_refused_with_those_that_there_are(
    ledger: Path, tmp_path: Path
) -> None:
    told_us = RUN.invoke(app, ["export", "--ledger", str(ledger), "--for", "azzure", "-o", str(tmp_path / "e")])
    assert told_us.exit_code == 2 and "azure, coreweave" in told_us.output and not (tmp_path / "e").exists()


def test_forgeries_are_listed(exported: Path) -> None:
    table = json.loads(RUN.invoke(app, ["mutate", str(exported), "--json"]).output)
    assert {"kind": "Intended", "forgery": "delete", "tried": 2, "detected": 2, "by": [12, 36]} in table
    assert "Intended          delete     12, 36" in RUN.invoke(app, ["mutate", str(exported)]).output


def test_the_chain_verifies_with_the_standard_library_alone(exported: Path) -> None:
    def lp(text: str) -> bytes:
        return struct.pack(">H", len(text.encode())) + text.encode()

    lines = [json.loads(line) for line in exported.read_bytes().splitlines()]
    chain = hashlib.sha256(b"orchestrator.dev/ledger/v1" + bytes.fromhex(lines[0]["ledger"])).digest()
    for e in (line for line in lines if line["line"] == "event"):
        hashed = hashlib.sha256(bytes.fromhex(e["salt"]) + e["body"].encode()).digest()
        names = lp(e["kind"]) + lp(e["project"]) + lp(e["job"])
        chain = hashlib.sha256(chain + struct.pack(">QQ", e["seq"], e["at"]) + names + hashed).digest()
    assert chain.hex() == lines[-1]["head"]


def test_lines_read_back_are_the_lines_written(exported: Path) -> None:
    story, read = export_of(told.lost), parse(exported.read_bytes().splitlines())
    assert [(e.at, e.kind, e.job, e.body) for e in read.events] == [(e.at, e.kind, e.job, e.body) for e in story.events]
    assert (read.rows, read.specs, read.counters) == (story.rows, story.specs, story.counters)
    with pytest.raises(ValueError, match="header"):
        assemble([])


def test_why_a_clause_was_passed_over_is_told_in_one_line_that_moves_no_terminal(tmp_path: Path) -> None:
    """Whoever overrides it writes that, and the audit of others repeats it."""
    honest = export_of(told.overridden)
    said = json.loads(honest.events[place(honest, "Recorded")].body or "")["record"]
    words = "\x1b[2Jnothing\naudit: 1 events, 0 violations"
    forged = edited(honest, "Recorded", record={**said, "why": words})
    (out := tmp_path / "l.jsonl").write_bytes(as_file(forged))
    shown = RUN.invoke(app, ["verify", str(out)]).output
    assert r"approved by Ann: \x1b[2Jnothing\naudit: 1 events, 0 violations" in shown
    assert shown.replace("\n", "").isprintable()
